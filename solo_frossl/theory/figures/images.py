"""Real images for the figures, as rows of numbers."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from solo_frossl.data import ImageFolder
from solo_frossl.data.sources import Unreadable, resize_and_crop
from solo_frossl.seeding import generator

SIDE = 16
"""Pixels of a side that images of a folder are brought to."""


@dataclass(frozen=True)
class Images:
    """Images and their classes.

    Attributes:
        x: ``(N, D)`` float64, centred, the largest eigenvalue of their covariance 1.
        label: ``(N,)`` int64; -1 is unlabelled.
        name: what they are, in words.
    """

    x: Tensor
    label: Tensor
    name: str


def read_images(data: Path | None, count: int, seed: int) -> Images:
    """Images drawn without replacement, all classes together.

    Args:
        data: folder of images, as ``dataset: folder`` takes it; None: scikit-learn's digits, 8 x 8 grey.
        count: N.
        seed: of the draw.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it has fewer images, or one that cannot be read.
    """
    if data is None:
        digits = load_digits()
        x, label, name = torch.as_tensor(digits.data), torch.as_tensor(digits.target), "digits, 8 x 8"
    else:
        if not data.is_dir():
            raise FileNotFoundError(f"no folder {data.absolute()}: give a folder of images with --data")
        folder = ImageFolder(root=str(data))
        source, _ = folder.sources()
        x, label, name = torch.arange(len(source)), source.labels, f"{data.name}, {SIDE} x {SIDE}"
    if len(x) < count:
        raise ValueError(f"{name} has {len(x)} images, and {count} are needed")
    chosen = torch.randperm(len(x), generator=generator(seed, "theory"))[:count]
    if data is not None:
        pixels = [source.read(int(position)) for position in chosen]
        if unreadable := [image for image in pixels if isinstance(image, Unreadable)]:
            raise ValueError(str(unreadable[0]))
        x = torch.stack([resize_and_crop(image, SIDE, SIDE).flatten() for image in pixels])
    else:
        x = x[chosen]
    return Images(normalised(x.double()), label[chosen].long(), name)


def normalised(x: Tensor) -> Tensor:
    """Rows ``(N, D)`` centred and scaled so that the largest eigenvalue of X^T X / N is 1.

    Raises:
        ValueError: all rows are the same.
    """
    x = x - x.mean(0)
    largest = float(torch.linalg.matrix_norm(x, 2)) / np.sqrt(len(x))
    if largest == 0:
        raise ValueError("all images are the same: their covariance is 0")
    return x / largest

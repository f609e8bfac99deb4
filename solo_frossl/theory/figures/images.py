"""Real images for the figures, as rows of numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from solo_frossl.seeding import generator

if TYPE_CHECKING:
    from solo_frossl.data.sources import FileSource

SIDE = 16
"""Pixels of a side that images of a folder are brought to."""
DIGITS = (3, 8)
"""The two classes of digits that are told apart."""
GREY_SIDE = 8
"""Pixels of a side where two classes are told apart, as the digits have."""


@dataclass(frozen=True)
class Images:
    """Images and their classes.

    Attributes:
        x: ``(N, D)`` float64, as the function that read them says.
        label: ``(N,)`` int64; -1 is unlabelled.
        name: what they are, in words.
        classes: names of the classes, if they are told apart.
    """

    x: Tensor
    label: Tensor
    name: str
    classes: tuple[str, ...] = ()


def read_images(data: Path | None, seed: int, *, count: int) -> Images:
    """Images drawn without replacement, whatever their classes; x is centred, its covariance's largest eigenvalue 1.

    Args:
        data: folder of images, as ``dataset: folder`` takes it, with class folders or without; None: scikit-learn's
            digits, 8 x 8 grey. Images of a folder become 16 x 16 in colour.
        seed: of the draw.
        count: N.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it has fewer images, or one that cannot be read.
    """
    random = generator(seed, "theory")
    if data is None:
        digits = load_digits()
        chosen = _draw(len(digits.data), count, "scikit-learn's digits", random)
        x, label = torch.as_tensor(digits.data)[chosen], torch.as_tensor(digits.target)[chosen]
        return Images(normalised(x.double()), label.long(), "digits, 8 x 8")
    source = _source(data)
    chosen = _draw(len(source), count, str(data), random)
    x = _pixels(source, chosen, SIDE)
    return Images(normalised(x.flatten(1)), torch.full((count,), -1), f"{data.name}, {SIDE} x {SIDE}")


def read_two_classes(data: Path | None, seed: int, *, most: int, least: int) -> Images:
    """Images of two classes to be told apart; x is 8 x 8 grey, from 0 to 1, and labels are 0 and 1.

    Args:
        data: folder with class folders, of which the two with the most images are taken, the first by name where
            several have as many; None: scikit-learn's digits 3 and 8.
        seed: of the draw.
        most: images of a class.
        least: images that both classes must have.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: there are no two classes of so many images, or an image cannot be read.
    """
    if data is None:
        return Images(*two_digits(most=most), "digits, 8 x 8", tuple(map(str, DIGITS)))
    source, members = _source(data), {}
    for position in range(len(source)):
        parts = Path(source.path(position)).relative_to(source.folder).parts
        if len(parts) > 1:
            members.setdefault(parts[0], []).append(position)
    largest = sorted(sorted(members), key=lambda name: -len(members[name]))[:2]
    if len(largest) < 2 or len(members[largest[1]]) < least:
        found = ", ".join(f"{name} ({len(members[name])})" for name in largest) or "none"
        raise ValueError(
            f"two classes are to be told apart, with {least} images or more each, and the largest class folders in"
            f" {source.folder} are: {found}; give a folder like cat/1.png, dog/2.png with --data"
        )
    random, classes = generator(seed, "theory"), sorted(largest)
    chosen = [
        torch.tensor(members[name])[torch.randperm(len(members[name]), generator=random)[:most]] for name in classes
    ]
    pixels = _pixels(source, torch.cat(chosen), GREY_SIDE) / 255
    grey = (pixels * torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)[:, None, None]).sum(1).flatten(1)
    if bool((grey == grey[0]).all()):
        raise ValueError(f"all images in {data} are the same: there is nothing to learn")
    return Images(grey, _labels(chosen), f"{data.name}, {GREY_SIDE} x {GREY_SIDE} grey", tuple(classes))


def two_digits(classes: tuple[int, int] = DIGITS, *, most: int = 200) -> tuple[Tensor, Tensor]:
    """Images of two of scikit-learn's digits; there are about 180 of each.

    Args:
        classes: which two.
        most: images of a class.

    Returns:
        Images ``(N, 64)`` float64 in [0, 1] and labels ``(N,)``, 0 and 1.

    Raises:
        ValueError: these are not two different digits.
    """
    digits = load_digits()
    chosen = [torch.from_numpy(digits.data[digits.target == c][:most] / 16) for c in classes]
    if len(set(classes)) != 2 or not all(map(len, chosen)):
        raise ValueError(f"classes are {classes}: name two different digits")
    return torch.cat(chosen), _labels(chosen)


def _labels(classes: Sequence[Tensor]) -> Tensor:
    """``(N,)`` 0 for what is of the first class, 1 for what is of the second."""
    return torch.repeat_interleave(torch.arange(2), torch.tensor([len(c) for c in classes]))


def _source(data: Path) -> "FileSource":
    """The training images, with class folders or without."""
    from solo_frossl.data import ImageFolder  # with it comes torchvision, which takes seconds

    if not data.is_dir():
        raise FileNotFoundError(f"no folder {data.absolute()}: give a folder of images with --data")
    train = "train" if (data / "train").is_dir() else "."
    return ImageFolder(root=str(data), train=train, val=train, labels=False).sources()[0]


def _draw(there: int, count: int, name: str, random: torch.Generator) -> Tensor:
    if there < count:
        raise ValueError(f"{name} has {there} images, and {count} are needed: give a larger folder with --data")
    return torch.randperm(there, generator=random)[:count]


def _pixels(source: "FileSource", positions: Tensor, side: int) -> Tensor:
    """``(N, 3, side, side)`` float64 from 0 to 255."""
    from solo_frossl.data.sources import Unreadable, resize_and_crop

    images = [source.read(position) for position in positions.tolist()]
    if unreadable := [image for image in images if isinstance(image, Unreadable)]:
        raise ValueError(f"cannot read {unreadable[0]}: replace or remove this file")
    return torch.stack([resize_and_crop(image, side, side) for image in images]).double()


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

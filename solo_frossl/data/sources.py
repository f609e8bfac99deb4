"""Where images come from: arrays in memory or files. A sample is a ``(C, H, W)`` uint8 tensor and a label."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

PROBED_FILES = 64
"""Headers that are read, evenly spread over a folder, to tell whether its images have one size."""


def resize_and_crop(images: Tensor, shorter: int, size: int) -> Tensor:
    """Resize the shorter side (bicubic, antialiased) and keep the centre square.

    Args:
        images: ``(..., C, H, W)`` uint8.
        shorter: pixels of the shorter side after resizing, at least ``size``.
        size: side of the square that is kept, in pixels.

    Returns:
        ``(..., C, size, size)`` uint8; the input itself when there is nothing to do.
    """
    height, width = images.shape[-2:]
    if min(height, width) != shorter:
        images = F.resize(images, [shorter], interpolation=InterpolationMode.BICUBIC, antialias=True)
    return images if images.shape[-2:] == (size, size) else F.center_crop(images, [size, size])


def read_image(path: str | Path) -> Tensor:
    """Decode one file to ``(3, H, W)`` uint8.

    Grey, palette and CMYK images become RGB, an alpha channel is dropped, 16-bit grey is divided by 256. Orientation
    tags are not applied, as is usual for this kind of data.

    Raises:
        Exception: whatever the decoder raises on a damaged or truncated file.
    """
    with Image.open(path) as image:
        if image.mode == "I" or image.mode.startswith("I;16"):
            grey = np.asarray(image).astype(np.int32) >> 8
            image = Image.fromarray(grey.clip(0, 255).astype(np.uint8))
        elif image.mode == "P" and "transparency" in image.info:
            image = image.convert("RGBA")
        pixels = np.array(image.convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1)


@dataclass(frozen=True)
class Unreadable:
    """An image file that could not be decoded, and why."""

    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path} ({self.reason})"


class ArraySource:
    """Images that are in memory.

    Args:
        images: ``(N, C, H, W)`` uint8.
        labels: ``(N,)`` int64; -1 means unlabelled.
        resize: pixels to which the shorter side is brought before the centre square is kept; None: as they are.
    """

    def __init__(self, images: Tensor, labels: Tensor, resize: int | None = None) -> None:
        if resize is not None:
            images = torch.cat([resize_and_crop(chunk, resize, resize) for chunk in images.split(1024)])
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, positions: Tensor) -> Self:
        """The images at ``positions``, a ``(M,)`` int64 tensor, in that order."""
        return type(self)(self.images[positions], self.labels[positions])

    def read(self, position: int) -> Tensor:
        """Image ``(C, H, W)`` uint8 at a position."""
        return self.images[position]

    def shape(self) -> tuple[int, int, int]:
        """The ``(C, H, W)`` of every image."""
        return tuple(self.images.shape[1:])


class FileSource:
    """Image files, decoded to RGB each time they are read.

    Args:
        folder: folder that the names are relative to.
        names: the files.
        labels: ``(N,)`` int64; -1 means unlabelled.
        resize: pixels to which the shorter side is brought before the centre square is kept; None: as they are.
    """

    def __init__(self, folder: Path, names: Sequence[str], labels: Tensor, resize: int | None = None) -> None:
        self.folder, self.labels, self.resize = folder, labels, resize
        # One flat array of bytes: a million Python strings would be copied into every worker as it touches them.
        self._names = np.array([os.fsencode(name) for name in names])

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, positions: Tensor) -> Self:
        """The images at ``positions``, a ``(M,)`` int64 tensor, in that order."""
        names = [os.fsdecode(name) for name in self._names[positions.numpy()]]
        return type(self)(self.folder, names, self.labels[positions], self.resize)

    def names(self) -> list[str]:
        """The files, relative to the folder."""
        return [os.fsdecode(name) for name in self._names]

    def path(self, position: int) -> str:
        """The file at a position."""
        return str(self.folder / os.fsdecode(self._names[position]))

    def read(self, position: int) -> Tensor | Unreadable:
        """Image ``(3, H, W)`` uint8 at a position, or what is wrong with its file."""
        path = self.path(position)
        try:
            image = read_image(path)
        except MemoryError:
            raise
        except Exception as error:  # decoders raise all sorts of things on damaged bytes
            return Unreadable(path, str(error) or type(error).__name__)
        return image if self.resize is None else resize_and_crop(image, self.resize, self.resize)

    def sizes(self) -> dict[tuple[int, int], str]:
        """The sizes ``(H, W)`` found in the headers of up to ``PROBED_FILES`` files, each with one file that has it."""
        found: dict[tuple[int, int], str] = {}
        for position in np.unique(np.linspace(0, len(self) - 1, PROBED_FILES, dtype=int)):
            path = self.path(position)
            try:
                with Image.open(path) as image:
                    found.setdefault((image.height, image.width), path)
            except Exception:  # reading it will say what is wrong
                continue
        return found

    def shape(self) -> tuple[int, int, int] | None:
        """The ``(C, H, W)`` of every image as far as the probed headers tell; None when they differ."""
        if self.resize is not None:
            return 3, self.resize, self.resize
        sizes = self.sizes()
        return (3, *next(iter(sizes))) if len(sizes) == 1 else None


Source = ArraySource | FileSource

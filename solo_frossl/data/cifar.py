"""CIFAR-10 and CIFAR-100, read and checked by torchvision."""

from typing import ClassVar

import torch
from torchvision.datasets import CIFAR10 as CIFAR10Files
from torchvision.datasets import CIFAR100 as CIFAR100Files

from solo_frossl.data.module import ImageDataModule
from solo_frossl.data.sources import ArraySource
from solo_frossl.data.torchvision_files import download_files, read_files


class CIFAR10(ImageDataModule):
    """CIFAR-10: 50,000 training and 10,000 test images of 10 classes, 32x32 pixels; validates on the test images.

    Args:
        download: fetch the files (170 MB) into ``root`` when they are missing or damaged.
    """

    num_classes = 10
    native_size: ClassVar[int] = 32
    native_mean: ClassVar[tuple[float, ...]] = (0.4914, 0.4822, 0.4465)
    native_std: ClassVar[tuple[float, ...]] = (0.2470, 0.2435, 0.2616)
    files: ClassVar[type[CIFAR10Files]] = CIFAR10Files
    """torchvision's class that reads the files."""

    def __init__(self, *, download: bool = False, **kwargs) -> None:
        super().__init__(**kwargs)
        self.download = download

    def prepare_data(self) -> None:
        """Download when asked to; the Trainer calls this in one process only."""
        if self.download:
            download_files(self.files, self.root)

    def sources(self) -> tuple[ArraySource, ArraySource]:
        """Training and test images."""
        train, test = (read_files(self.files, self.root, train=train) for train in (True, False))
        self.class_names = tuple(train.classes)
        return self._source(train), self._source(test)

    def _source(self, part: CIFAR10Files) -> ArraySource:
        images = torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous()
        return ArraySource(images, torch.tensor(part.targets, dtype=torch.int64), self.resize)


class CIFAR100(CIFAR10):
    """CIFAR-100: 50,000 training and 10,000 test images of 100 classes, 32x32 pixels; validates on the test images.

    Args:
        download: fetch the files (169 MB) into ``root`` when they are missing or damaged.
    """

    num_classes = 100
    native_mean: ClassVar[tuple[float, ...]] = (0.5071, 0.4865, 0.4409)
    native_std: ClassVar[tuple[float, ...]] = (0.2673, 0.2564, 0.2762)
    files: ClassVar[type[CIFAR100Files]] = CIFAR100Files

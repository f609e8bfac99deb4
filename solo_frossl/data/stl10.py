"""STL-10, read and checked by torchvision."""

from typing import ClassVar

import torch
from torchvision.datasets import STL10 as STL10Files

from solo_frossl.data.module import ImageDataModule
from solo_frossl.data.sources import ArraySource
from solo_frossl.data.torchvision_files import download_files, read_files


class STL10(ImageDataModule):
    """STL-10: 96x96 pixels, 10 classes, trained on 5,000 labelled and 100,000 unlabelled images; validates on 8,000.

    The label of an unlabelled image is -1, which the online classifier ignores; k-NN and linear probe use the 5,000.

    Args:
        download: fetch the files (2.6 GB) into ``root`` when they are missing.
    """

    num_classes = 10
    native_size: ClassVar[int] = 96
    native_mean: ClassVar[tuple[float, ...]] = (0.4467, 0.4398, 0.4066)
    native_std: ClassVar[tuple[float, ...]] = (0.2603, 0.2566, 0.2713)

    def __init__(self, *, download: bool = False, **kwargs) -> None:
        super().__init__(**kwargs)
        self.download = download

    def prepare_data(self) -> None:
        """Download when asked to; the Trainer calls this in one process only."""
        if self.download:
            download_files(STL10Files, self.root)

    def sources(self) -> tuple[ArraySource, ArraySource]:
        """Training (labelled, then unlabelled) and test images."""
        train, test = (read_files(STL10Files, self.root, split=split) for split in ("train+unlabeled", "test"))
        self.class_names = tuple(train.classes)
        return self._source(train), self._source(test)

    def _source(self, part: STL10Files) -> ArraySource:
        labels = torch.from_numpy(part.labels.astype("int64"))
        return ArraySource(torch.from_numpy(part.data).contiguous(), labels, self.resize)

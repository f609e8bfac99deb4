"""The 1,797 handwritten digits that come with scikit-learn."""

from typing import ClassVar

import torch
from sklearn.datasets import load_digits

from solo_frossl.data.module import ImageDataModule
from solo_frossl.data.sources import ArraySource
from solo_frossl.data.splits import stratified_sample
from solo_frossl.seeding import generator


class Digits(ImageDataModule):
    """scikit-learn's 1,797 handwritten digits, 8x8 pixels, one channel; needs no download.

    Grey values 0 to 16 become 0 to 255. A fifth of the images, chosen by the seed with every class keeping its share,
    is held out for validation. Mean and standard deviation are those of the training images.
    """

    num_classes = 10
    channels = 1
    native_size: ClassVar[int] = 8

    def sources(self) -> tuple[ArraySource, ArraySource]:
        """Training and validation images."""
        digits = load_digits()
        self.class_names = tuple(str(name) for name in digits.target_names)
        images = torch.from_numpy(digits.images * (255 / 16)).round().to(torch.uint8).unsqueeze(1)
        labels = torch.from_numpy(digits.target).long()
        held_out = torch.zeros(len(labels), dtype=torch.bool)
        held_out[stratified_sample(labels, round(len(labels) / 5), generator(self.seed, "split"))] = True
        return (
            ArraySource(images[~held_out], labels[~held_out], self.resize),
            ArraySource(images[held_out], labels[held_out], self.resize),
        )

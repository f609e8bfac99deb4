"""The two tuples that travel through the package: what a loader yields and what a method sees."""

from typing import NamedTuple

from torch import Tensor


class Batch(NamedTuple):
    """What a loader yields: this process's part of one global batch.

    Attributes:
        image: ``(B, C, H, W)`` uint8, or a list of B ``(C, H_i, W_i)`` uint8 tensors when a streamed dataset keeps
            images of different sizes.
        label: ``(B,)`` int64; -1 means unlabelled.
        index: ``(B,)`` int64, position of each image in its dataset.
        epoch: epoch the batch belongs to, from 0.
        step: number of the batch within its epoch, from 0.
    """

    image: Tensor | list[Tensor]
    label: Tensor
    index: Tensor
    epoch: int
    step: int


class Views(NamedTuple):
    """What a method sees while training: the augmented views of one batch.

    Attributes:
        views: V tensors ``(B, C, S_v, S_v)`` float32, normalised; multi-crop views differ in S_v.
        label: ``(B,)`` int64; -1 means unlabelled.
        index: ``(B,)`` int64, position of each image in its dataset.
    """

    views: list[Tensor]
    label: Tensor
    index: Tensor

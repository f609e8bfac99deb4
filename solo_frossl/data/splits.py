"""Seeded, stratified choices among labelled images."""

import torch
from torch import Tensor


def stratified_sample(labels: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Positions of a random part of a dataset in which every class keeps its share.

    The images of each class are put in random order and the p-th of a class of n gets the key (p + 1/2) / n; the
    ``count`` smallest keys are taken. So every class keeps its share to within one image, and with the same generator
    a smaller sample is part of every larger one.

    Args:
        labels: ``(N,)`` int64; -1 (unlabelled) counts as one more class.
        count: how many to take, 0 to N.
        generator: CPU generator that orders the images.

    Returns:
        ``(count,)`` int64, ascending.

    >>> labels = torch.tensor([0] * 8 + [1] * 4)
    >>> labels[stratified_sample(labels, 3, torch.Generator().manual_seed(0))].tolist()
    [0, 0, 1]
    """
    shuffled = torch.randperm(len(labels), generator=generator)
    classes, sizes = labels.unique(return_counts=True)
    key = torch.empty(len(labels), dtype=torch.float64)
    for label, size in zip(classes, sizes.tolist(), strict=True):
        key[labels[shuffled] == label] = (torch.arange(size, dtype=torch.float64) + 0.5) / size
    return shuffled[key.argsort(stable=True)[:count]].sort().values


def subset_count(subset: int | float, total: int) -> int:
    """How many images a subset setting means.

    Args:
        subset: a whole number of images (at least 1), or a fraction between 0 and 1; 1.0 is everything, 1 is one image.
        total: images there are.

    Raises:
        ValueError: neither of the two, more images than there are, or a fraction that leaves none.

    >>> subset_count(0.1, 50), subset_count(7, 50), subset_count(1.0, 50)
    (5, 7, 50)
    """
    if isinstance(subset, float) and 0 < subset <= 1:
        count = round(subset * total)
    elif subset >= 1 and subset == int(subset):
        count = int(subset)
    else:
        raise ValueError(f"data.subset is {subset}: give a number of images (1 or more) or a fraction between 0 and 1")
    if not 1 <= count <= total:
        raise ValueError(f"data.subset is {subset}, which is {count} of {total} training images: take 1 to {total}")
    return count

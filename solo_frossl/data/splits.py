"""Seeded, stratified choices among labelled images, and which of them keep their labels."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

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


def subset_count(subset: int | float, total: int, name: str = "data.subset") -> int:
    """How many images a subset setting means.

    Args:
        subset: a whole number of images (at least 1), or a fraction between 0 and 1; 1.0 is everything, 1 is one image.
        total: images there are.
        name: of the setting, for the error.

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
        raise ValueError(f"{name} is {subset}: give a number of images (1 or more) or a fraction between 0 and 1")
    if not 1 <= count <= total:
        raise ValueError(f"{name} is {subset}, which is {count} of {total} training images: take 1 to {total}")
    return count


def label_fraction(
    labels: Tensor, amount: int | float, generator: torch.Generator, class_names: Sequence[str] = ()
) -> Tensor:
    """The labels with all but a stratified part hidden, for protocols with few labels (1 %, 10 %).

    Every class keeps its share to within one image, and at least one image. With the same generator a smaller part
    lies within every larger one: the 1 % are among the 10 %.

    Args:
        labels: ``(N,)`` int64; -1 means unlabelled and stays so.
        amount: a number of labelled images (1 or more), or the fraction of them that stays, as in
            :func:`subset_count`.
        generator: CPU generator that orders the images.
        class_names: of the classes, for the error.

    Returns:
        ``(N,)`` int64, -1 where the label is hidden.

    Raises:
        ValueError: the amount is out of range, or leaves a class without a label; the message names such classes.

    >>> labels = torch.tensor([0, 1] * 10)
    >>> kept = label_fraction(labels, 0.2, torch.Generator().manual_seed(0))
    >>> kept[kept >= 0].bincount().tolist()
    [2, 2]
    """
    labelled = (labels >= 0).nonzero().flatten()
    count = subset_count(amount, len(labelled), name="labels")
    kept = labelled[stratified_sample(labels[labelled].cpu(), count, generator).to(labels.device)]
    hidden = torch.full_like(labels, -1)
    hidden[kept] = labels[kept]
    _check_every_class_has_one(labels, hidden, f"labels {amount} keeps {count} of {len(labelled)} labels", class_names)
    return hidden


def listed_labels(
    labels: Tensor, files: Sequence[str], list_file: str | Path, class_names: Sequence[str] = ()
) -> Tensor:
    """The labels with all but those of listed image files hidden.

    SimCLR's lists of the labelled ImageNet images, ``1percent.txt`` and ``10percent.txt``, are such files
    (https://github.com/google-research/simclr/tree/master/imagenet_subsets). A list may name images that the dataset
    does not have, as these lists do for ImageNet-100.

    Args:
        labels: ``(N,)`` int64; -1 means unlabelled and stays so.
        files: the N image files, relative to the folder of the classes.
        list_file: text file, an image a line: its file name, or its path as in ``files``.
        class_names: of the classes, for the error.

    Returns:
        ``(N,)`` int64, -1 where the label is hidden.

    Raises:
        FileNotFoundError: there is no such list.
        ValueError: a file name stands for several images, or a class is left without a label.
    """
    list_file = Path(list_file)
    if not list_file.is_file():
        raise FileNotFoundError(
            f"no file {list_file.absolute()}: labels is a number, a fraction, or a text file with the name of a"
            " labelled image on each line"
        )
    paths = [PurePosixPath(Path(file).as_posix()) for file in files]
    count = Counter(path.name for path in paths)
    listed = {line.strip() for line in list_file.read_text(encoding="utf-8").splitlines() if line.strip()}
    if twice := sorted(name for name in listed if count[name] > 1):
        raise ValueError(
            f"{list_file} names {twice[0]}, and {count[twice[0]]} images are called that: write the folder too"
        )
    keep = torch.tensor([str(path) in listed or path.name in listed for path in paths], dtype=torch.bool)
    hidden = labels.masked_fill(~keep.to(labels.device), -1)
    kept = int((hidden >= 0).sum())
    _check_every_class_has_one(labels, hidden, f"{list_file} names {kept} of these {len(labels)} images", class_names)
    return hidden


def _check_every_class_has_one(before: Tensor, after: Tensor, what: str, class_names: Sequence[str]) -> None:
    without = sorted(set(before[before >= 0].tolist()) - set(after[after >= 0].tolist()))
    if without:
        names = [str(class_names[label]) if class_names else str(label) for label in without]
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        raise ValueError(f"{what} and leaves no labelled image of {', '.join(names[:5])}{more}: keep more labels")

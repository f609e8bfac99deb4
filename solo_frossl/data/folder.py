"""Folders of image files, with or without labels."""

import os
import warnings
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import torch

from solo_frossl.data.module import ImageDataModule
from solo_frossl.data.sources import FileSource
from solo_frossl.data.splits import stratified_sample
from solo_frossl.seeding import generator

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".webp")


class ImageFolder(ImageDataModule):
    """Image files, one folder per class: ``train/cat/1.jpg``; without class folders the images are unlabelled.

    Files with the usual extensions (jpg, jpeg, png, bmp, ppm, pgm, tif, tiff, webp) are read, in subfolders too; others
    are ignored and counted in a warning. Every image becomes RGB: grey is replicated, alpha dropped, 16-bit grey
    divided by 256, CMYK converted; orientation tags are not applied. Mean and standard deviation are ImageNet's unless
    given.

    Args:
        train: folder of the training images, relative to root; none given: ``train`` if root has it, else root itself.
        val: folder of the validation images, relative to root; none given: ``val`` or ``test`` if root has a ``train``
            folder and one of these, else a part of the training images.
        validation_fraction: part of the training images that is held out when there is no validation folder, chosen by
            the seed, every class keeping its share.
        labels: whether class folders are labels; false: all images below the folder are unlabelled (label -1).
        class_list: text file with the names of the class folders to take, one a line, in the order of their labels;
            none given: all of them, by name.

    Raises:
        FileNotFoundError: a folder or the class list is missing.
        ValueError: one class only, classes that differ between the training and the validation folder, or a class of
            the list that has no folder.
    """

    native_mean: ClassVar[tuple[float, ...]] = (0.485, 0.456, 0.406)
    native_std: ClassVar[tuple[float, ...]] = (0.229, 0.224, 0.225)

    def __init__(
        self,
        *,
        train: str | None = None,
        val: str | None = None,
        validation_fraction: float = 0.1,
        labels: bool = True,
        class_list: str | None = None,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        if not 0 < validation_fraction < 1:
            raise ValueError(f"data.validation_fraction is {validation_fraction}: it must lie between 0 and 1")
        if class_list is not None and not labels:
            raise ValueError(
                f"data.class_list is {class_list} and data.labels false: without labels there are no classes"
            )
        self.validation_fraction = validation_fraction
        self.train_folder, self.val_folder = _find_folders(Path(self.root), train, val)
        listed = None if class_list is None else _read_class_list(Path(class_list))
        self.class_names = _class_folders(self.train_folder, listed) if labels else ()
        self.num_classes = len(self.class_names)
        if self.num_classes == 1:
            raise ValueError(
                f"only one class folder, {self.class_names[0]!r}, in {self.train_folder}: every accuracy would "
                "be 100 %. To use the images without labels set data.labels to false"
            )
        if self.val_folder is not None and labels:
            val_names = _class_folders(self.val_folder, listed)
            _compare_classes(self.train_folder, self.class_names, self.val_folder, val_names)

    def sources(self) -> tuple[FileSource, FileSource]:
        """Training and validation images."""
        train = self._read_folder(self.train_folder)
        if self.val_folder is not None:
            return train, self._read_folder(self.val_folder)
        count = round(self.validation_fraction * len(train))
        if not 0 < count < len(train):
            raise ValueError(
                f"data.validation_fraction {self.validation_fraction} of the {len(train)} images in "
                f"{self.train_folder} is {count}: at least one must be held out and one be left"
            )
        held_out = torch.zeros(len(train), dtype=torch.bool)
        held_out[stratified_sample(train.labels, count, generator(self.seed, "split"))] = True
        return train.select((~held_out).nonzero().flatten()), train.select(held_out.nonzero().flatten())

    def _read_folder(self, folder: Path) -> FileSource:
        names: list[str] = []
        labels: list[int] = []
        empty: list[str] = []
        ignored = [entry.name for entry in os.scandir(folder) if self.class_names and entry.is_file()]
        for label, below in enumerate(self.class_names) if self.class_names else [(-1, "")]:
            files = sorted(_files_below(folder, below))
            images = [name for name in files if name.lower().endswith(EXTENSIONS)]
            ignored += [name for name in files if not name.lower().endswith(EXTENSIONS)]
            names += images
            labels += [label] * len(images)
            if not images:
                empty.append(str(folder / below))
        if empty:
            raise ValueError(
                f"no images in {names_in_words(empty)}; files that are read end in {' '.join(EXTENSIONS)}"
                + (". Remove empty class folders, or set data.labels to false" if self.class_names else "")
            )
        if ignored:
            where = "are not images or lie outside the class folders" if self.class_names else "are not images"
            warnings.warn(
                f"ignored {len(ignored)} files in {folder} that {where}: {names_in_words(ignored)}", stacklevel=2
            )
        return FileSource(folder, names, torch.tensor(labels, dtype=torch.int64), self.resize)


def _find_folders(root: Path, train: str | None, val: str | None) -> tuple[Path, Path | None]:
    """The training folder and, where there is one, the validation folder."""
    root = root.expanduser().absolute()
    if not root.is_dir():
        raise FileNotFoundError(f"no folder {root}: set data.root to the folder that holds the images")
    for name, folder in {"train": train, "val": val}.items():
        if folder is not None and not (root / folder).is_dir():
            raise FileNotFoundError(f"no folder {root / folder}: data.{name} is relative to data.root")
    train_folder = root / train if train is not None else root / "train"
    if train is None and not train_folder.is_dir():
        train_folder = root
    if val is not None:
        return train_folder, root / val
    usual = [root / name for name in ("val", "test") if train_folder != root and (root / name).is_dir()]
    return train_folder, usual[0] if usual else None


def _class_folders(folder: Path, listed: Sequence[str] | None) -> tuple[str, ...]:
    """Names of the visible folders in a folder, sorted; those listed and in their order where there is a list."""
    found = {entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith(".")}
    if listed is None:
        return tuple(sorted(found))
    if missing := [name for name in listed if name not in found]:
        raise ValueError(
            f"{len(missing)} of the {len(listed)} classes of data.class_list have no folder in {folder}"
            f"{'' if found else ', which has no class folders at all'}: {names_in_words(missing)}"
        )
    return tuple(listed)


def _read_class_list(file: Path) -> list[str]:
    """The names in a class list; empty lines do not count."""
    if not file.is_file():
        raise FileNotFoundError(
            f"no file {file.absolute()}: data.class_list is a text file with the name of a class folder on each line"
        )
    names = [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not names:
        raise ValueError(f"data.class_list: {file} names no class")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"data.class_list: {file} names a class twice: {names_in_words(twice)}")
    return names


def _compare_classes(train: Path, train_names: Iterable[str], val: Path, val_names: Collection[str]) -> None:
    only_train, only_val = set(train_names) - set(val_names), set(val_names) - set(train_names)
    if only_train or only_val:
        remedy = "Give both the same class folders" if val_names else f"Put each image of {val} into its class's folder"
        raise ValueError(
            "training and validation folders have different classes: "
            + "; ".join(
                f"only in {folder}: {names_in_words(sorted(names))}"
                for folder, names in ((train, only_train), (val, only_val))
                if names
            )
            + f". {remedy}, or set data.labels to false"
        )


def _files_below(folder: Path, below: str) -> Iterator[str]:
    """Paths relative to ``folder`` of all visible files under ``folder / below``."""
    for parent, folders, files in os.walk(folder / below, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        relative = os.path.relpath(parent, folder)
        yield from (os.path.normpath(os.path.join(relative, name)) for name in files if not name.startswith("."))


def names_in_words(names: Sequence[str], most: int = 5) -> str:
    """The first few names, and how many more there are.

    >>> names_in_words(["a", "b", "c"], most=2)
    'a, b and 1 more'
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more

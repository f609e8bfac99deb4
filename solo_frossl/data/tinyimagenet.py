"""TinyImageNet as its archive unpacks: class folders for training, one folder and a table for validation."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import torch

from solo_frossl.data.folder import names_in_words
from solo_frossl.data.module import ImageDataModule
from solo_frossl.data.sources import FileSource

FOLDER = "tiny-imagenet-200"


class TinyImageNet(ImageDataModule):
    """TinyImageNet: 100,000 training and 10,000 validation images of 200 classes, 64x64 pixels.

    Read as the archive ``tiny-imagenet-200.zip`` unpacks: ``wnids.txt`` names the classes in the order of their labels,
    ``train/WNID/images/*.JPEG`` and ``val/images/*.JPEG`` are the images, ``val/val_annotations.txt`` labels the latter
    and ``words.txt`` puts the classes into words. Its test images have no labels and are not read. ``root`` is the
    folder ``tiny-imagenet-200`` or the one that holds it. Mean and standard deviation are ImageNet's unless given.

    Raises:
        FileNotFoundError: a file or folder of this layout is missing.
        ValueError: a class without images, a line of the annotations that cannot be used, or images it leaves out.
    """

    native_size: ClassVar[int] = 64
    native_mean: ClassVar[tuple[float, ...]] = (0.485, 0.456, 0.406)
    native_std: ClassVar[tuple[float, ...]] = (0.229, 0.224, 0.225)

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        root = Path(self.root).expanduser().absolute()
        self.folder = root if (root / "wnids.txt").is_file() else root / FOLDER
        if not (self.folder / "wnids.txt").is_file():
            raise FileNotFoundError(
                f"no file wnids.txt in {root} or {self.folder}: set data.root to the folder that {FOLDER}.zip was"
                " unpacked in"
            )
        for name in ("train", "val/images", "val/val_annotations.txt"):
            if not (self.folder / name).exists():
                raise FileNotFoundError(
                    f"no {self.folder / name}, which {FOLDER}.zip has; if its images were sorted into other folders,"
                    " use dataset: folder"
                )
        self.wnids = (self.folder / "wnids.txt").read_text(encoding="utf-8").split()
        self.num_classes = len(self.wnids)
        if self.num_classes < 2:
            raise ValueError(f"{self.folder / 'wnids.txt'} names {self.num_classes} classes: there must be two or more")

    def sources(self) -> tuple[FileSource, FileSource]:
        """Training and validation images."""
        self.class_names = _in_words(self.folder / "words.txt", self.wnids)
        return self._train_files(), self._val_files()

    def _train_files(self) -> FileSource:
        names: list[str] = []
        labels: list[int] = []
        for label, wnid in enumerate(self.wnids):
            images = _images(self.folder / "train" / wnid / "images")
            if not images:
                raise ValueError(f"no images *.JPEG in {self.folder / 'train' / wnid / 'images'}")
            names += [f"{wnid}/images/{name}" for name in images]
            labels += [label] * len(images)
        return FileSource(self.folder / "train", names, torch.tensor(labels, dtype=torch.int64), self.resize)

    def _val_files(self) -> FileSource:
        folder, table = self.folder / "val" / "images", self.folder / "val" / "val_annotations.txt"
        label_of = {wnid: label for label, wnid in enumerate(self.wnids)}
        labels: dict[str, int] = {}
        for number, line in enumerate(table.read_text(encoding="utf-8").splitlines(), start=1):
            name, wnid, *_ = [*line.split("\t"), ""]
            if wnid not in label_of:
                raise ValueError(
                    f"{table}, line {number}: {line[:60]!r} is not a file and a class of wnids.txt, with tabs between"
                )
            labels[name] = label_of[wnid]
        found = set(_images(folder))
        for problem, files in {
            f"of {table} are not in {folder}": labels.keys() - found,
            f"in {folder} have no line in {table}": found - labels.keys(),
        }.items():
            if files:
                raise ValueError(f"{len(files)} images {problem}: {names_in_words(sorted(files))}")
        if not labels:
            raise ValueError(f"no images *.JPEG in {folder}")
        names = sorted(labels)
        return FileSource(folder, names, torch.tensor([labels[name] for name in names], dtype=torch.int64), self.resize)


def _images(folder: Path) -> list[str]:
    """Names of the visible JPEG files in a folder, sorted; none if there is no such folder."""
    return sorted(file.name for file in folder.glob("*.JPEG") if not file.name.startswith("."))


def _in_words(file: Path, wnids: Sequence[str]) -> tuple[str, ...]:
    """Each class's first name in ``words.txt``, with the WNID where two classes share one; WNIDs where it has none."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    words = dict(line.split("\t", 1) for line in lines if "\t" in line)
    names = [words.get(wnid, wnid).split(",")[0].strip() for wnid in wnids]
    count = Counter(names)
    return tuple(name if count[name] == 1 else f"{name} ({wnid})" for name, wnid in zip(names, wnids, strict=True))

"""Features of a whole dataset as a file that other programs read: ``.npz`` (NumPy) or ``.safetensors``."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from solo_frossl.probe.features import Features
from solo_frossl.replacing import replacing

SUFFIXES = (".npz", ".safetensors")
MOST_NAMES = 50_000_000
"""Characters of file names, as JSON, that ``.safetensors`` takes; it reads no metadata of more than 100 MB."""
_ABOUT = "solo_frossl"
_FILES = ("train_files", "validation_files")
_NO_TENSORS = {"about", "class_names", *_FILES}


class FeatureFile(NamedTuple):
    """What :func:`write_features` wrote.

    Attributes:
        train: features of the training images.
        validation: features of the validation images.
        class_names: the classes, in the order of their labels.
        about: what they are features of; plain values.
        train_files: image file of each training row, relative to the dataset's root; None: the file does not say.
        validation_files: image file of each validation row.
    """

    train: Features
    validation: Features
    class_names: list[str]
    about: dict[str, Any]
    train_files: list[str] | None = None
    validation_files: list[str] | None = None


def write_features(
    path: str | Path,
    train: Features,
    validation: Features,
    class_names: Sequence[str],
    about: Mapping[str, Any],
    train_files: Sequence[str] | None = None,
    validation_files: Sequence[str] | None = None,
) -> None:
    """Write features, labels and indices of a dataset, atomically.

    The arrays are ``train_features`` ``(N, F)``, ``train_label`` ``(N,)`` (-1: unlabelled), ``train_index`` ``(N,)``
    and the same with ``validation_``. Class names and ``about`` are JSON: in ``.npz`` the array ``about``, in
    ``.safetensors`` the metadata entry ``solo_frossl``. In ``.npz`` the class names are an array of strings too,
    ``class_names``, and so are ``train_files`` ``(N,)`` and ``validation_files``, where they are given; in
    ``.safetensors`` the files are part of the same JSON, unless they take more than :data:`MOST_NAMES` characters
    (about a million files): then they are left out, for the format limits its metadata.

    Args:
        path: ends in ``.npz`` or ``.safetensors``; its folder is made.
        train: features of the training images, on any device.
        validation: features of the validation images.
        class_names: the classes, in the order of their labels.
        about: what they are features of (backbone, dataset, seed, ...); values that JSON has.
        train_files: image file of each training row, relative to the dataset's root; None: unknown.
        validation_files: image file of each validation row.

    Raises:
        ValueError: another suffix, an entry of ``about`` that JSON does not have, or not one file for each row.
    """
    path = features_path(path)
    given = {"train_files": (train_files, train), "validation_files": (validation_files, validation)}
    files = {name: list(names) for name, (names, _) in given.items() if names is not None}
    for name, names in files.items():
        if len(names) != len(given[name][1].label):
            raise ValueError(f"{name} has {len(names)} names for {len(given[name][1].label)} rows: give one for each")
    if path.suffix == ".npz":
        arrays = {name: np.array(names, dtype=str) for name, names in (files | {"class_names": class_names}).items()}
        in_words = {}
    else:
        in_words = files if len(json.dumps(files)) <= MOST_NAMES else {}
    try:
        words = json.dumps({"class_names": list(class_names), "about": dict(about)} | in_words, allow_nan=False)
    except TypeError as error:
        raise ValueError(f"about cannot be written to {path}: {error}") from error
    tensors = {
        f"{split}_{name}": tensor.detach().cpu().contiguous()
        for split, part in (("train", train), ("validation", validation))
        for name, tensor in part._asdict().items()
    }
    with replacing(path) as part, part.open("wb") as file:
        if path.suffix == ".npz":
            arrays |= {name: tensor.numpy() for name, tensor in tensors.items()}
            np.savez(file, about=np.array(words), **arrays)
        else:
            file.write(save(tensors, metadata={_ABOUT: words}))


def read_features(path: str | Path) -> FeatureFile:
    """What :func:`write_features` wrote, on the CPU. No code in the file is run.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: another suffix, or no features of this kind in the file.
    """
    path = features_path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file {path.absolute()} with features")
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                words = str(file["about"])
                files = {name: file[name].tolist() for name in _FILES if name in file}
                tensors = {name: torch.from_numpy(file[name]) for name in file.files if name not in _NO_TENSORS}
        else:
            with safe_open(path, "pt") as file:
                words, files = file.metadata()[_ABOUT], {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        read = json.loads(words)
        parts = (_features(tensors, "train"), _features(tensors, "validation"))
        files = files or {name: read[name] for name in _FILES if name in read}
        return FeatureFile(*parts, read["class_names"], read["about"], **files)
    except Exception as error:  # readers raise all sorts of things on damaged bytes
        reason = f"there is no {error}" if isinstance(error, KeyError) else str(error) or type(error).__name__
        raise ValueError(f"{path} does not hold features as write_features writes them: {reason}") from error


def _features(tensors: Mapping[str, Tensor], split: str) -> Features:
    return Features(*(tensors[f"{split}_{name}"] for name in Features._fields))


def features_path(path: str | Path) -> Path:
    """The path, if a file of features can have it.

    Raises:
        ValueError: its suffix is another.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise ValueError(f"features are written to files that end in {' or '.join(SUFFIXES)}, not {path}")
    return path

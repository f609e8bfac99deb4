"""Features of a whole dataset as a file that other programs read: ``.npz`` (NumPy) or ``.safetensors``."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from solo_frossl.probe.features import Features

SUFFIXES = (".npz", ".safetensors")
_ABOUT = "solo_frossl"


class FeatureFile(NamedTuple):
    """What :func:`write_features` wrote.

    Attributes:
        train: features of the training images.
        validation: features of the validation images.
        class_names: the classes, in the order of their labels.
        about: what they are features of; plain values.
    """

    train: Features
    validation: Features
    class_names: list[str]
    about: dict[str, Any]


def write_features(
    path: str | Path,
    train: Features,
    validation: Features,
    class_names: Sequence[str],
    about: Mapping[str, Any],
) -> None:
    """Write features, labels and indices of a dataset, atomically.

    The arrays are ``train_features`` ``(N, F)``, ``train_label`` ``(N,)`` (-1: unlabelled), ``train_index`` ``(N,)``
    and the same with ``validation_``. Class names and ``about`` are JSON: in ``.npz`` the array ``about``, in
    ``.safetensors`` the metadata entry ``solo_frossl``.

    Args:
        path: ends in ``.npz`` or ``.safetensors``; its folder is made.
        train: features of the training images, on any device.
        validation: features of the validation images.
        class_names: the classes, in the order of their labels.
        about: what they are features of (backbone, dataset, seed, ...); values that JSON has.

    Raises:
        ValueError: another suffix, or an entry of ``about`` that JSON does not have.
    """
    path = _checked(path)
    try:
        words = json.dumps({"class_names": list(class_names), "about": dict(about)}, allow_nan=False)
    except TypeError as error:
        raise ValueError(f"about cannot be written to {path}: {error}") from error
    tensors = {
        f"{split}_{name}": tensor.detach().cpu().contiguous()
        for split, part in (("train", train), ("validation", validation))
        for name, tensor in part._asdict().items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        if path.suffix == ".npz":
            with part.open("wb") as file:
                np.savez(file, about=np.array(words), **{name: tensor.numpy() for name, tensor in tensors.items()})
        else:
            save_file(tensors, part, metadata={_ABOUT: words})
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def read_features(path: str | Path) -> FeatureFile:
    """What :func:`write_features` wrote, on the CPU. No code in the file is run.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: another suffix, or no features of this kind in the file.
    """
    path = _checked(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file {path.absolute()} with features")
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                words = str(file["about"])
                tensors = {name: torch.from_numpy(file[name]) for name in file.files if name != "about"}
        else:
            with safe_open(path, "pt") as file:
                words = file.metadata()[_ABOUT]
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        read = json.loads(words)
        return FeatureFile(
            _features(tensors, "train"), _features(tensors, "validation"), read["class_names"], read["about"]
        )
    except Exception as error:  # readers raise all sorts of things on damaged bytes
        reason = f"there is no {error}" if isinstance(error, KeyError) else str(error) or type(error).__name__
        raise ValueError(f"{path} does not hold features as write_features writes them: {reason}") from error


def _features(tensors: Mapping[str, Tensor], split: str) -> Features:
    return Features(*(tensors[f"{split}_{name}"] for name in Features._fields))


def _checked(path: str | Path) -> Path:
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise ValueError(f"features are written to files that end in {' or '.join(SUFFIXES)}, not {path}")
    return path

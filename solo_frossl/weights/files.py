"""Reading the tensors of a checkpoint file, whoever wrote it, without ever running code from it."""

import itertools
import pickle
import struct
import tarfile
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from solo_frossl.weights.inert import Inert, InertReader

_MOST_CONTAINERS = 1_000_000
KINDS = "safetensors, or what torch.save writes (.ckpt, .pth, .pt, .tar)"


class WeightsError(ValueError):
    """Weights that cannot be read, recognised, or put into a network; its text is what the user reads."""


@dataclass(frozen=True)
class FileContent:
    """What a checkpoint file holds.

    Attributes:
        tensors: every tensor by its full name, on the CPU; those in nested containers by the keys on the way joined by
            dots: ``state_dict.backbone.conv1.weight``.
        config: the run's configuration, in a checkpoint of this library; else None.
        images: how a run's images were prepared (image_size, mean, std), in a checkpoint of this library; else empty.
        epochs: that the weights were trained, in a checkpoint that Lightning wrote as an epoch ended; else None.
        metadata: text by key, of a safetensors file.
        kind: ``safetensors`` or ``torch``.
        foreign: classes of objects in the file that are neither tensors nor plain values, and were not read.
    """

    tensors: dict[str, Tensor]
    config: dict[str, Any] | None = None
    images: dict[str, Any] = field(default_factory=dict)
    epochs: int | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    kind: str = "torch"
    foreign: tuple[str, ...] = ()


def read_tensors(path: str | Path) -> FileContent:
    """Every tensor of a file: safetensors, or what ``torch.save`` writes, in its format of today or before torch 1.6.

    Nothing that a file names is ever run. What is neither tensor, plain value nor container is left out and named.

    Raises:
        WeightsError: there is no such file, it is empty, cut off or damaged, no checkpoint, or without tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path} is {'a folder, not a file' if path.is_dir() else 'not there'}")
    try:
        with open(path, "rb") as file:
            start = file.read(16)
        content = _read_safetensors(path) if _is_safetensors(path, start) else _read_torch(path, start)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error}") from error
    if not content.tensors:
        named = f", only objects of {', '.join(content.foreign[:3])}" if content.foreign else ""
        raise WeightsError(
            f"{path} holds no tensors by name{named}: give a file with a state dict, as torch.save(model.state_dict())"
            " writes it"
        )
    return content


def _is_safetensors(path: Path, start: bytes) -> bool:
    """Named so, or with a header as long as the first eight bytes say, which is JSON."""
    return path.suffix == ".safetensors" or (len(start) > 8 and start[8:9] == b"{" and _header_fits(path, start))


def _header_fits(path: Path, start: bytes) -> bool:
    return struct.unpack("<Q", start[:8])[0] + 8 <= path.stat().st_size


def _read_safetensors(path: Path) -> FileContent:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return FileContent(tensors, metadata=dict(file.metadata() or {}), kind="safetensors")
    except SafetensorError as error:
        raise WeightsError(
            f"{path} is no whole safetensors file ({error}): it is empty, cut off or damaged; fetch or write it again"
        ) from error


def _read_torch(path: Path, start: bytes) -> FileContent:
    _check_torch_file(path, start)
    reader = InertReader()
    try:
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError:  # an object that is no tensor stands in the way, or the file is damaged
            # This unpickler resolves no name but those tensors are made of: nothing is run here either.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that the code of a class is not there
                content = torch.load(path, map_location="cpu", weights_only=False, pickle_module=reader)
        named: dict[str, Tensor] = {}
        for name, tensor in _tensors(content):
            if name in named:
                raise WeightsError(f"it holds two tensors of the name {name}")
            named[name] = tensor
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from None
    except Exception as error:  # whatever a damaged pickle leads to
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise WeightsError(f"{path} cannot be read ({reason}): it is cut off or damaged, or no checkpoint") from error
    config, images = (content.get(key) if isinstance(content, Mapping) else None for key in ("config", "images"))
    foreign = {**reader.foreign, **({content.pickled_name: None} if isinstance(content, Inert) else {})}
    return FileContent(
        named,
        config=config if isinstance(config, dict) else None,
        images=images if isinstance(images, dict) else {},
        epochs=_whole_epochs(content),
        foreign=tuple(foreign),
    )


def _whole_epochs(content: Any) -> int | None:
    """Epochs that a checkpoint of Lightning has behind it; None within an epoch, and for other files."""
    try:
        done = content["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
        return int(done) if done == content["epoch"] + 1 else None
    except (KeyError, TypeError, IndexError):
        return None


def _check_torch_file(path: Path, start: bytes) -> None:
    """Refuse what ``torch.load`` cannot read, or must not."""
    if not start:
        raise WeightsError(f"{path} is empty")
    if start[:4] == b"PK\x03\x04":
        try:
            with zipfile.ZipFile(path) as archive:
                names = [name.partition("/")[2] for name in archive.namelist()]
                damaged = archive.testzip()
        except Exception as error:  # of the directory, a part's header, or its compression
            raise WeightsError(f"{path} is cut off or damaged ({error}); fetch or write it again") from error
        if damaged is not None:
            raise WeightsError(
                f"{path} is damaged: its part {damaged} does not match its checksum; fetch or write it again"
            )
        if "constants.pkl" in names:
            raise WeightsError(
                f"{path} is a TorchScript program, which is code: write the weights alone, by torch.save of its"
                " state_dict()"
            )
        if "data.pkl" not in names:
            raise WeightsError(f"{path} is a zip file, and no checkpoint: expected {KINDS}")
    elif tarfile.is_tarfile(path):
        raise WeightsError(f"{path} is a tar archive: unpack it, or write it again with torch 0.2 or newer")
    elif start[:1] != b"\x80":
        raise WeightsError(f"{path} is no checkpoint (it begins with {start[:8]!r}): expected {KINDS}")


def _tensors(content: Any) -> Iterator[tuple[str, Tensor]]:
    """Tensors in nested mappings and sequences, each with its full name; a container within itself is passed over.

    Raises:
        WeightsError: there are more containers than a checkpoint has, as in lists that hold one another many times.
    """
    above: set[int] = set()
    met = itertools.count()

    def walk(value: Any, name: str) -> Iterator[tuple[str, Tensor]]:
        if isinstance(value, Tensor) and name:
            yield name, value.detach()
        elif isinstance(value, Mapping | list | tuple) and id(value) not in above:
            if next(met) > _MOST_CONTAINERS:
                raise WeightsError(
                    f"it holds more than {_MOST_CONTAINERS:,} lists and mappings, which is no checkpoint"
                )
            above.add(id(value))
            items = value.items() if isinstance(value, Mapping) else enumerate(value)
            for key, inner in items:
                yield from walk(inner, f"{name}.{key}" if name else str(key))
            above.discard(id(value))

    return walk(content, "")

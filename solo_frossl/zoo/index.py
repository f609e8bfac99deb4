"""``index.yaml``: what checkpoints there are, what they are worth, and where their files can be had."""

import difflib
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock

import solo_frossl
from solo_frossl.replacing import replacing
from solo_frossl.zoo.errors import ZooError
from solo_frossl.zoo.places import Place, parse_place

ACCURACIES = ("online_top1", "linear_top1", "knn_top1")
"""Accuracies that an entry may have."""
PRECISIONS = ("float16", "float32")
ENCODERS = ("backbone", "target")
"""What of a run an entry is: the backbone that was trained, or the target network that follows it (EMA)."""
HEADER = """\
# The checkpoint zoo: one entry a checkpoint. `solo-frossl zoo add` and `remove` write this file; they keep no other
# comment than this one.
#
#   name          plain file name: letters, digits, '.', '_' and '-'
#   method        as configs/methods names it
#   encoder       backbone, the one that was trained (also where it does not stand), or target, the network that follows
#                 it (EMA)
#   dataset       what it was trained on
#   architecture  backbone, stem, width, channels, image_size (pixels): what must be known to build the network
#   num_features  length of a feature vector
#   epochs, seed  of the training
#   precision     float16 or float32: of the tensors in the file
#   mean, std     normalisation of the input, one number a channel
#   config        the whole resolved configuration of the run
#   accuracy      percent: online_top1, linear_top1, knn_top1, those that were measured
#   measured_by   the command that measured them
#   licence       of the weights
#   file          NAME-HASH.safetensors, HASH being the first 8 hexadecimal digits of sha256
#   size, sha256  bytes, and 64 hexadecimal digits: nothing reads a file that differs
#   places        tried in order: file:PATH (absolute, or from this folder on), https://..., hf:OWNER/REPO/PATH@REVISION
"""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class Entry:
    """One checkpoint.

    Args:
        name: as in ``zoo:NAME``; letters, digits, ``.``, ``_`` and ``-``, at most 100.
        method: name of the method.
        encoder: ``"backbone"``, the one that was trained, or ``"target"``, the network that follows it (EMA).
        dataset: name of the training data.
        architecture: as ``solo_frossl.weights.Architecture`` writes itself; it has a ``backbone``.
        num_features: length of a feature vector.
        epochs: trained.
        seed: of the training.
        precision: ``"float16"`` or ``"float32"``: of the tensors in the file.
        mean: of each channel, as the input was normalised.
        std: likewise.
        config: the run's resolved configuration.
        accuracy: percent by name, of :data:`ACCURACIES`.
        measured_by: the command that measured them.
        licence: of the weights.
        file: ``NAME-HASH.safetensors`` with the first 8 digits of ``sha256``.
        size: bytes.
        sha256: 64 lower-case hexadecimal digits.
        places: where the file can be had, in the order in which they are tried; see :func:`parse_place`.
        folder: of the index; relative ``file:`` places start here. Not written.

    Raises:
        ZooError: naming the field at fault.
    """

    name: str
    method: str
    encoder: str = field(default="backbone", kw_only=True)
    dataset: str
    architecture: Mapping[str, Any]
    num_features: int
    epochs: int
    seed: int
    precision: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    config: Mapping[str, Any]
    accuracy: Mapping[str, float]
    measured_by: str
    licence: str
    file: str
    size: int
    sha256: str
    places: tuple[str, ...]
    folder: Path | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        for key in ("mean", "std", "places"):
            if isinstance(getattr(self, key), list):
                object.__setattr__(self, key, tuple(getattr(self, key)))
        for key, check in _CHECKS.items():
            if fault := check(getattr(self, key)):
                raise ZooError(f"{key}: {fault}")
        channels = self.architecture.get("channels", 3)
        if not len(self.mean) == len(self.std) == channels:
            raise ZooError(
                f"mean and std: {len(self.mean)} and {len(self.std)} numbers, and architecture.channels is {channels}"
            )
        if self.file != (wanted := f"{self.name}-{self.sha256[:8]}.safetensors"):
            raise ZooError(f"file: is {self.file!r}; from name and sha256 it must be {wanted!r}")

    def parsed_places(self) -> list[Place]:
        """The places, taken apart."""
        return [parse_place(text) for text in self.places]

    def to_dict(self) -> dict[str, Any]:
        """Plain values by key, in the order of the index."""
        values = {key: getattr(self, key) for key in KEYS}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], folder: Path | None = None) -> "Entry":
        """The entry of a mapping as :meth:`to_dict` makes it.

        Raises:
            ZooError: a key is missing or unknown, or its value cannot be.
        """
        if unknown := [key for key in values if key not in KEYS]:
            near = difflib.get_close_matches(str(unknown[0]), KEYS, n=1)
            raise ZooError(f"{unknown[0]}: is not a known key" + (f"; did you mean {near[0]}?" if near else ""))
        if missing := [key for key in KEYS if key not in values and key != "encoder"]:
            raise ZooError(f"{missing[0]}: is missing")
        return cls(**values, folder=folder)


KEYS = tuple(f.name for f in fields(Entry) if f.name != "folder")
"""Keys of an entry in the index, in order."""


@dataclass(frozen=True)
class Index:
    """An index as it was read.

    Attributes:
        path: its file.
        entries: by name, in the file's order.
    """

    path: Path
    entries: Mapping[str, Entry]

    def find(self, name: str) -> Entry:
        """The entry of a name.

        Raises:
            ZooError: there is none; names the nearest ones.
        """
        if name in self.entries:
            return self.entries[name]
        near = [known for known in self.entries if name in known][:3]
        near = near or difflib.get_close_matches(name, self.entries, n=3, cutoff=0.4) or list(self.entries)[:3]
        what = f"the nearest are {', '.join(near)}" if near else "it holds no checkpoint"
        raise ZooError(f"there is no checkpoint {name!r} in {self.path}; {what}")


def shipped_index() -> Path:
    """The index that comes with the package: of a wheel, or of a checkout."""
    package = Path(solo_frossl.__file__).parent
    in_wheel = package / "zoo_files" / "index.yaml"
    return in_wheel if in_wheel.is_file() else package.parent / "zoo" / "index.yaml"


def read_index(path: str | Path | None = None) -> Index:
    """Read an index.

    Args:
        path: its file; by default the one that comes with the package.

    Raises:
        ZooError: naming file, entry and key at fault.
    """
    path = shipped_index() if path is None else Path(path)
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except (OSError, UnicodeDecodeError) as error:
        raise ZooError(
            f"{path} cannot be read as an index of checkpoints: {error}; give the path of one (`zoo add` starts one)"
        ) from None
    except yaml.YAMLError as error:
        raise ZooError(f"{path} is not YAML: {error}") from None
    listed = content.get("checkpoints") if isinstance(content, dict) and len(content) == 1 else None
    if not isinstance(listed, list):
        raise ZooError(f"{path} is no index: it must hold one key, `checkpoints`, with a list of entries")
    entries: dict[str, Entry] = {}
    folder = path.absolute().parent
    for number, values in enumerate(listed, 1):
        if not isinstance(values, dict):
            raise ZooError(f"{path}: entry {number}: must hold `key: value` lines")
        try:
            entry = Entry.from_dict(values, folder)
            if entry.name in entries:
                raise ZooError("name: another entry has this name")
        except ZooError as error:
            raise ZooError(f"{path}: entry {values.get('name', number)}: {error}") from None
        entries[entry.name] = entry
    return Index(path, entries)


def write_index(path: str | Path, entries: Iterable[Entry]) -> None:
    """Write an index atomically, under a comment that explains the keys; other comments are lost.

    Where the path is a link, the file that it leads to is written.

    Raises:
        ZooError: two entries have one name, or a value cannot be written as plain YAML.
        OSError: the file cannot be written; the old one is whole then.
    """
    path, entries = Path(path).resolve(), list(entries)
    names = [entry.name for entry in entries]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ZooError(f"{path}: two entries are named {', '.join(sorted(twice))}")
    try:
        body = "".join(_item(entry) for entry in entries)
    except yaml.YAMLError as error:
        raise ZooError(f"{path}: a value of an entry is no plain value: {error}") from None
    with replacing(path, sync=True) as part:
        part.write_text(f"{HEADER}\ncheckpoints:{body or ' []'}\n", encoding="utf-8")


def check_name(name: str) -> None:
    """Refuse what cannot be the name of an entry.

    Raises:
        ZooError: it is no plain name.
    """
    if fault := _name(name):
        raise ZooError(f"name: {fault}")


@contextmanager
def changing(path: str | Path) -> Iterator[dict[str, Entry]]:
    """The entries of an index by name, as they are now; what the caller makes of them is written on leaving.

    Nobody else can change the index meanwhile, through this function. An index that does not exist is started.

    Raises:
        ZooError: as :func:`read_index` and :func:`write_index`.
        OSError: it cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(path.name + ".lock")):
        entries = dict(read_index(path).entries) if path.exists() else {}
        yield entries
        write_index(path, entries.values())


def remove_entry(index: Index, name: str) -> list[Path]:
    """Take an entry out of an index, with its card and the weights that lie in the index's folder.

    Weights that another entry names too are kept, and so is what a link has elsewhere.

    Returns:
        The files that were deleted.

    Raises:
        ZooError: there is no such entry; or it was taken out, and a file could not be deleted.
        OSError: the index cannot be written.
    """
    with changing(index.path) as entries:
        entry = replace(index, entries=entries).find(name)
        del entries[name]
    folder = index.path.absolute().parent
    needed = {place.path for other in entries.values() for place in other.parsed_places()}
    own = [place for place in entry.parsed_places() if place.shipped and place.path.endswith(".safetensors")]
    weights = [place.local(folder) for place in own if place.path not in needed]
    doomed = [*weights, folder / "cards" / f"{name}.md", folder / "cards" / f"{name}.png"]
    deleted = [file for file in doomed if file.is_file() and file.parent.resolve().is_relative_to(folder.resolve())]
    faults = []
    for file in deleted:
        try:
            file.unlink()
        except OSError as error:
            faults.append(f"  {file}: {error.strerror or error}")
    if faults:
        raise ZooError(
            "\n".join([f"{name} was taken out of {index.path}, but not all its files could be deleted:", *faults])
        )
    return deleted


# ------------------------------------------------------------------------------------------------------ what may stand


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """Plain YAML in which no key stands twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [key.value for key, _ in node.value]
        if twice := next((key for key, _ in node.value if keys.count(key.value) > 1), None):
            raise yaml.constructor.ConstructorError(None, None, f"the key {twice.value} stands twice", twice.start_mark)
        return super().construct_mapping(node, deep)


def _item(entry: Entry) -> str:
    """An entry as an item of a YAML list; lists of numbers in a line; an encoder only where it is the target."""
    values = {key: value for key, value in entry.to_dict().items() if (key, value) != ("encoder", "backbone")}
    text = yaml.safe_dump(values, sort_keys=False, default_flow_style=None, allow_unicode=True, width=110)
    first, *rest = text.rstrip("\n").split("\n")
    return "\n".join([f"\n  - {first}", *(f"    {line}" if line else "" for line in rest)])


def _text(value: Any) -> str | None:
    return None if isinstance(value, str) and value.strip() else f"is {value!r}, must be text (in quotes, if need be)"


def _name(value: Any) -> str | None:
    if isinstance(value, str) and _NAME.fullmatch(value) and ".." not in value:
        return None
    return f"is {value!r}, must be a plain name: letters, digits, '.', '_' and '-', no '..', at most 100, no '.' first"


def _whole(least: int) -> Callable[[Any], str | None]:
    def check(value: Any) -> str | None:
        good = isinstance(value, int) and not isinstance(value, bool) and value >= least
        return None if good else f"is {value!r}, must be a whole number of {least} or more"

    return check


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _numbers(value: Any) -> str | None:
    good = isinstance(value, tuple) and value and all(_number(number) for number in value)
    return None if good else f"is {value!r}, must be a list of numbers, one a channel"


def _positive(value: Any) -> str | None:
    return _numbers(value) or (None if min(value) > 0 else f"is {list(value)}, must be above 0")


def _mapping(value: Any) -> str | None:
    return None if isinstance(value, Mapping) else f"is {value!r}, must be a mapping"


def _architecture(value: Any) -> str | None:
    if fault := _mapping(value):
        return fault
    return None if isinstance(value.get("backbone"), str) else "has no backbone, the name of the network"


def _accuracy(value: Any) -> str | None:
    if fault := _mapping(value):
        return fault
    for key, percent in value.items():
        if key not in ACCURACIES:
            return f"{key} is not a known key; they are {', '.join(ACCURACIES)}"
        if not (_number(percent) and 0 <= percent <= 100):
            return f"{key} is {percent!r}, must be a percentage from 0 to 100"
    return None


def _sha256(value: Any) -> str | None:
    good = isinstance(value, str) and re.fullmatch(r"[0-9a-f]{64}", value)
    return None if good else f"is {value!r}, must be 64 lower-case hexadecimal digits (in quotes, if need be)"


def _places(value: Any) -> str | None:
    if not (isinstance(value, tuple) and value and all(isinstance(text, str) for text in value)):
        return f"is {value!r}, must be a list of places"
    try:
        for text in value:
            parse_place(text)
    except ValueError as error:
        return str(error)
    return None


_CHECKS: dict[str, Callable[[Any], str | None]] = {
    "name": _name,
    "method": _text,
    "encoder": lambda value: None if value in ENCODERS else f"is {value!r}, must be {' or '.join(ENCODERS)}",
    "dataset": _text,
    "architecture": _architecture,
    "num_features": _whole(1),
    "epochs": _whole(0),
    "seed": _whole(0),
    "precision": lambda value: None if value in PRECISIONS else f"is {value!r}, must be {' or '.join(PRECISIONS)}",
    "mean": _numbers,
    "std": _positive,
    "config": _mapping,
    "accuracy": _accuracy,
    "measured_by": _text,
    "licence": _text,
    "file": _text,
    "size": _whole(1),
    "sha256": _sha256,
    "places": _places,
}

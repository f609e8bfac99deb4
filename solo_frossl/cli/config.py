"""Configuration files: which layers a path stands for, their values put together, and where each value stands."""

import difflib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import yaml

import solo_frossl
from solo_frossl.cli.errors import ConfigError, KeyPath


@dataclass(frozen=True)
class Layer:
    """One YAML file.

    Attributes:
        file: where it was read from.
        values: nested mappings, lists and plain values.
        lines: line of every key and list item, from 1.
    """

    file: Path
    values: dict[str, Any]
    lines: dict[KeyPath, int]


@dataclass(frozen=True)
class Composed:
    """Layers put together, later ones winning.

    Attributes:
        values: nested mappings, lists and plain values of all layers.
        layers: the layers, lowest first.
    """

    values: dict[str, Any]
    layers: tuple[Layer, ...]

    def get(self, key: str) -> Any:
        """The value of a dotted key; None when no file gives it."""
        value: Any = self.values
        for name in key.split("."):
            value = value.get(name) if isinstance(value, Mapping) else None
        return value

    def without(self, keys: Collection[str]) -> "Composed":
        """The same less these top-level keys."""
        return Composed({key: value for key, value in self.values.items() if key not in keys}, self.layers)

    def where(self, path: KeyPath) -> str | None:
        """File and line that a value comes from, ``"configs/stl10/frossl.yaml, line 4"``; None: no file gives it."""
        for layer in reversed(self.layers):
            if path in layer.lines:
                return f"{_readable(layer.file)}, line {layer.lines[path]}"
        return None


def compose(configs: Sequence[str]) -> Composed:
    """Read the given configurations, each with its layers, and put them together; later ones win.

    Args:
        configs: paths as given to ``--config``.

    Raises:
        ConfigError: a file is missing or is not a YAML mapping.
    """
    layers = tuple(read_layer(file) for config in configs for file in find_layers(config))
    values: dict[str, Any] = {}
    for layer in layers:
        values = merge(values, layer.values)
    return Composed(values, layers)


def merge(base: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    """Values of both, those of ``top`` winning; mappings are merged key by key, lists and plain values replaced.

    >>> merge({"a": {"x": 1, "y": [1, 2]}}, {"a": {"y": [3]}})
    {'a': {'x': 1, 'y': [3]}}
    """
    merged = dict(base)
    for key, value in top.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def find_layers(config: str) -> list[Path]:
    """Files that a path given to ``--config`` stands for, lowest first.

    ``configs/D/M.yaml`` is ``configs/methods/M.yaml``, ``configs/D/dataset.yaml``, files that dataset D has for several
    methods, ``configs/D/L+M+N.yaml``, and ``configs/D/M.yaml`` itself; the latter two need not exist. Any other path is
    the file alone. What does not exist from the current folder on is looked for among the configurations that come with
    the package.

    Raises:
        ConfigError: there is no such file; names the nearest that exist.
    """
    given = Path(config).expanduser()
    candidates = [given]
    if not given.is_absolute():
        inner = given.relative_to("configs") if given.parts[:1] == ("configs",) else given
        candidates += [folder / inner for folder in _shipped()]
    for candidate in candidates:
        if files := _layer_files(candidate):
            return files
    names = sorted(set(_known(given)))
    near = difflib.get_close_matches(config, names, n=4, cutoff=0.5) or names[:8]
    raise ConfigError(
        f"--config {config}: there is no such file" + (f"; the nearest are {', '.join(near)}" if near else "")
    )


def _layer_files(path: Path) -> list[Path]:
    method, dataset = path.parent.parent / "methods" / path.name, path.parent / "dataset.yaml"
    layered = method.is_file() and dataset.is_file()
    shared = sorted(file for file in path.parent.glob("*+*.yaml") if path.stem in file.stem.split("+"))
    return [file for file in ([method, dataset, *shared, path] if layered else [path]) if file.is_file()]


def _shipped() -> list[Path]:
    """Folders of the configurations that come with the package: of a wheel, or of a checkout."""
    package = Path(solo_frossl.__file__).parent
    return [folder for folder in (package / "configs", package.parent / "configs") if folder.is_dir()]


def _known(given: Path) -> Iterator[str]:
    """Names that ``--config`` accepts: files beside the missing one, and every dataset with every method."""
    if given.parent.is_dir():
        yield from (str(file) for file in given.parent.glob("*.y*ml"))
    for folder in [Path("configs"), *_shipped()]:
        methods = [file.name for file in folder.glob("methods/*.yaml")]
        for dataset in folder.glob("*/dataset.yaml"):
            yield from (f"configs/{dataset.parent.name}/{method}" for method in methods)


class _Loader(yaml.SafeLoader):
    """Plain words as YAML 1.2 reads them: ``1e-4`` is a number; ``on``, ``off``, ``yes``, ``no`` and dates are text."""

    yaml_implicit_resolvers: ClassVar[dict] = {}


for _tag, _pattern, _first in (
    ("merge", r"<<", "<"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(?:0|[1-9][0-9_]*)", "-+0123456789"),
    ("float", r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("float", r"[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", "-+.0123456789"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))


def load_yaml(text: str) -> Any:
    """The value of a YAML text, read as configuration files are.

    >>> load_yaml("{lr: 1e-4, mode: off}")
    {'lr': 0.0001, 'mode': 'off'}
    """
    return yaml.load(text, Loader=_Loader)


def read_layer(file: Path) -> Layer:
    """Read one YAML file.

    Raises:
        ConfigError: not readable, not YAML, not a mapping, or with a key that stands twice, is not text, or holds a
            dot; names file and line.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{_readable(file)} cannot be read: {error}") from None
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return Layer(file, {}, {})
        if not isinstance(node, yaml.MappingNode):
            raise ConfigError(f"{_readable(file)}, line {_line(node)}: must hold `key: value` lines")
        for mapping in _mappings(node):
            _check_keys(mapping, file)
        values = loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}\n{mark.get_snippet()}" if mark else ""
        context = f" ({error.context})" if error.context else ""
        raise ConfigError(f"{_readable(file)}: {error.problem}{context}{place}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{_readable(file)}: {error}") from None
    return Layer(file, values, dict(_lines(node, ())))


def _mappings(node: yaml.Node) -> Iterator[yaml.MappingNode]:
    if isinstance(node, yaml.MappingNode):
        yield node
        for _, value in node.value:
            yield from _mappings(value)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _mappings(item)


def _check_keys(mapping: yaml.MappingNode, file: Path) -> None:
    seen: dict[str, int] = {}
    for key, _ in mapping.value:
        place = f"{_readable(file)}, line {_line(key)}"
        if key.tag == "tag:yaml.org,2002:merge":
            continue
        if key.tag != "tag:yaml.org,2002:str":
            raise ConfigError(f"{place}: {key.value!r} cannot be a key, keys are words")
        if "." in key.value:
            raise ConfigError(f"{place}: write {key.value} as nested keys, one a line")
        if key.value in seen:
            raise ConfigError(f"{place}: {key.value} stands twice, first in line {seen[key.value]}")
        seen[key.value] = _line(key)


def _lines(node: yaml.Node, path: KeyPath) -> Iterator[tuple[KeyPath, int]]:
    """Line of every key and list item below a constructed node; merge keys are resolved by then."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield (*path, key.value), _line(key)
            yield from _lines(value, (*path, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for i, item in enumerate(node.value):
            yield (*path, i), _line(item)
            yield from _lines(item, (*path, i))


def _line(node: yaml.Node) -> int:
    return node.start_mark.line + 1


def _readable(file: Path) -> str:
    """The path from the current folder on where it lies below it."""
    absolute = file.absolute()
    return str(absolute.relative_to(Path.cwd()) if absolute.is_relative_to(Path.cwd()) else absolute)

"""What is wrong with a configuration, in one message: the key, the place, and what would be right."""

import dataclasses
import difflib
import os
import re
import sys
import types
import typing
from argparse import SUPPRESS, Action, ArgumentError
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

from jsonargparse import ActionConfigFile, ArgumentParser, Namespace
from jsonargparse._link_arguments import ActionLink

CLOSED_PIPE = 128 + 13
"""Exit code when standard output is closed: 128 + SIGPIPE."""
KeyPath = tuple[str | int, ...]
"""Way to a value: names of keys and positions in lists, ``("data", "views", 0, "size")``."""


class ConfigError(Exception):
    """A configuration that cannot be run; its text is what the user reads."""


class Problem(NamedTuple):
    """One fault of a configuration.

    Attributes:
        path: way to the key at fault.
        text: what is wrong with it and what would be right, to follow the key's name.
    """

    path: KeyPath
    text: str


@contextmanager
def one_message(program: str) -> Iterator[None]:
    """Turn a :class:`ConfigError` into its text on standard error and exit code 2, without a traceback.

    When whoever reads standard output has enough, as ``head`` has, the program ends quietly with the exit code of a
    program that SIGPIPE ends.
    """
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except ConfigError as error:
        print(f"{program}: error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except BrokenPipeError:
        try:
            os.write(sys.stdout.fileno(), b"\n")
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python flushes at its end
            raise SystemExit(CLOSED_PIPE) from None
        raise  # it was another pipe


def dotted(path: KeyPath) -> str:
    """A path as it is written on the command line.

    >>> dotted(("data", "views", 0, "size"))
    'data.views[0].size'
    """
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")


def find_problem(parser: ArgumentParser, values: Mapping[str, Any], path: KeyPath = ()) -> Problem | None:
    """The first fault of nested values, in their order, by the keys and types of a parser.

    Args:
        parser: knows every key, its type and its group.
        values: nested mappings as read from YAML; keys may be missing.
        path: way to ``values`` within the configuration, when the parser describes only a part of it.
    """
    actions = {action.dest: action for action in parser._actions if _holds_value(action)}
    groups = {".".join(key.split(".")[:i]) for key in actions for i in range(1, key.count(".") + 1)}
    return _find_in_group(parser, actions, groups, values, (), path)


def _holds_value(action: Action) -> bool:
    """Whether an action of a parser is a key of the configuration, which ``--help`` and ``--config`` are not."""
    return isinstance(action, ActionLink) or (action.default != SUPPRESS and not isinstance(action, ActionConfigFile))


def _find_in_group(
    parser: ArgumentParser,
    actions: dict[str, Action],
    groups: set[str],
    values: Mapping,
    inner: KeyPath,
    outer: KeyPath,
) -> Problem | None:
    for name, value in values.items():
        here = (*inner, name)
        key = dotted(here)
        problem = None
        if key in groups:
            if not isinstance(value, Mapping):
                names = ", ".join(_children(key, actions))
                problem = Problem((*outer, *here), f"is {_show(value)}, but stands for a group of keys: {names}")
            else:
                problem = _find_in_group(parser, actions, groups, value, here, outer)
        elif key not in actions:
            problem = Problem((*outer, *here), f"is not a known key{_nearest(here, actions, outer)}")
        elif not _accepts(parser, key, value):
            hint = getattr(actions[key], "_typehint", None) or actions[key].type
            choices = actions[key].choices
            hint = Literal[tuple(choices)] if choices else hint
            problem = _find_in_value(hint, value, (*outer, *here))
        if problem:
            return problem
    return None


def _find_in_value(hint: Any, value: Any, path: KeyPath) -> Problem:
    """The fault of a value that its type refuses: that of an item or of an inner key where there is one."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        inner = [arg for arg in args if _same_shape(arg, value)]
        if len(inner) == 1:
            return _find_in_value(inner[0], value, path)
    elif _is_list(hint) and args and _same_shape(hint, value):
        items = args if origin is tuple and args[-1] is not Ellipsis else args[:1] * len(value)
        for i, (item_hint, item) in enumerate(zip(items, value, strict=False)):
            if not accepts(item_hint, item):
                return _find_in_value(item_hint, item, (*path, i))
        if len(items) != len(value):
            return Problem(path, f"needs {len(items)} items, not {len(value)}: {_show(value)}")
    elif dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
        parser = ArgumentParser(exit_on_error=False)
        parser.add_class_arguments(hint)
        if problem := find_problem(parser, value, path):
            return problem
        required = [f.name for f in dataclasses.fields(hint) if f.init and _has_no_default(f)]
        return Problem(path, f"needs {', '.join(name for name in required if name not in value)} too")
    hints = difflib.get_close_matches(str(value), [a for a in _literals(hint) if isinstance(a, str)], n=1)
    meant = f"; did you mean {hints[0]}?" if hints else ""
    return Problem(path, f"must be {describe(hint)}, not {_show(value)}{meant}")


def describe(hint: Any) -> str:
    """A type in words.

    >>> describe(float | None)
    'a number or null'
    >>> describe(Literal["lars", "sgd"])
    'lars or sgd'
    """
    words = {float: "a number", int: "a whole number", bool: "true or false", str: "text", type(None): "null"}
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint in words:
        return words[hint]
    if origin is Literal:
        return " or ".join(_show(arg) for arg in args)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(word for arg in args for word in describe(arg).split(" or ")))
    if origin is tuple and args[-1:] != (Ellipsis,):
        return f"a list of {len(args)} ({', '.join(describe(arg) for arg in args)})"
    if _is_list(hint):
        return f"a list ({describe(args[0])})" if args else "a list"
    if dataclasses.is_dataclass(hint):
        return f"a mapping of {', '.join(f.name for f in dataclasses.fields(hint))}"
    return getattr(hint, "__name__", str(hint).replace("typing.", ""))


def accepts(hint: Any, value: Any) -> bool:
    """Whether a value read from YAML is one of the type.

    >>> accepts(list[int], [1, 2]), accepts(list[int], [1, "a"])
    (True, False)
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--values", type=list[hint])  # in a list, for a dataclass by itself would become a group
    return _accepts(parser, "values", [value])


def _accepts(parser: ArgumentParser, key: str, value: Any) -> bool:
    namespace = Namespace()
    namespace[key] = value
    try:
        parser.validate(namespace, skip_required=True)
    except (TypeError, KeyError, ValueError, ArgumentError):
        return False
    return True


def _nearest(inner: KeyPath, actions: Mapping[str, Action], outer: KeyPath) -> str:
    """The valid keys nearest to an unknown one: first its neighbours, then keys of that name anywhere."""
    name = str(inner[-1])
    children = _children(dotted(inner[:-1]), actions)
    neighbours = {dotted((*outer, *inner[:-1], child)): child for child in children}
    everywhere = {dotted((*outer, key)): key.split(".")[-1] for key in actions}
    for keys, cutoff in ((neighbours, 0.6), (everywhere, 0.8)):
        close = difflib.get_close_matches(name, keys.values(), n=2, cutoff=cutoff)
        found = [key for match in dict.fromkeys(close) for key, leaf in keys.items() if leaf == match]
        if found:
            return f"; did you mean {' or '.join(found[:3])}?"
    return f"; the keys here are {', '.join(children)}"


def _children(group: str, actions: Mapping[str, Action]) -> list[str]:
    """Names of the keys directly below a group, the top being ``""``."""
    prefix = f"{group}." if group else ""
    names = (key.removeprefix(prefix).split(".")[0] for key in actions if key.startswith(prefix))
    return list(dict.fromkeys(names))


def _same_shape(hint: Any, value: Any) -> bool:
    if isinstance(value, Mapping):
        return dataclasses.is_dataclass(hint)
    return _is_list(hint) and isinstance(value, Sequence) and not isinstance(value, str)


def _is_list(hint: Any) -> bool:
    origin = typing.get_origin(hint) or hint
    return isinstance(origin, type) and issubclass(origin, Sequence) and not issubclass(origin, str)


def _literals(hint: Any) -> Iterator[Any]:
    for arg in typing.get_args(hint):
        yield from _literals(arg) if typing.get_args(arg) else ([arg] if typing.get_origin(hint) is Literal else [])


def _has_no_default(field: dataclasses.Field) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _show(value: Any) -> str:
    """A value as YAML writes it, cut to a line."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    text = re.sub(r"\s+", " ", str(value)) or "empty"
    return text if len(text) <= 60 else f"{text[:57]}..."

"""``solo-frossl zoo``: what checkpoints there are, fetched, verified and removed."""

import argparse
import json
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from solo_frossl.cli.errors import ConfigError, one_message
from solo_frossl.terminal import terminal_columns
from solo_frossl.zoo import (
    TIMEOUT,
    Entry,
    Index,
    ZooError,
    cached_path,
    check_file,
    fetch,
    read_index,
    remove_cached,
    remove_entry,
)

PROGRAM = "solo-frossl zoo"


def zoo(argv: Sequence[str] | None = None) -> int:
    """List, show, download, verify, add or remove checkpoints.

    Args:
        argv: the command line without the program's name; ``sys.argv`` by default.

    Returns:
        0; 1 when a file could not be downloaded, or is not what the index says.

    Raises:
        SystemExit: 2, for arguments or an index that cannot be used.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv[:1] == ["add"]:
        from solo_frossl.cli.zoo_add import zoo_add  # brings torch, for it measures

        return zoo_add(argv[1:])
    arguments = _parser().parse_args(argv)
    with one_message(PROGRAM), warnings.catch_warnings():
        warnings.showwarning = _print_warning
        try:
            return arguments.run(arguments)
        except ZooError as error:
            raise ConfigError(str(error)) from error


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    common.add_argument("--index", type=Path, metavar="FILE", help="by default the index that comes with the package")
    common.add_argument(
        "--cache", type=Path, metavar="DIR", help="by default $SOLO_FROSSL_HOME/zoo, or the platform's cache folder"
    )
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        allow_abbrev=False,
        description="Checkpoints with their configuration, accuracy and SHA-256. Their files are checked before"
        " anything reads them, and kept in a cache.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND", title="commands")

    def command(name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, parents=[common], help=text, description=f"{text[0].upper()}{text[1:]}.")
        sub.set_defaults(run=run)
        return sub

    sub = command("list", _list, "list the checkpoints, and whether their files are here")
    sub.add_argument("--json", action="store_true", help="as JSON, with everything that the index says")
    sub = command("show", _show, "show everything that the index says of a checkpoint")
    sub.add_argument("name", metavar="NAME")
    sub = command("download", _download, "download files into the cache, and print where they are")
    sub.add_argument("names", nargs="+", metavar="NAME")
    sub.add_argument(
        "--timeout",
        type=_seconds,
        default=TIMEOUT,
        metavar="SECONDS",
        help="to connect to a server, and to wait for its next bytes (default: %(default)g)",
    )
    sub = command("verify", _verify, "read cached and shipped files again, and compare size and SHA-256")
    sub.add_argument("names", nargs="*", metavar="NAME", help="by default all")
    commands.add_parser("add", add_help=False, help="make an entry from a run: zoo add RUN; see zoo add --help")
    sub = command("remove", _remove, "delete cached files")
    sub.add_argument("names", nargs="+", metavar="NAME")
    sub.add_argument(
        "--from_index",
        action="store_true",
        help="also take entry, card and shipped weights out of the index, which --index must name",
    )
    return parser


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"{text} is no number of seconds above 0")
    return value


def _print_warning(message: Warning | str, *_: Any) -> None:
    print(f"{PROGRAM}: warning: {message}", file=sys.stderr)


def _entries(arguments: argparse.Namespace) -> tuple[Index, list[Entry]]:
    """The index, and the entries of the names in the arguments, or all."""
    index = read_index(arguments.index)
    return index, [index.find(name) for name in dict.fromkeys(arguments.names or index.entries)]


# ------------------------------------------------------------------------------------------------------------ commands


def _list(arguments: argparse.Namespace) -> int:
    index = read_index(arguments.index)
    rows = [(entry, _here(entry, arguments.cache)) for entry in index.entries.values()]
    if arguments.json:
        print(json.dumps([entry.to_dict() | {"here": here[0], "path": here[1]} for entry, here in rows], indent=1))
    elif not rows:
        print(f"no checkpoint in {index.path}")
    else:
        print("\n".join(_table([_Row(entry, here[0] or "") for entry, here in rows], terminal_columns())))
    return 0


def _show(arguments: argparse.Namespace) -> int:
    entry = read_index(arguments.index).find(arguments.name)
    here, path = _here(entry, arguments.cache)
    pairs = [(key, value) for key, value in entry.to_dict().items() if key != "config"]
    pairs += [("here", f"{here}, {path}" if here else f"no: {PROGRAM} download {entry.name}")]
    for key, value in pairs:
        first, *more = _lines(key, value)
        print("\n".join([f"{key:<13} {first}", *(f"{'':<13} {line}" for line in more)]))
    print("config")
    text = yaml.safe_dump(dict(entry.config), sort_keys=False, allow_unicode=True)
    print("".join(f"  {line}\n" for line in text.splitlines()), end="")
    return 0


def _download(arguments: argparse.Namespace) -> int:
    _, entries = _entries(arguments)
    failed = 0
    for entry in entries:
        try:
            print(fetch(entry, cache=arguments.cache, timeout=arguments.timeout), flush=True)
        except ZooError as error:
            failed = 1
            print(f"{PROGRAM}: error: {error}", file=sys.stderr)
    return failed


def _verify(arguments: argparse.Namespace) -> int:
    _, entries = _entries(arguments)
    bad = files = 0
    for entry in entries:
        found = False
        for path, kind, must_be in _files(entry, arguments.cache):
            if not (must_be or path.exists()):
                continue
            found = True
            files += 1
            reason = check_file(path, entry)
            bad += reason is not None
            remedy = "download fetches it anew" if kind == "cached" else "put the right file there"
            print(f"{entry.name}: {kind}, {path}: " + (f"BAD: {reason}; {remedy}" if reason else "good"))
        if not found:
            print(f"{entry.name}: not here")
    print(f"{files} file(s), {bad} bad")
    return 1 if bad else 0


def _remove(arguments: argparse.Namespace) -> int:
    if arguments.from_index and arguments.index is None:
        raise ConfigError("--from_index changes an index; name it with --index FILE")
    index, entries = _entries(arguments)
    for entry in entries:
        removed = remove_cached(entry, arguments.cache)
        path = cached_path(entry, arguments.cache)
        print(f"{entry.name}: {'deleted' if removed else 'not cached, there is no'} {path}")
        if arguments.from_index:
            try:
                deleted = remove_entry(index, entry.name)
            except OSError as error:
                raise ConfigError(f"{entry.name} cannot be taken out of {index.path}: {error}") from error
            print("\n".join([f"{entry.name}: taken out of {index.path}", *(f"  deleted {file}" for file in deleted)]))
            index = read_index(index.path)
    return 0


# ------------------------------------------------------------------------------------------------------------- writing


def _files(entry: Entry, cache: Path | None) -> list[tuple[Path, str, bool]]:
    """Paths at which an entry's file may lie on this machine, what each is, and whether it must be there."""
    places = [place for place in entry.parsed_places() if place.kind == "file"]
    local = [(place.local(entry.folder), "shipped" if place.shipped else "file", place.shipped) for place in places]
    return [*local, (cached_path(entry, cache), "cached", False)]


def _here(entry: Entry, cache: Path | None) -> tuple[str | None, str | None]:
    """Whether an entry's file is on this machine as far as its size tells: what it is, and its path."""
    for path, kind, _ in _files(entry, cache):
        if path.is_file() and path.stat().st_size == entry.size:
            return kind, str(path)
    return None, None


def _lines(key: str, value: Any) -> list[str]:
    """The value of a field of an entry, to be read."""
    if key == "places":
        return value
    if key == "size":
        return [f"{_bytes(value)} ({value} bytes)"]
    if key == "accuracy":
        return [f"{name} {percent:.2f} %" for name, percent in value.items()] or ["not measured"]
    if isinstance(value, dict):
        return [f"{name}: {part}" for name, part in value.items()]
    return [", ".join(f"{number:.4f}" for number in value) if isinstance(value, list) else str(value)]


def _bytes(size: int) -> str:
    """
    >>> _bytes(999), _bytes(45_012_345)
    ('999 B', '45.0 MB')
    """
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} B"


class _Row(NamedTuple):
    entry: Entry
    here: str


class _Column(NamedTuple):
    cell: Callable[[_Row], str]
    numeric: bool = False


def _method(row: _Row) -> str:
    return row.entry.method + (" (target)" if row.entry.encoder == "target" else "")


def _backbone(row: _Row) -> str:
    width = row.entry.architecture.get("width", 1.0)
    return row.entry.architecture["backbone"] + (f" x{width:g}" if width != 1 else "")


def _percent(key: str) -> Callable[[_Row], str]:
    return lambda row: f"{row.entry.accuracy[key]:.2f}" if key in row.entry.accuracy else ""


_COLUMNS = {
    "name": _Column(lambda row: row.entry.name),
    "method": _Column(_method),
    "backbone": _Column(_backbone),
    "dataset": _Column(lambda row: row.entry.dataset),
    "epochs": _Column(lambda row: str(row.entry.epochs), numeric=True),
    "linear %": _Column(_percent("linear_top1"), numeric=True),
    "k-NN %": _Column(_percent("knn_top1"), numeric=True),
    "size": _Column(lambda row: _bytes(row.entry.size), numeric=True),
    "here": _Column(lambda row: row.here),
}
_GIVEN_UP = ("epochs", "size", "method", "backbone", "dataset", "k-NN %", "linear %", "here")
"""Columns that a narrow terminal does without, the first one first."""


def _table(rows: Sequence[_Row], columns: int | None) -> list[str]:
    """The lines of the table.

    Args:
        rows: at least one.
        columns: of the terminal; None: as many as it takes.
    """
    cells = {title: [title, *(column.cell(row) for row in rows)] for title, column in _COLUMNS.items()}
    widths = {title: max(map(len, texts)) for title, texts in cells.items()}
    for title in _GIVEN_UP:
        if columns is not None and sum(widths.values()) + 2 * (len(widths) - 1) > columns:
            del widths[title]
    return [
        "  ".join(
            cells[title][line].rjust(width) if _COLUMNS[title].numeric else cells[title][line].ljust(width)
            for title, width in widths.items()
        ).rstrip()
        for line in range(len(rows) + 1)
    ]

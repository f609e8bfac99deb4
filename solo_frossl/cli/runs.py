"""``solo-frossl runs``: the runs in a folder, how far they are, how good, and in what they differ."""

import argparse
import csv
import difflib
import io
import json
import math
import textwrap
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from solo_frossl.cli.config import load_yaml
from solo_frossl.cli.errors import ConfigError, one_message
from solo_frossl.compare.groups import as_yaml, flatten, short_keys
from solo_frossl.published import row_name
from solo_frossl.run_files import MetricsFileError, RunFolder, read_metrics, read_status
from solo_frossl.terminal import terminal_columns

PROGRAM = "solo-frossl runs"
_FILES = ("config.yaml", "metrics.csv", "status.json")
"""A folder with one of these is a run."""
_DEPTH = 3
"""Levels of folders that are searched for runs."""
_SILENT_SECONDS = 15 * 60
"""A run writes its status once a minute while it trains; after this long without, that is worth a word."""
_NOT_SETTINGS = ("name", "runs_dir")
_LEAST_DIFFERENCES = 24
"""Columns that differences need, to stand beside a run and not below it."""


@dataclass(frozen=True)
class Listed:
    """One run as it is listed; what is not known is None.

    Attributes:
        run: its folder, from the folder that was searched on.
        path: its folder.
        status: as :class:`solo_frossl.runs.RunStatus` has it, or ``unreadable``.
        reason: why it failed or cannot be read; else None.
        method: its row in the papers' tables.
        dataset: its dataset.
        epochs: epochs done.
        planned: epochs to be done.
        online_top1: of the last epoch that measured it, percent.
        best_online_top1: of all epochs, percent.
        best_epoch: the epoch of the best, counted from 1.
        knn_top1: of the last epoch that measured it, percent.
        effective_rank: of the validation features, in the last epoch that measured it.
        started: ISO 8601 in UTC.
        updated: the last sign of life, likewise.
        settings: its configuration by dotted key.
        differences: those of its settings that runs of the same method and dataset do not share.
    """

    run: str
    path: str
    status: str
    reason: str | None = None
    method: str | None = None
    dataset: str | None = None
    epochs: int | None = None
    planned: int | None = None
    online_top1: float | None = None
    best_online_top1: float | None = None
    best_epoch: int | None = None
    knn_top1: float | None = None
    effective_rank: float | None = None
    started: str | None = None
    updated: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict, repr=False)
    differences: Mapping[str, Any] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """Everything but the settings, by name."""
        return {name: value for name, value in vars(self).items() if name != "settings"}


def runs(argv: Sequence[str]) -> int:
    """List runs; the exit code is 0, or 2 for arguments that cannot be used.

    Args:
        argv: the command line without the program's name.
    """
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        allow_abbrev=False,
        description="List the runs in folders (up to three levels down): how they ended, their accuracies and in which"
        " settings runs of one method and dataset differ. Accuracies are percent, 'best' with its epoch.",
    )
    parser.add_argument(
        "folders", nargs="*", type=Path, default=[Path("runs")], metavar="RUNS_DIR", help="by default: runs"
    )
    parser.add_argument(
        "--filter",
        action="append",
        default=[],
        metavar="KEY=PATTERN",
        help="only runs of which this is so, as status=failed, method='dir*', data.batch_size!=256, or a part of the"
        " run's name; may be given again",
    )
    parser.add_argument(
        "--sort", choices=_SORT, default="started", help="numbers from the highest on (default: started)"
    )
    parser.add_argument("--reverse", action="store_true", help="the other way round")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="as JSON, with all digits")
    form.add_argument("--csv", action="store_true", help="as CSV, with all digits")
    with one_message(PROGRAM):
        arguments = parser.parse_args(argv)
        found = [run for folder in arguments.folders for run in find_runs(folder)]
        listed = found
        for wanted in arguments.filter:
            listed = only(listed, wanted)
        listed = sorted(with_differences(listed), key=_SORT[arguments.sort], reverse=arguments.reverse)
        if arguments.json:
            print(json.dumps([run.plain() for run in listed], indent=1))
        elif arguments.csv:
            print(_as_csv(listed), end="")
        elif not listed:
            where = ", ".join(map(str, arguments.folders))
            print(f"no run in {where}" + (f" fits {' and '.join(arguments.filter)} (of {len(found)})" if found else ""))
        else:
            print("\n".join(table(listed, terminal_columns(), datetime.now(UTC))))
    return 0


# ------------------------------------------------------------------------------------------------------------ reading


def find_runs(folder: Path) -> list[Listed]:
    """The runs in a folder, or the one that it is; those that cannot be read are listed as such.

    Raises:
        ConfigError: there is no such folder.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: there is no such folder; give the one that holds the runs")
    return [read(path, folder) for path in _run_folders(folder, _DEPTH)]


def _run_folders(folder: Path, depth: int) -> Iterator[Path]:
    if any((folder / name).is_file() for name in _FILES):
        yield folder
    elif depth:
        try:
            inner = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
        except OSError:
            return
        for path in inner:
            yield from _run_folders(path, depth - 1)


def read(path: Path, root: Path) -> Listed:
    """What can be known of one run; never an error.

    Args:
        path: the run's folder.
        root: the folder from which on it is named.
    """
    run = RunFolder(path)
    name = str(path.relative_to(root)) if path != root else path.resolve().name
    try:
        settings = load_yaml(run.config.read_text(encoding="utf-8"))
        method = row_name(settings)
    except FileNotFoundError:
        return Listed(name, str(path), "unreadable", "there is no config.yaml")
    except (KeyError, TypeError, AttributeError):
        return Listed(name, str(path), "unreadable", "config.yaml is no configuration of a run: it names no method")
    except (OSError, ValueError, yaml.YAMLError) as error:
        problem = getattr(error, "problem", None) or " ".join(str(error).split())
        return Listed(name, str(path), "unreadable", f"config.yaml cannot be read: {problem}")
    status = read_status(run)
    reason = status.reason if run.status.exists() else None
    try:
        rows = read_metrics(run.metrics) if run.metrics.exists() else {}
    except (MetricsFileError, OSError, ValueError) as error:
        rows, reason = {}, f"{run.metrics.name} cannot be read: {error}"
    planned = status.epochs or (settings.get("trainer") or {}).get("max_epochs")
    state: str = status.state
    if state == "unknown" and rows and planned and max(rows) + 1 >= planned:
        state = "finished"  # it is older than status.json
    best = max(_values(rows, "online/top1"), key=lambda pair: pair[1], default=(None, None))
    started = status.started or datetime.fromtimestamp(run.config.stat().st_mtime, UTC).isoformat(timespec="seconds")
    return Listed(
        run=name,
        path=str(path),
        status=state,
        reason=reason,
        method=method,
        dataset=str(settings.get("dataset")),
        epochs=max(rows, default=-1) + 1,
        planned=planned,
        online_top1=_last(rows, "online/top1"),
        best_online_top1=best[1],
        best_epoch=best[0],
        knn_top1=_last(rows, "knn/top1"),
        effective_rank=_last(rows, "spectrum/effective_rank"),
        started=started,
        updated=status.updated or None,
        settings={key: value for key, value in flatten(settings).items() if key not in _NOT_SETTINGS},
    )


def _values(rows: Mapping[int, Mapping[str, float]], metric: str) -> list[tuple[int, float]]:
    """Finite values with their epochs, counted from 1."""
    return [(epoch + 1, row[metric]) for epoch, row in sorted(rows.items()) if math.isfinite(row.get(metric, math.nan))]


def _last(rows: Mapping[int, Mapping[str, float]], metric: str) -> float | None:
    values = _values(rows, metric)
    return values[-1][1] if values else None


def with_differences(listed: Sequence[Listed]) -> list[Listed]:
    """The same runs, each with its settings that other runs of its method and dataset have otherwise.

    A key that a run has not is one of another version of this package, and no difference; but a group that a run has
    set to null, as ``model.momentum``, stands for each of its keys.
    """
    families: dict[Any, list[Listed]] = defaultdict(list)
    for run in listed:
        families[run.method, run.dataset].append(run)
    keys = {
        family: [
            key
            for key in dict.fromkeys(key for run in members for key in run.settings)
            if len({repr(run.settings.get(key)) for run in members if _knows(run, key)}) > 1
        ]
        for family, members in families.items()
    }
    return [
        replace(
            run,
            differences={key: run.settings.get(key) for key in keys[run.method, run.dataset] if _knows(run, key)},
        )
        for run in listed
    ]


def _knows(run: Listed, key: str) -> bool:
    """Whether a run has a key, or one above it."""
    parts = key.split(".")
    return any(".".join(parts[:i]) in run.settings for i in range(1, len(parts) + 1))


# ------------------------------------------------------------------------------------------- which ones, in which order


def only(found: Sequence[Listed], wanted: str) -> list[Listed]:
    """The runs that fit ``KEY=PATTERN``, ``KEY!=PATTERN`` or a part of the name; patterns as a shell has them.

    Args:
        found: runs.
        wanted: the key is a column's, or the whole or the end of a configuration key.

    Raises:
        ConfigError: none of the runs has such a key.
    """
    key, equals, pattern = wanted.partition("=")
    if not equals:
        return [run for run in found if wanted in run.run]
    key, unless = key.removesuffix("!"), key.endswith("!")
    values = {run.path: _values_of(run, key) for run in found}
    if found and not any(values.values()):
        known = {name for run in found for name in (*run.plain(), *run.settings)}
        near = difflib.get_close_matches(key, known, n=3)
        raise ConfigError(
            f"--filter {wanted}: no run has a key {key}" + (f"; there is {', '.join(near)}" if near else "")
        )
    return [run for run in found if any(fnmatchcase(v, pattern) for v in values[run.path]) is not unless]


def _values_of(run: Listed, key: str) -> list[str]:
    """Values of a key, as YAML writes them."""
    plain = run.plain()
    if key in plain:
        return [as_yaml(plain[key])]
    return [as_yaml(value) for name, value in run.settings.items() if f".{name}".endswith(f".{key}")]


def _highest_first(name: str) -> Callable[[Listed], Any]:
    def key(run: Listed) -> float:
        value = getattr(run, name)
        return math.inf if value is None else -value

    return key


_SORT: dict[str, Callable[[Listed], Any]] = {
    "started": lambda run: run.started or "~",
    "run": lambda run: run.run,
    "status": lambda run: (run.status, run.run),
    "method": lambda run: (run.method or "~", run.dataset or "~", run.run),
    "dataset": lambda run: (run.dataset or "~", run.method or "~", run.run),
    "epochs": _highest_first("epochs"),
    "online": _highest_first("online_top1"),
    "best": _highest_first("best_online_top1"),
    "knn": _highest_first("knn_top1"),
    "rank": _highest_first("effective_rank"),
}

# ------------------------------------------------------------------------------------------------------------ writing


class _Column(NamedTuple):
    title: str
    cell: Callable[[Listed, datetime], str]
    numeric: bool = False


def _number(name: str, form: str) -> Callable[[Listed, datetime], str]:
    return lambda run, now: "" if getattr(run, name) is None else format(getattr(run, name), form)


_COLUMNS = {
    "run": _Column("run", lambda run, now: run.run),
    "status": _Column("status", lambda run, now: run.status),
    "method": _Column("method", lambda run, now: run.method or ""),
    "dataset": _Column("dataset", lambda run, now: run.dataset or ""),
    "epochs": _Column(
        "epochs", lambda run, now: "" if run.epochs is None else f"{run.epochs}/{run.planned or '?'}", numeric=True
    ),
    "online": _Column("online %", _number("online_top1", ".2f"), numeric=True),
    "best": _Column(
        "best %",
        lambda run, now: "" if run.best_epoch is None else f"{run.best_online_top1:.2f} at {run.best_epoch}",
        numeric=True,
    ),
    "knn": _Column("k-NN %", _number("knn_top1", ".2f"), numeric=True),
    "rank": _Column("eff. rank", _number("effective_rank", ".1f"), numeric=True),
    "started": _Column(
        "started", lambda run, now: f"{_age(run.started, now)} ago" if run.started else "", numeric=True
    ),
}
_GIVEN_UP = ("rank", "dataset", "started", "method", "online", "knn")
"""Columns that a narrow terminal does without, the first one first."""


def table(listed: Sequence[Listed], columns: int | None, now: datetime) -> list[str]:
    """The lines of the table, and of remarks below it.

    Args:
        listed: the runs, in order; at least one.
        columns: of the terminal; None: as many as it takes.
        now: from which ages are counted.
    """
    names = list(_COLUMNS)
    room = math.inf if columns is None else columns
    widths = {
        name: max(len(_COLUMNS[name].title), *(len(_COLUMNS[name].cell(run, now)) for run in listed)) for name in names
    }
    widths["run"] = min(widths["run"], max(12, int(min(room, 10_000) * 0.35)))
    for name in _GIVEN_UP:
        if sum(widths[kept] + 2 for kept in names) - 2 > room:
            names.remove(name)
    widths["run"] = min(widths["run"], max(8, room - sum(widths[name] + 2 for name in names[1:])))
    left = room - sum(widths[name] + 2 for name in names)
    beside = any(run.differences for run in listed) and left >= _LEAST_DIFFERENCES

    def line(cells: Mapping[str, str], last: str) -> str:
        parts = [
            _cut(cells[name], widths[name]).rjust(widths[name])
            if _COLUMNS[name].numeric
            else _cut(cells[name], widths[name]).ljust(widths[name])
            for name in names
        ]
        return "  ".join([*parts, _cut(last, left)] if beside else parts).rstrip()

    lines = [line({name: _COLUMNS[name].title for name in names}, "differences")]
    for run in listed:
        text = differences_text(run)
        lines.append(line({name: _COLUMNS[name].cell(run, now) for name in names}, text))
        if text and not beside:
            lines.append("  " + _cut(text, room - 2))
    remarks = [f"{run.run}: {remark}" for run in listed for remark in _remarks(run, now)]
    if columns is not None:
        remarks = [line for remark in remarks for line in textwrap.wrap(remark, columns, subsequent_indent="  ")]
    return [*lines, *([""] if remarks else []), *remarks]


def differences_text(run: Listed) -> str:
    """The differing settings of a run in a line, each by the end of its key where that is clear."""
    titles = short_keys(run.differences)
    titles |= {"seed_everything": "seed"} if "seed_everything" in titles else {}
    return ", ".join(f"{titles[key]} {as_yaml(value)}" for key, value in run.differences.items())


def _remarks(run: Listed, now: datetime) -> Iterator[str]:
    if run.reason:
        yield f"{run.status}: {run.reason}"
    if run.status == "running" and run.updated and _seconds(run.updated, now) > _SILENT_SECONDS:
        yield f"says that it is running, but has not said so for {_age(run.updated, now)}"


def _seconds(since: str, now: datetime) -> float:
    try:
        return (now - datetime.fromisoformat(since)).total_seconds()
    except (ValueError, TypeError):
        return 0.0


def _age(since: str, now: datetime) -> str:
    seconds = _seconds(since, now)
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def _cut(text: str, width: float) -> str:
    return text if len(text) <= width else text[: max(0, int(width) - 1)] + "…"


def _as_csv(listed: Sequence[Listed]) -> str:
    out = io.StringIO()
    names = [field.name for field in fields(Listed) if field.name != "settings"]
    writer = csv.DictWriter(out, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(run.plain() | {"differences": differences_text(run)} for run in listed)
    return out.getvalue()

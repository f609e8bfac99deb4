"""``solo-frossl compare``: runs side by side, as one page that opens from disk."""

import argparse
import glob
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from solo_frossl.cli.config import load_yaml
from solo_frossl.cli.errors import ConfigError, one_message
from solo_frossl.compare import Comparison, Run, compare_runs, read_run, write_comparison

PROGRAM = "solo-frossl compare"


def compare(argv: Sequence[str]) -> int:
    """Compare the runs that the command line names; the exit code is 0, or 2 for what cannot be compared.

    Args:
        argv: the command line without the program's name.
    """
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Read run folders, also of runs that still train, and write one page (index.html), the same as"
        " Markdown and CSV, and figures. Runs that differ only in their seed become one curve with a band.",
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folder, folder of run folders, or quoted pattern")
    parser.add_argument("--out", type=Path, default=Path("comparison"), help="folder to write to (default: comparison)")
    parser.add_argument(
        "--epochs",
        type=_epoch,
        nargs="+",
        metavar="N",
        help="epochs to put into the tables, from 1; by default those of the papers' table for the dataset",
    )
    parser.add_argument(
        "--reach",
        type=_percent,
        nargs="+",
        metavar="PERCENT",
        help="accuracies to be reached; by default some round ones in the range of the runs",
    )
    with one_message(PROGRAM):
        arguments = parser.parse_args(argv)
        started = time.monotonic()
        runs = read_runs(find_run_folders(arguments.runs))
        comparison = compare_runs(runs, arguments.epochs, arguments.reach)
        write(comparison, arguments.out)
        for run in runs:
            print("\n".join(f"{run.folder}: {remark}" for remark in run.remarks), end="\n" * bool(run.remarks))
        groups, parts = len(comparison.groups), len(comparison.parts)
        print(
            f"{_count(len(comparison.runs), 'run')} of {_count(groups, 'method')} on {_count(parts, 'dataset')},"
            f" {time.monotonic() - started:.0f} s. Written to {arguments.out}: index.html, comparison.md,"
            " comparison.csv, tables, figures"
        )
    return 0


def write(comparison: Comparison, out: Path) -> None:
    """Write a comparison.

    Raises:
        ConfigError: the folder cannot be written to.
    """
    try:
        write_comparison(comparison, out)
    except OSError as error:
        raise ConfigError(f"{out} cannot be written ({error}); choose another folder with --out") from error


def find_run_folders(given: Sequence[str]) -> list[Path]:
    """Run folders that paths stand for, each once, in their order.

    Args:
        given: run folders, folders that hold run folders (up to two levels down), or patterns of them. Files that a
            pattern meets are passed over.

    Raises:
        ConfigError: a path does not exist, or is no run and holds none.
    """
    folders: dict[Path, Path] = {}
    for text in given:
        for path in _expand(text):
            for folder in _runs_at(path):
                folders.setdefault(folder.resolve(), folder)
    if not folders:
        raise ConfigError(f"{' '.join(given)}: only files; a run is a folder with a config.yaml")
    return list(folders.values())


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """The runs in some folders; one whose configuration cannot be read is left out, with a line on standard error.

    Raises:
        ConfigError: none can be read.
    """
    runs, problems = [], []
    for folder in folders:
        try:
            runs.append(read_run(folder, read_config(folder)))
        except ConfigError as error:
            problems.append(f"{error}: the run is left out")
    if not runs:
        raise ConfigError("\n".join(["no run can be read", *problems]))
    for problem in problems:
        print(problem, file=sys.stderr)
    return runs


def read_config(folder: Path) -> dict[str, Any]:
    """The configuration in a run folder.

    Raises:
        ConfigError: it cannot be read, or is none of a run.
    """
    path = folder / "config.yaml"
    try:
        config = load_yaml(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(config, dict) or "method" not in config:
        raise ConfigError(f"{path} is no configuration of a run: it names no method")
    if odd := [key for key in ("model", "data", "trainer") if not isinstance(config.get(key, {}), dict | None)]:
        raise ConfigError(f"{path} is no configuration of a run: {odd[0]} has no keys but {config[odd[0]]!r}")
    return config


def _expand(text: str) -> list[Path]:
    if Path(text).exists():
        return [Path(text)]
    found = [Path(path) for path in sorted(glob.glob(text))]
    if not found:
        raise ConfigError(f"{text}: there is no such folder")
    return found


def _runs_at(path: Path) -> Iterator[Path]:
    if path.is_file():
        print(f"{path} is a file, not a run folder: passed over", file=sys.stderr)
        return
    for pattern in ("config.yaml", "*/config.yaml", "*/*/config.yaml"):
        if found := sorted(path.glob(pattern)):
            yield from (file.parent for file in found)
            return
    raise ConfigError(
        f"{path} is no run folder and holds none: a run has a config.yaml, which is written when training starts"
    )


def _epoch(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no epoch: they count from 1")
    return int(text)


def _percent(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value <= 100:
        raise argparse.ArgumentTypeError(f"{text} is no accuracy: give percent, above 0 and up to 100")
    return value


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' if number != 1 else ''}"

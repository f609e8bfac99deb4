"""``solo-frossl reproduce``: the runs of a paper's table or figure, and its numbers beside the paper's."""

import argparse
import difflib
import inspect
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from solo_frossl.cli.compare import read_runs
from solo_frossl.cli.config import compose, load_yaml
from solo_frossl.cli.errors import ConfigError, one_message
from solo_frossl.cli.pretrain import parse, quiet
from solo_frossl.compare import compare_runs, write_comparison
from solo_frossl.data import DATASETS, ImageFolder
from solo_frossl.reproduce import TABLES, Cell, Outcome, Scale, Table, plan, remaining, run_cells, summary
from solo_frossl.reproduce.runner import option
from solo_frossl.run_files import RunFolder, read_status

PROGRAM = "solo-frossl reproduce"
GRID = "grid.json"
"""Says in a folder of runs which table they are of, and how they are smaller."""
OWN_OPTIONS = {
    "trainer.max_epochs": "--scale epochs=N",
    "stop_after_epoch": "--scale stop=N",
    "data.subset": "--scale subset=N",
    "data.root": "--data",
    "dataset": "--dataset",
    "seed_everything": "--seeds",
    "runs_dir": "--runs_dir",
    "name": None,
    "config": None,
    "method": None,
    "resume": None,
    "dry_run": None,
}
"""Options of pretraining that the grid sets itself, and what to say instead."""
INTERRUPTED = 130
"""Exit code after Ctrl-C and SIGTERM."""


def reproduce(argv: Sequence[str] | None = None) -> int:
    """Train a table's runs and report.

    The exit code is 0, 1 if a run failed, 2 for arguments that cannot be used, 130 after Ctrl-C and SIGTERM.

    Args:
        argv: the command line without the program's name; ``sys.argv`` by default.
    """
    quiet()
    with one_message(PROGRAM):
        return _reproduce(list(sys.argv[1:] if argv is None else argv))


def _parser() -> argparse.ArgumentParser:
    width = max(map(len, TABLES))
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        description="Train every run of a table or figure, each in a folder of its own, then write the table with the"
        " paper's numbers beside ours.\nAsked again, finished runs are kept and interrupted ones resumed. Arguments"
        " after -- go to every pretraining:\n\n"
        "    solo-frossl reproduce frossl-table3 --data datasets --jobs 2 -- --trainer.precision bf16-mixed",
        epilog="names:\n" + "\n".join(f"  {name:<{width}}  {table.caption}" for name, table in TABLES.items()),
    )
    add = parser.add_argument
    add("name", metavar="NAME", help="table or figure, one of the names below")
    add(
        "--data",
        metavar="DIR",
        default="datasets",
        help="folder of the images (data.root); CIFAR and STL-10 are"
        " downloaded into it if they are missing. Default: datasets",
    )
    add(
        "--dataset",
        choices=DATASETS,
        metavar="NAME",
        help="train on this dataset instead, with the settings of the"
        " table's first one (or --datasets); the result is labelled so. folder: images in class folders",
    )
    add(
        "--runs_dir",
        type=Path,
        metavar="DIR",
        help="where the run folders go; default runs/NAME, and a name of its own for what --scale and --dataset change",
    )
    add("--seeds", type=int, nargs="+", metavar="SEED", help="default: the table's, 0 or the paper's five")
    add("--methods", nargs="+", metavar="ROW", help="only these rows")
    add("--datasets", nargs="+", metavar="NAME", help="only these of the table's datasets")
    add(
        "--scale",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="smaller runs, labelled so: epochs, stop (train up to"
        " this epoch with the schedules of the whole run), subset (training images), batch_size, image_size, stem"
        " (imagenet: with max-pool; or cifar), as in --scale epochs=8 subset=5000",
    )
    add("--jobs", type=int, default=1, help="runs at once, each on GPUs of its own where there are enough; default 1")
    add("--devices", type=int, default=1, help="devices of each run; default 1")
    add("--threads", type=int, help="CPU threads of each process; default: all cores shared equally")
    add(
        "--list",
        action="store_true",
        help="train nothing; print a line of shell for each run that is not finished, for a cluster's array job; what"
        " these runs are is noted in grid.json",
    )
    add("--report_only", "--report-only", action="store_true", help="run nothing; write the report of what there is")
    return parser


def _reproduce(argv: list[str]) -> int:
    split = argv.index("--") if "--" in argv else len(argv)
    args, extra = _parser().parse_args(argv[:split]), argv[split + 1 :]
    for name in ("jobs", "devices"):
        if getattr(args, name) < 1:
            raise ConfigError(f"--{name} is {getattr(args, name)}: it must be at least 1")
    for argument in extra:
        key = argument.split("=")[0].removeprefix("--")
        if argument.startswith("--") and key in OWN_OPTIONS:
            instead = f"; say it by {OWN_OPTIONS[key]}" if OWN_OPTIONS[key] else ""
            raise ConfigError(f"{argument} after --: {key} is set for each run{instead}")
    table, scale = _table(args.name), _scale(args.scale)
    runs_dir = args.runs_dir or Path("runs") / "-".join([table.name, *_changes_in_name(scale, args.dataset)])
    try:
        cells = plan(
            table,
            _lookup,
            root=args.data,
            images=args.dataset,
            seeds=args.seeds,
            rows=args.methods,
            datasets=args.datasets,
            scale=scale,
        )
    except ValueError as error:
        raise ConfigError(str(error)) from error
    grid = _grid(runs_dir, table, scale, args.dataset)
    devices = [f"--trainer.devices={args.devices}", "--trainer.strategy=ddp"] if args.devices > 1 else []
    if not args.report_only:
        grid["arguments"] = list(dict.fromkeys([*grid["arguments"], shlex.join(extra)]))
    changes = _changes(table, scale, args, grid["arguments"])
    if args.report_only:
        if not runs_dir.is_dir():
            raise ConfigError(f"there is no {runs_dir}: run without --report_only first, or give --runs_dir")
        _report(table, cells, runs_dir, changes)
        return 0
    if not args.list:
        _prepare_data(cells, args.data, args.dataset, extra)
    _write_grid(runs_dir, grid)
    if args.list:
        _list(cells, runs_dir, [*devices, *extra])
        return 0
    print("\n  ".join([f"{table.name}: {len(cells)} runs in {runs_dir}", *changes]), flush=True)
    try:
        outcomes = run_cells(
            cells,
            runs_dir,
            jobs=args.jobs,
            devices=args.devices,
            threads=args.threads,
            extra=[*devices, *extra],
            say=lambda text: print(text, flush=True),
        )
    except ValueError as error:
        raise ConfigError(str(error)) from error
    code = _conclude(outcomes)
    if code != INTERRUPTED:
        _report(table, cells, runs_dir, changes)
    return code


def _table(name: str) -> Table:
    if name not in TABLES:
        near = difflib.get_close_matches(name, TABLES, n=1)
        meant = f"did you mean {near[0]}? There are" if near else "there are"
        raise ConfigError(f"there is no table or figure {name}; {meant} {', '.join(TABLES)}")
    return TABLES[name]


def _list(cells: Sequence[Cell], runs_dir: Path, extra: Sequence[str]) -> None:
    """A line of shell for each cell that is neither finished nor being trained."""
    for cell in cells:
        if read_status(RunFolder(runs_dir / cell.name)).state == "running":
            print(f"{PROGRAM}: {cell.name} is being trained", file=sys.stderr)
        elif commands := remaining(cell, runs_dir, extra):
            print(" && ".join(shlex.join(command) for command in commands))


def _scale(items: Sequence[str]) -> Scale:
    """``epochs=8 subset=5000``, also with commas between."""
    values: dict[str, Any] = {}
    known = asdict(Scale())
    for item in ",".join(items).split(",") if items else []:
        name, equals, text = item.partition("=")
        if name not in known or not equals:
            raise ConfigError(f"--scale {item}: give KEY=VALUE, where KEY is one of {', '.join(known)}")
        values[name] = text if name == "stem" else load_yaml(text)
        whole = isinstance(values[name], int) and not isinstance(values[name], bool)
        if name != "stem" and not (whole or (name == "subset" and isinstance(values[name], float))):
            raise ConfigError(f"--scale {item}: {name} must be a whole number")
    try:
        return Scale(**values)
    except ValueError as error:
        raise ConfigError(f"--scale: {error}") from error


@cache
def _composed(config: str):
    return compose([config])


def _lookup(config: str, key: str) -> Any:
    return _composed(config).get(key)


def _changes_in_name(scale: Scale, images: str | None) -> list[str]:
    """What distinguishes the default folder of these runs from that of the table's own.

    >>> _changes_in_name(Scale(epochs=8, subset=0.1), "folder")
    ['folder', 'epochs8', 'subset0.1']
    """
    return [
        *([images] if images else []),
        *(f"{name}{value}" for name, value in _lasting(scale).items()),
    ]


def _lasting(scale: Scale) -> dict[str, Any]:
    """What must stay as it is when runs are gone on with; how far they are trained need not."""
    return {name: value for name, value in scale.given().items() if name != "stop"}


def _grid(runs_dir: Path, table: Table, scale: Scale, images: str | None) -> dict[str, Any]:
    """What is to stand in ``grid.json``, with the arguments of the runs that are there already.

    Raises:
        ConfigError: the folder holds runs of another table, or smaller in another way.
    """
    asked = {"table": table.name, "dataset": images, "scale": _lasting(scale)}
    file = runs_dir / GRID
    if not file.is_file():
        return asked | {"arguments": []}
    try:
        there = json.loads(file.read_text(encoding="utf-8"))
        arguments = list(there["arguments"])
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"{file} cannot be read ({error}): give another --runs_dir") from error
    if differing := [f"{key} {there.get(key)}, not {value}" for key, value in asked.items() if there.get(key) != value]:
        raise ConfigError(
            f"{runs_dir} holds other runs ({'; '.join(differing)}): ask for these, or give another --runs_dir"
        )
    return asked | {"arguments": arguments}


def _write_grid(runs_dir: Path, grid: Mapping[str, Any]) -> None:
    try:
        runs_dir.mkdir(parents=True, exist_ok=True)
        (runs_dir / GRID).write_text(json.dumps(grid, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{runs_dir} cannot be written ({error}): give another --runs_dir") from error


def _changes(table: Table, scale: Scale, args: argparse.Namespace, arguments: Sequence[str]) -> list[str]:
    """What makes the runs other than the paper's, in words."""
    changes = [scale.in_words()] if scale.given() else []
    if args.dataset:
        of = (args.datasets or table.datasets)[0]
        changes.append(f"trained on {args.dataset} ({args.data}) with the settings of {of}")
    if any(arguments):
        changes.append(f"arguments {' or '.join(text or 'none' for text in arguments)}")
    return changes


def _prepare_data(cells: Sequence[Cell], root: str, images: str | None, extra: Sequence[str]) -> None:
    """Download what can be, once and before several processes would, and find out early about what is missing.

    Raises:
        ConfigError: the images are not there, or not as the dataset has them; or the arguments of a dataset's first
            run cannot be used.
    """
    firsts = {images or cell.dataset: cell for cell in reversed(cells)}
    for name, cell in firsts.items():
        dataset = DATASETS[name]
        try:
            if "download" in inspect.signature(dataset).parameters:
                dataset(root=root, download=True).prepare_data()
            elif issubclass(dataset, ImageFolder) and not Path(root).is_dir():
                raise FileNotFoundError(f"no folder {Path(root).absolute()}: give the folder of the images with --data")
            else:
                given = [option(key, value) for key, value in cell.options.items()]
                parse(["--config", cell.config, *given, *extra]).instantiate()
        except (OSError, ValueError, ConfigError) as error:
            others = f"; or leave {name} out by --datasets" if len(firsts) > 1 else ""
            after = "; give data.class_list after --" if "data.class_list" in str(error) else ""
            raise ConfigError(f"{error}{after}{others}") from error


def _conclude(outcomes: Mapping[str, Outcome]) -> int:
    """Say what is not finished; the exit code."""
    left = {name: outcome for name, outcome in outcomes.items() if outcome.state != "finished"}
    if not left:
        return 0
    done = len(outcomes) - len(left)
    print(f"\n{done} of {len(outcomes)} runs are finished; the same command goes on with the others:")
    for name, outcome in left.items():
        print(f"  {name}: {outcome.state}{f', {outcome.text}' if outcome.text else ''}")
    return INTERRUPTED if {"stopped", "waiting"} & {outcome.state for outcome in left.values()} else 1


def _report(table: Table, cells: Sequence[Cell], runs_dir: Path, changes: Sequence[str]) -> None:
    """Write and print the table, and put the runs side by side."""
    text = summary(table, cells, runs_dir, changes)
    (runs_dir / f"{table.name}.md").write_text(text, encoding="utf-8")
    written = [f"{table.name}.md"]
    begun = [folder for cell in cells if (folder := runs_dir / cell.name).joinpath("config.yaml").is_file()]
    if begun:
        about = [f"{table.caption}.", *(f"Not the paper's setting: {change}." for change in changes)]
        comparison = compare_runs(read_runs(begun), remarks=about)
        write_comparison(comparison, runs_dir / "comparison")
        written.append("comparison/index.html")
    print(f"\n{text}\nWritten to {runs_dir}: {', '.join(written)}")

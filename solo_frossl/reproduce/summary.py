"""A reproduced table in Markdown: our number beside the paper's."""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from solo_frossl.compare.names import method_name
from solo_frossl.published import published_for
from solo_frossl.reproduce.plan import Cell
from solo_frossl.reproduce.tables import Column, Lead, Table
from solo_frossl.run_files import RunFolder, read_metrics

Measured = Mapping[str, Mapping[int, float]]
"""Values by metric and epoch, counted from 1; of the linear probe at epoch 0."""


def summary(table: Table, cells: Sequence[Cell], runs_dir: Path, changes: Sequence[str] = ()) -> str:
    """The table as Markdown, from whatever its runs have written so far.

    A number of several seeds is their mean and standard deviation (of the sample). A cell without a run yet is a dash.
    Columns that none of the runs is to reach, their epochs or their probe, are left out, with a note.

    Args:
        table: the table.
        cells: its runs.
        runs_dir: folder of the run folders.
        changes: what makes these runs other than the table's, each in words; they are put above the table.
    """
    columns = [column for column in table.columns if any(_belongs(cell, column) for cell in cells)]
    measured = {cell.name: _measured(RunFolder(runs_dir / cell.name)) for cell in cells}
    columns = _with_last_epochs(columns, cells)
    beyond = [column for column in columns if not any(_reaches(cell, column) for cell in cells)]
    if len(beyond) < len(columns):
        columns = [column for column in columns if column not in beyond]
    lines = ["| row |", "|---|"]
    texts: dict[str, list[str]] = {row: [] for row in table.rows if any(cell.row == row for cell in cells)}
    for column in columns:
        papers = {row: _paper(table, row, column) for row in texts}
        beside = any(papers.values())
        lines[0] += f" {column.title}{': ours / paper' if beside else ''} |"
        lines[1] += "---|"
        for row, text in texts.items():
            values = [_value(measured[c.name], c, column) for c in cells if c.row == row and _belongs(c, column)]
            text.append(_ours(values, column.digits) + (f" / {papers[row] or '–'}" if beside else ""))
    lines += [f"| {row} | {' | '.join(text)} |" for row, text in texts.items()]
    seeds = sorted({cell.seed for cell in cells})
    about = [f"{table.caption}. Seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}."]
    if changes:
        about += ["", f"**Not the paper's setting: {'; '.join(changes)}.**"]
    notes = [_lead(lead, cells, measured) for lead in table.leads if {lead.row, lead.over} <= texts.keys()]
    notes += table.notes
    if beyond:
        notes.append(f"Left out, for these runs do not get there: {'; '.join(column.title for column in beyond)}.")
    notes = ["", *(f"* {note}" for note in notes)] if notes else []
    return "\n".join([f"# {table.name}", "", *about, "", *lines, *notes]) + "\n"


def _with_last_epochs(columns: list[Column], cells: Sequence[Cell]) -> list[Column]:
    """The columns, and one more for each metric whose epochs are cut short between two of them."""
    last = max((cell.epochs for cell in cells), default=0)
    for metric in dict.fromkeys(column.metric for column in columns if column.epoch is not None):
        by_epoch = [column for column in columns if column.metric == metric and column.epoch is not None]
        after = next((column for column in by_epoch if column.epoch >= last), None)
        if after is not None and after.epoch > last:
            title = after.title.removesuffix(str(after.epoch)) + str(last)
            place = columns.index(after)
            columns = [*columns[:place], replace(after, title=title, epoch=last), *columns[place:]]
    return columns


def _lead(lead: Lead, cells: Sequence[Cell], measured: Mapping[str, Measured]) -> str:
    """Our difference of two rows beside the paper's; a dash where one of them is not there yet."""
    ours = [
        [v for c in cells if c.row == row and (v := _value(measured[c.name], c, lead.column)) is not None]
        for row in (lead.row, lead.over)
    ]
    points = f"{statistics.mean(ours[0]) - statistics.mean(ours[1]):+.1f}" if all(ours) else "–"
    of = f"{method_name(lead.row)} - {method_name(lead.over)}, {lead.column.title}"
    return f"{of}: ours {points} / paper's {lead.points:+.1f}."


def _reaches(cell: Cell, column: Column) -> bool:
    """Whether a finished run fills a column."""
    if column.metric.startswith("linear/"):
        return cell.probe is not None and _belongs(cell, column)
    return (column.epoch or 0) <= cell.epochs and _belongs(cell, column)


def _belongs(cell: Cell, column: Column) -> bool:
    return column.dataset in (None, cell.dataset)


def _measured(run: RunFolder) -> Measured:
    """What a run has written so far."""
    values: dict[str, dict[int, float]] = {}
    if run.metrics.is_file():
        for epoch, row in read_metrics(run.metrics).items():
            for metric, value in row.items():
                values.setdefault(metric, {})[epoch + 1] = value
    probe = run.path / "linear" / "linear.json"
    if probe.is_file():
        result = json.loads(probe.read_text(encoding="utf-8"))
        values |= {f"linear/{name}": {0: result[name]} for name in ("top1", "top5") if result.get(name) is not None}
    return values


def _value(measured: Measured, cell: Cell, column: Column) -> float | None:
    by_epoch = measured.get(column.metric, {})
    if column.metric.startswith("linear/"):
        return by_epoch.get(0)
    return by_epoch.get(column.epoch or cell.epochs)


def _paper(table: Table, row: str, column: Column) -> str:
    """What the paper prints, with its standard deviation where it has one; empty where it prints nothing."""
    for published in published_for(column.dataset or table.datasets[0], column.metric):
        if published.table == table.name and row in published.values:
            if column.epoch is None:
                position = -1
            elif column.epoch in published.epochs:
                position = published.epochs.index(column.epoch)
            else:
                continue
            value = published.values[row][position]
            deviation = published.deviations.get(row, (None,) * len(published.values[row]))[position]
            if value is not None:
                return f"{value:.1f}" + (f" ± {deviation:.1f}" if deviation is not None else "")
    return ""


def _ours(values: Sequence[float | None], digits: int) -> str:
    """Mean, and standard deviation where there are several; a dash for nothing.

    >>> _ours([41.0, None, 43.0], 1), _ours([None], 1)
    ('42.0 ± 1.4', '–')
    """
    numbers = [value for value in values if value is not None]
    if not numbers:
        return "–"
    deviation = f" ± {statistics.stdev(numbers):.{digits}f}" if len(numbers) > 1 else ""
    return f"{statistics.mean(numbers):.{digits}f}{deviation}"

"""The files of a comparison: the page, the same as Markdown and as CSV, and figures for a paper."""

import csv
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

from solo_frossl.compare.charts import sorted_labels
from solo_frossl.compare.comparison import Comparison
from solo_frossl.compare.figures import draw_figures
from solo_frossl.compare.page import render_page, slug
from solo_frossl.compare.tables import Cell, Table
from solo_frossl.replacing import replacing


def write_comparison(comparison: Comparison, out: Path) -> list[Path]:
    """Write ``index.html``, ``comparison.md``, ``comparison.csv``, ``tables/*.csv`` and ``figures/*.png`` and ``.pdf``.

    Each file is replaced as a whole, so that a page that is open can be loaded again at any time.

    Args:
        comparison: what is compared.
        out: the folder; it is made.

    Returns:
        The files.

    Raises:
        OSError: the folder or a file in it cannot be written.
    """
    written = [
        _replace(out / "index.html", render_page(comparison)),
        _replace(out / "comparison.md", markdown(comparison)),
        _replace(out / "comparison.csv", tidy_csv(comparison)),
    ]
    numbers = {label: number for number, label in enumerate(sorted_labels(comparison.groups))}
    for part in comparison.parts:
        prefix = f"{slug(part.name)}-" if len(comparison.parts) > 1 else ""
        files = {f"{prefix}{slug(table.name)}.csv": table for table in part.tables}
        written += [_replace(out / "tables" / name, table_csv(table)) for name, table in files.items()]
        written += draw_figures(part, out / "figures", numbers, prefix)
    return written


def tidy_csv(comparison: Comparison) -> str:
    """Every number of every run, one a line: ``run,method,seed,dataset,epoch,metric,value``; epochs count from 1."""
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("run", "method", "seed", "dataset", "epoch", "metric", "value"))
    for group in comparison.groups:
        for run in group.runs:
            about = (run.name, group.label, run.seed, run.dataset)
            writer.writerows(
                (*about, epoch, metric, repr(value))
                for epoch, row in run.metrics.items()
                for metric, value in row.items()
            )
            writer.writerows((*about, run.epochs, f"linear/{name}", repr(value)) for name, value in run.linear.items())
    return text.getvalue()


def table_csv(table: Table) -> str:
    """A table: unrounded numbers with their signs (≤, >, ≈), else the text; deviations and notes in own columns."""
    columns: list[list[str]] = []
    for title, cells in zip(_flat_titles(table), zip(*table.rows, strict=True), strict=True):
        columns.append([title, *(_plain(cell) for cell in cells)])
        if any(cell.deviation is not None for cell in cells):
            deviations = ("" if cell.deviation is None else repr(cell.deviation) for cell in cells)
            columns.append([f"{title}: standard deviation", *deviations])
        if any(cell.note for cell in cells):
            columns.append([f"{title}: note", *(cell.note for cell in cells)])
    text = StringIO()
    csv.writer(text, lineterminator="\n").writerows(zip(*columns, strict=True))
    return text.getvalue()


def markdown(comparison: Comparison) -> str:
    """Every table of the page as Markdown, with a line for each figure."""
    lines = [f"# {comparison.title}", "", comparison.lead]
    for remark in comparison.remarks:
        lines += ["", f"**{_escape(remark)}**"]
    for part in comparison.parts:
        prefix = f"{slug(part.name)}-" if len(comparison.parts) > 1 else ""
        lines += ["", f"## {part.name}"]
        if part.accuracies:
            lines += ["", f"![Accuracy by epoch](figures/{prefix}accuracy.png)"]
        for table in part.tables:
            lines += ["", *markdown_table(table)]
    return "\n".join(lines) + "\n"


def markdown_table(table: Table) -> Iterator[str]:
    """The lines of a table."""
    yield f"**{table.caption}**"
    yield ""
    yield f"| {' | '.join(map(_escape, _flat_titles(table)))} |"
    sides = ["---" if i < table.text_columns else "---:" for i in range(len(table.columns))]
    yield f"| {' | '.join(sides)} |"
    for row in table.rows:
        yield f"| {' | '.join(map(_markdown_cell, row))} |"
    if table.notes:
        yield ""
        yield from (f"- {note}" for note in table.notes)


def _markdown_cell(cell: Cell) -> str:
    text = f"**{_escape(cell.text)}**" if cell.best else _escape(cell.text)
    return f"{text} ({_escape(cell.note)})" if cell.note else text


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("*", "\\*").replace("_", "\\_").replace("<", "&lt;")


def _flat_titles(table: Table) -> list[str]:
    """Column titles with those that span them: ``after epoch 3: ours``."""
    above = [text for text, width in table.spans for _ in range(width)] or [""] * len(table.columns)
    return [f"{a}: {title}" if a else title for a, title in zip(above, table.columns, strict=True)]


def _plain(cell: Cell) -> str:
    return cell.text if cell.value is None else f"{cell.sign} {cell.value!r}".strip()


def _replace(path: Path, text: str) -> Path:
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")
    return path

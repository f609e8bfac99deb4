"""A table and its cells: numbers with their deviations and signs, and the best of a column."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from solo_frossl.compare.convergence import Spread


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        text: what it shows.
        value: the number behind the text, unrounded; None for text and for what is missing.
        sign: what stands before it: ≤ where the true number is at most the value, > where it is more, ≈ where it is
            estimated.
        deviation: the standard deviation behind it.
        best: whether it is the best of its column.
        note: small print behind the text.
    """

    text: str = ""
    value: float | None = None
    deviation: float | None = None
    sign: str = ""
    best: bool = False
    note: str = ""


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        name: for the name of its CSV file, ``accuracy-online-top1``.
        caption: what it shows, one sentence.
        columns: titles; the first column names the row.
        rows: cells, one a column.
        spans: titles above the columns and how many columns each spans; empty if there is none.
        notes: what a reader must know, a sentence each.
        text_columns: how many columns, from the left, hold words.
    """

    name: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    spans: tuple[tuple[str, int], ...] = ()
    notes: tuple[str, ...] = ()
    text_columns: int = 1

    @property
    def starts(self) -> list[int]:
        """Columns, from 0, at which a span but the first begins."""
        return list(accumulate(width for _, width in self.spans))[:-1]


MISSING = Cell("–")


def compact_table(
    name: str,
    caption: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    spans: Sequence[tuple[str, int]] = (),
    notes: Sequence[str] = (),
    text_columns: int = 1,
) -> Table:
    """A table without the columns, after the first, that are empty in every row."""
    kept = [i for i in range(len(columns)) if i == 0 or any(row[i].text not in ("", MISSING.text) for row in rows)]
    ends = list(accumulate(width for _, width in spans))
    widths = [sum(end - width <= i < end for i in kept) for (_, width), end in zip(spans, ends, strict=True)]
    return Table(
        name=name,
        caption=caption,
        columns=tuple(columns[i] for i in kept),
        rows=tuple(tuple(row[i] for i in kept) for row in rows),
        spans=tuple((text, width) for (text, _), width in zip(spans, widths, strict=True) if width),
        notes=tuple(notes),
        text_columns=sum(i < text_columns for i in kept),
    )


def number(value: Spread | None, digits: int = 1) -> Cell:
    """A cell of a mean and its standard deviation.

    >>> number(Spread(41.26, 0.42, 3)).text, number(Spread(1234.5, None, 1), 0).text, number(None).text
    ('41.3 ± 0.4', '1,234', '–')
    >>> number(Spread(69566.94, 1569.01, 3)).text, number(Spread(8.8e9, 2.5e8, 3)).text
    ('69,567 ± 1,569', '8.8e+09 ± 2.5e+08')
    """
    if value is None:
        return MISSING
    size = abs(value.mean)
    form = f",.{digits}f" if size < 1e4 else ",.0f" if size < 1e6 else ".1e"
    text = format(value.mean, form)
    if value.deviation is not None:
        text += f" ± {value.deviation:{form}}"
    return Cell(text, value.mean, value.deviation)


def signed(cell: Cell, sign: str = "", estimate: bool = False) -> Cell:
    """A number with its sign before it; nothing is put before what is missing."""
    sign = f"{sign} {'≈' if estimate else ''}".strip()
    return replace(cell, text=f"{sign} {cell.text}", sign=sign) if sign and cell.value is not None else cell


def mark_best(
    rows: Sequence[Sequence[Cell]], columns: Sequence[int], lowest: bool = False
) -> tuple[tuple[Cell, ...], ...]:
    """The rows with the highest (or lowest) value of each given column marked, where :func:`best_of` knows it."""
    marked = [list(row) for row in rows]
    for column in columns:
        if (best := best_of([row[column] for row in rows], lowest)) is not None:
            marked[best][column] = replace(marked[best][column], best=True)
    return tuple(tuple(row) for row in marked)


def best_of(cells: Sequence[Cell], lowest: bool = False) -> int | None:
    """Which cell of a column has the highest (or lowest) value; None where that is not sure.

    It is not sure where several have it, where fewer than half of the cells have a number, where a number that is only
    known to be at most its value (≤) is among them, or one that is only known to be more (>) than less than the best.
    """
    known = [cell for cell in cells if cell.value is not None]
    exact = [cell.value for cell in known if ">" not in cell.sign]
    if len(known) < 2 or 2 * len(known) < len(cells) or not exact or any("≤" in cell.sign for cell in known):
        return None
    best = min(exact) if lowest else max(exact)
    if exact.count(best) > 1 or any(">" in cell.sign and cell.value < best for cell in known):
        return None
    return next(i for i, cell in enumerate(cells) if cell.value == best and ">" not in cell.sign)

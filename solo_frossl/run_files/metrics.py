"""``metrics.csv``: one row an epoch, one column a metric, whole at every moment."""

import csv
from collections.abc import Iterable
from pathlib import Path

from solo_frossl.replacing import replacing

Rows = dict[int, dict[str, float]]
"""Metrics by name, by epoch from 0."""


class MetricsFileError(ValueError):
    """A metrics file is not one that :class:`~solo_frossl.report.EpochCSV` wrote."""


def read_metrics(path: str | Path) -> Rows:
    """Metrics of each epoch in a file of :class:`~solo_frossl.report.EpochCSV`, without what an epoch did not measure.

    Raises:
        FileNotFoundError: no such file.
        MetricsFileError: naming the line that cannot be read.
    """
    with open(path, newline="", encoding="utf-8") as file:
        return parse_metrics(file, path)


def parse_metrics(lines: Iterable[str], source: str | Path) -> Rows:
    """Metrics of each epoch in the lines of such a file.

    Args:
        lines: the file's lines, with their ends.
        source: the file, for the message.

    Raises:
        MetricsFileError: naming the line that cannot be read.
    """
    rows: Rows = {}
    reader = csv.reader(lines, strict=True)
    try:
        header = next(reader, [])
        if header[:1] != ["epoch"] or len(set(header)) != len(header):
            raise ValueError(f"the columns {','.join(header)!r} are not 'epoch' and then names of metrics")
        for epoch, *values in reader:
            if int(epoch) in rows:
                raise ValueError(f"epoch {epoch} stands in it twice")
            pairs = zip(header[1:], values, strict=True)
            rows[int(epoch)] = {name: float(value) for name, value in pairs if value}
    except (ValueError, csv.Error) as error:
        raise MetricsFileError(
            f"{source}, line {max(1, reader.line_num)}: not a table of metrics by epoch: {error}"
        ) from error
    return rows


def write_metrics(path: str | Path, rows: Rows) -> None:
    """Write the table atomically: a reader, and a run killed at any moment, finds the old file or the new one.

    Args:
        path: the file; its folder is made.
        rows: metrics by epoch; columns stand in order of first appearance, missing values are left empty.
    """
    columns = list(dict.fromkeys(name for _, row in sorted(rows.items()) for name in row))
    with replacing(path, sync=True) as part, open(part, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["epoch", *columns])
        writer.writerows([epoch, *(row.get(name, "") for name in columns)] for epoch, row in sorted(rows.items()))

"""``metrics.csv``: one row an epoch, one column a metric, whole at every moment."""

import csv
import os
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

Rows = dict[int, dict[str, float]]
"""Metrics by name, by epoch from 0."""


class MetricsFileError(ValueError):
    """A metrics file is not one that :class:`EpochCSV` wrote."""


def read_metrics(path: str | Path) -> Rows:
    """Metrics of each epoch in a file written by :class:`EpochCSV`; what an epoch did not measure is left out.

    Raises:
        FileNotFoundError: no such file.
        MetricsFileError: naming the line that cannot be read.
    """
    with open(path, newline="", encoding="utf-8") as file:
        return parse_metrics(file, path)


def parse_metrics(lines: Iterable[str], source: str | Path) -> Rows:
    """Metrics of each epoch in the lines of a file written by :class:`EpochCSV`.

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
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    columns = list(dict.fromkeys(name for _, row in sorted(rows.items()) for name in row))
    with open(part, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["epoch", *columns])
        writer.writerows([epoch, *(row.get(name, "") for name in columns)] for epoch, row in sorted(rows.items()))
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


class EpochCSV(Logger):
    """Keeps a run's metrics in one CSV file, exactly one row an epoch; everything logged in an epoch joins its row.

    Columns are ``epoch``, from 0, and the metrics' names, added as they appear; a metric that an epoch did not measure
    is empty. A run that goes on in an existing file keeps the rows of the epochs before the first one it logs, and
    drops those from there on, for they are being run again. A file that cannot be read is put aside with a
    warning. Only the first process writes.

    Args:
        path: the CSV file; it and its folder are made with the first metrics.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        self.path = Path(path)
        self.rows: Rows = {}
        self._joined = False

    @property
    def name(self) -> str:
        """The run's name: that of the folder."""
        return self.path.parent.name

    @property
    def version(self) -> str:
        """Empty: a run has one metrics file."""
        return ""

    @property
    def save_dir(self) -> str:
        """The run's folder."""
        return str(self.path.parent)

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing: the resolved configuration is kept beside the file."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Join metrics to their epoch's row and write the file.

        Args:
            metrics: numbers by name, and their ``epoch``, which the Trainer adds.
            step: optimiser steps so far; not kept, for the epoch is the axis.

        Raises:
            ValueError: there is no epoch among the metrics.
        """
        metrics = dict(metrics)
        if "epoch" not in metrics:
            raise ValueError(f"metrics {', '.join(metrics)} come without their epoch: log them through the Trainer")
        epoch = int(metrics.pop("epoch"))
        if not self._joined:
            self.rows = {e: row for e, row in self._earlier().items() if e < epoch}
            self._joined = True
        self.rows.setdefault(epoch, {}).update({name: float(value) for name, value in metrics.items()})
        write_metrics(self.path, self.rows)

    def _earlier(self) -> Rows:
        if not self.path.exists():
            return {}
        try:
            return read_metrics(self.path)
        except MetricsFileError as error:
            number = 1
            while (aside := self.path.with_name(f"{self.path.stem}.unreadable-{number}{self.path.suffix}")).exists():
                number += 1
            os.replace(self.path, aside)
            warnings.warn(f"{error}; kept as {aside.name}, and {self.path.name} starts anew", stacklevel=2)
            return {}

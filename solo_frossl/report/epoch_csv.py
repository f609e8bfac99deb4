"""The logger that keeps ``metrics.csv``: one row an epoch, one column a metric, whole at every moment."""

import os
import warnings
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from solo_frossl.run_files import MetricsFileError, Rows, read_metrics, write_metrics


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

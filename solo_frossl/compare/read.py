"""What a run folder holds, as far as it is written: a run that still trains can be read as well as one that is done."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from solo_frossl.compare.names import dataset_name
from solo_frossl.published import row_name
from solo_frossl.run_files import (
    TOP,
    MetricsFileError,
    RunFolder,
    SpectraFileError,
    condition_number,
    effective_rank,
    parse_metrics,
    read_spectra,
    read_status,
    shannon_entropy,
)

STATISTICS = {"condition_number": condition_number, "entropy": shannon_entropy, "effective_rank": effective_rank}
"""What is followed of the spectra of embeddings and features over the steps, beside their first eigenvalues."""
TRAINING_IMAGES = {
    "cifar10": 50_000,
    "cifar100": 50_000,
    "stl10": 105_000,
    "tinyimagenet": 100_000,
    "imagenet": 1_281_167,
}
"""Images that a run without ``data.subset`` trains on, by dataset."""


@dataclass(frozen=True)
class Spectrum:
    """What is drawn of a run's ``spectrum.bin``: of every check the first eigenvalues, after every epoch all of them.

    Attributes:
        step: ``(R,)`` optimiser steps that the measured weights had.
        epoch: ``(R,)`` the same in epochs; 1.5 is the middle of the second.
        first: ``(R, K)`` with K up to :data:`TOP`, by source: ``embeddings`` and ``features`` (eigenvalues of their
            covariance), ``predictor`` (its eigenvalues) and ``alignment`` (of its eigenvectors); what there is.
        statistics: ``(R,)`` values by metric, ``spectrum/embeddings/entropy``: those of :data:`STATISTICS`.
        whole: all eigenvalues of ``embeddings`` and ``features``, ``(D,)``, by epochs trained; 0 is the first check.
    """

    step: np.ndarray
    epoch: np.ndarray
    first: Mapping[str, np.ndarray]
    statistics: Mapping[str, np.ndarray]
    whole: Mapping[str, Mapping[int, np.ndarray]]


@dataclass(frozen=True)
class Run:
    """One run.

    Attributes:
        folder: its folder.
        config: its resolved configuration, nested.
        metrics: what each epoch measured, by the number of epochs trained (1 after the first one); finite values only.
        state: ``running``, ``finished``, ``stopped``, ``failed``, ``killed`` or ``unknown``.
        device: what it trained on; empty if it does not say.
        spectrum: eigenvalues by step; None without a readable ``spectrum.bin``.
        linear: ``top1`` and ``top5`` of its linear probe, percent; empty if it was not probed.
        processes: how many trained together.
        remarks: what a reader of its numbers should know, a sentence each.
    """

    folder: Path
    config: Mapping[str, Any]
    metrics: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    state: str = "unknown"
    device: str = ""
    spectrum: Spectrum | None = None
    linear: Mapping[str, float] = field(default_factory=dict)
    processes: int = 1
    remarks: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.folder.resolve().name

    @property
    def row(self) -> str:
        """Its row in the papers' tables, ``frossl_no_logs``; ``frossl_untrained``, in none, with a learning rate of 0.

        All parameters but the online classifier's have this learning rate, and weight decay is multiplied by it.
        """
        untrained = ((self.config.get("model") or {}).get("optimizer") or {}).get("lr") == 0
        return row_name(self.config) + ("_untrained" if untrained else "")

    @property
    def dataset(self) -> str:
        """What it trained on, as the reader knows it."""
        return dataset_name(self.config)

    @property
    def seed(self) -> int | None:
        """``seed_everything``."""
        return self.config.get("seed_everything")

    @property
    def planned(self) -> int | None:
        """Epochs it was to train; None if it was to be stopped by something else."""
        epochs = (self.config.get("trainer") or {}).get("max_epochs")
        return epochs if isinstance(epochs, int) and epochs > 0 else None

    @property
    def epochs(self) -> int:
        """Epochs trained."""
        return max(self.metrics, default=0)

    def curve(self, metric: str) -> dict[int, float]:
        """A metric by epochs trained, where it was measured."""
        return self._curves.get(metric, {})

    @cached_property
    def _curves(self) -> dict[str, dict[int, float]]:
        curves: dict[str, dict[int, float]] = {}
        for epoch, row in self.metrics.items():
            for metric, value in row.items():
                curves.setdefault(metric, {})[epoch] = value
        return curves

    @cached_property
    def epoch_seconds(self) -> dict[int, float]:
        """Seconds of training that each epoch took, times the processes, by epochs trained.

        Where an older run did not measure them, they are an estimate: the images of an epoch over images a second.
        """
        images = _images_of_an_epoch(self.config)
        speeds = self.curve("images_per_second") if images else {}
        estimates = {epoch: images * self.processes / speed for epoch, speed in speeds.items() if speed > 0}
        return estimates | self.curve("device_seconds")

    @property
    def estimated(self) -> bool:
        """Whether :attr:`epoch_seconds` has estimates."""
        return bool(self.epoch_seconds.keys() - self.curve("device_seconds").keys())

    @cached_property
    def device_seconds(self) -> dict[int, float]:
        """:attr:`epoch_seconds` added up since the start, by epochs trained; up to a first epoch without."""
        seconds = self.epoch_seconds
        known = [epoch for number, epoch in enumerate(sorted(seconds), start=1) if epoch == number]
        return dict(zip(known, accumulate(seconds[epoch] for epoch in known), strict=True))


def read_run(folder: Path, config: Mapping[str, Any]) -> Run:
    """Read a run folder; what cannot be read is left out and remarked on.

    Args:
        folder: the run's folder.
        config: its configuration.
    """
    run, remarks = RunFolder(folder), []
    metrics = _metrics(run.metrics, remarks)
    status = read_status(run)
    planned = (config.get("trainer") or {}).get("max_epochs")
    state = status.state
    if state == "unknown" and metrics and planned == max(metrics):
        state = "finished"
    if state in ("failed", "killed", "stopped"):
        remarks.append(
            f"{state} after {max(metrics, default=0)} epochs" + (f": {status.reason}" if status.reason else "")
        )
    return Run(
        folder=folder,
        config=config,
        metrics=metrics,
        state=state,
        device=status.device,
        spectrum=_spectrum(folder / "spectrum.bin", remarks),
        linear=_linear(folder / "linear" / "linear.json", remarks),
        processes=_planned_processes(config) if status.state == "unknown" else status.processes,
        remarks=tuple(remarks),
    )


def _planned_processes(config: Mapping[str, Any]) -> int:
    """Processes that the configuration asks for; 1 where it leaves that open."""
    trainer = config.get("trainer") or {}
    devices = trainer.get("devices")
    each = len(devices) if isinstance(devices, list) else devices if isinstance(devices, int) else 1
    return max(1, each) * (trainer.get("num_nodes") or 1)


def _images_of_an_epoch(config: Mapping[str, Any]) -> int | None:
    """Training images of an epoch, which has whole batches only; None where the configuration does not tell."""
    data = config.get("data") or {}
    subset, batch = data.get("subset"), data.get("batch_size") or 1
    images = TRAINING_IMAGES.get(config.get("dataset")) if not data.get("class_list") else None
    if isinstance(subset, int):
        images = subset
    elif images and subset is not None:
        images = int(images * subset)
    return images // batch * batch if images else None


def _metrics(path: Path, remarks: list[str]) -> dict[int, dict[str, float]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        if lines and not lines[-1].endswith("\n"):
            remarks.append(f"the last line of metrics.csv is not whole and left out: {lines.pop().strip()[:40]!r}")
        rows = parse_metrics(lines, path) if lines else {}
    except FileNotFoundError:
        rows = {}
    except MetricsFileError as error:
        remarks.append(f"metrics.csv cannot be read: {error}")
        return {}
    if not rows:
        remarks.append("no epoch is done yet")
    odd: dict[str, list[int]] = {}
    for epoch, row in sorted(rows.items()):
        for name, value in row.items():
            if not math.isfinite(value):
                odd.setdefault(name, []).append(epoch + 1)
    remarks += [f"{name} is not finite after epoch {', '.join(map(str, epochs))}" for name, epochs in odd.items()]
    if rows and not any(name in row for row in rows.values() for name in ("online/top1", "knn/top1")):
        remarks.append("no accuracy was measured: the images have no labels, or no validation has been run yet")
    return {
        epoch + 1: {name: value for name, value in row.items() if math.isfinite(value)}
        for epoch, row in sorted(rows.items())
    }


def _spectrum(path: Path, remarks: list[str]) -> Spectrum | None:
    try:
        spectra = read_spectra(path)
    except FileNotFoundError:
        return None
    except (OSError, SpectraFileError) as error:
        remarks.append(f"spectrum.bin cannot be read: {error}")
        return None
    if not len(spectra.step):
        return None
    first = {
        name: getattr(spectra, name)[:, :TOP].copy() for name in ("embeddings", "features", "predictor", "alignment")
    }
    ends = np.arange(1, int(spectra.epoch[-1]) + 2)
    rows = np.searchsorted(spectra.epoch, ends, side="right") - 1  # the last check up to the end of each epoch
    measured = {int(end): int(row) for end, row in zip(ends, rows, strict=True) if spectra.epoch[row] >= end - 1}
    return Spectrum(
        step=spectra.step,
        epoch=spectra.epoch,
        first={name: values for name, values in first.items() if values.shape[1]},
        statistics={
            f"spectrum/{name}/{statistic}": function(getattr(spectra, name))
            for name in ("embeddings", "features")
            if first[name].shape[1]
            for statistic, function in STATISTICS.items()
        },
        whole={
            name: {epoch: getattr(spectra, name)[row].copy() for epoch, row in ({0: 0} | measured).items()}
            for name in ("embeddings", "features")
            if first[name].shape[1]
        },
    )


def _linear(path: Path, remarks: list[str]) -> dict[str, float]:
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        return {name: float(result[name]) for name in ("top1", "top5") if result.get(name) is not None}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        remarks.append(f"linear/linear.json cannot be read: {error}")
        return {}

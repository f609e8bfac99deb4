"""Callbacks that tell how training goes: speed, learning rate, and a table with one line an epoch."""

import sys
import time
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from tqdm import tqdm

from solo_frossl.batch import Views
from solo_frossl.report.epoch_csv import EpochCSV
from solo_frossl.terminal import terminal_columns

_EPOCH_WIDTH = 9


class Throughput(Callback):
    """Logs ``images_per_second`` and ``device_seconds``, which count training and leave out validation.

    ``images_per_second``: training images of all processes over the seconds spent on them. ``device_seconds``: the
    seconds that the epoch's training took, times the processes, which is GPU-seconds where each has a GPU. Of an epoch
    resumed in its middle the first is of the part since then, the second of the whole, for checkpoints hold the seconds
    so far. What was trained after that checkpoint, and was lost, is in neither.

    The device is waited for when the clock stops, which is once an epoch and before each validation.
    """

    def __init__(self) -> None:
        self._images = 0
        self._seconds = 0.0
        self._started: float | None = None
        self._processes = 1
        self._device_seconds_before = 0.0

    def state_dict(self) -> dict[str, float]:
        """Device seconds of the epoch so far."""
        return {"device_seconds": self._device_seconds()}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Add those of the part of the epoch that was trained before."""
        self._device_seconds_before = state["device_seconds"]

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Start the clock, for an epoch that is resumed in its middle has no start."""
        self._processes = trainer.world_size
        self._images, self._seconds, self._started = 0, 0.0, time.perf_counter()

    def on_train_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Start the clock anew."""
        self._device_seconds_before = 0.0
        self.on_train_start(trainer, module)

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Views, batch_idx: int
    ) -> None:
        """Count the batch's images, of which every process has as many."""
        self._images += len(batch.label) * trainer.world_size

    def on_validation_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Stop the clock."""
        self._stop(module)

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Let the clock go on."""
        self._started = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Log."""
        self._stop(module)
        if self._images:
            module.log("images_per_second", self._images / self._seconds, sync_dist=True)
            module.log("device_seconds", self._device_seconds(), sync_dist=True)

    def _device_seconds(self) -> float:
        running = 0.0 if self._started is None else time.perf_counter() - self._started
        return self._device_seconds_before + (self._seconds + running) * self._processes

    def _stop(self, module: LightningModule) -> None:
        if self._started is not None:
            if module.device.type == "cuda":
                torch.cuda.synchronize(module.device)
            self._seconds += time.perf_counter() - self._started
            self._started = None


class LearningRate(Callback):
    """Logs ``learning_rate``: that of the first parameter group in the epoch's last step."""

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Log."""
        module.log("learning_rate", trainer.optimizers[0].param_groups[0]["lr"], sync_dist=True)


class _Column(NamedTuple):
    metric: str
    title: str
    form: str

    @property
    def width(self) -> int:
        return max(9, len(self.title))

    def cell(self, row: dict[str, float]) -> str:
        return (format(row[self.metric], self.form) if self.metric in row else "").rjust(self.width)


class EpochTable(Callback):
    """Prints one line an epoch as it ends: loss and its terms, accuracies, effective rank, speed and learning rate.

    At a terminal too narrow for that, as much of it as fits, accuracies and effective rank being kept longest.

    The numbers are those of the run's :class:`EpochCSV`, which must be among the Trainer's loggers; what an epoch did
    not measure is blank. The epoch is given as epochs done, so the line ``1/20`` is the row of epoch 0. The terms
    are those in ``loss_terms`` of the method.

    Raises:
        ValueError: when fitting starts without an :class:`EpochCSV`.
    """

    def __init__(self) -> None:
        self._printed = 0
        self._columns: list[_Column] = []

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Print the header."""
        if not any(isinstance(logger, EpochCSV) for logger in trainer.loggers):
            raise ValueError("EpochTable prints what EpochCSV keeps: give the Trainer logger=EpochCSV(path) as well")
        terms = [_Column(f"train/{term}", term.replace("_", " "), ".4f") for term in getattr(module, "loss_terms", ())]
        loss = _Column("train/loss", "loss", ".4f")
        online = _Column("online/top1", "online %", ".2f")
        knn = _Column("knn/top1", "k-NN %", ".2f")
        rank = _Column("spectrum/effective_rank", "eff. rank", ".1f")
        speed = _Column("images_per_second", "images/s", ",.0f")
        rate = _Column("learning_rate", "lr", ".2e")
        self._columns = [loss, *terms, online, knn, rank, speed, rate]
        if columns := terminal_columns():
            for column in (rate, *terms[::-1], speed, loss, knn, rank):
                if sum(2 + kept.width for kept in self._columns) > columns - _EPOCH_WIDTH:
                    self._columns.remove(column)
        self._printed = trainer.current_epoch
        _print(trainer, "  ".join(["epoch".rjust(_EPOCH_WIDTH), *(c.title.rjust(c.width) for c in self._columns)]))

    def on_train_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Print the epoch that has just ended: its training metrics reach the loggers after its last hook."""
        self._print_finished(trainer)

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Print the last epoch."""
        self._print_finished(trainer)

    def on_exception(self, trainer: Trainer, module: LightningModule, exception: BaseException) -> None:
        """Print the epoch that ended before a run is stopped between two epochs."""
        self._print_finished(trainer)

    def _print_finished(self, trainer: Trainer) -> None:
        history = next((logger.rows for logger in trainer.loggers if isinstance(logger, EpochCSV)), {})
        for epoch in range(self._printed, trainer.current_epoch):
            row = history.get(epoch, {})
            done = f"{epoch + 1}/{trainer.max_epochs}" if (trainer.max_epochs or -1) > 0 else f"{epoch + 1}"
            _print(trainer, "  ".join([done.rjust(_EPOCH_WIDTH), *(column.cell(row) for column in self._columns)]))
        self._printed = max(self._printed, trainer.current_epoch)


def _print(trainer: Trainer, line: str) -> None:
    """One line on standard output, above any progress bar; by the first process only."""
    if trainer.is_global_zero:
        tqdm.write(line, file=sys.stdout)
        sys.stdout.flush()

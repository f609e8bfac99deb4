"""Checkpoints that survive a kill at any moment: written atomically, checked when read, with the one before kept."""

import os
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.utilities.exceptions import SIGTERMException

from solo_frossl.report import EpochCSV
from solo_frossl.run_files import RunFolder
from solo_frossl.runs.guard import NonFiniteGuard, assert_finite_weights


class CheckpointError(RuntimeError):
    """A checkpoint is missing, cut off or damaged."""


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target, flushes to the disk, then renames: the target is always a whole file or the old one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write the checkpoint to ``path``; on a full disk or any other failure nothing is left behind."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        try:
            with open(part, "wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
        except (OSError, RuntimeError) as error:
            part.unlink(missing_ok=True)
            raise CheckpointError(
                f"the checkpoint {path} could not be written ({error}); is the disk full? The one before is kept."
            ) from error


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """A checkpoint's content on the CPU, without ever unpickling code.

    Raises:
        CheckpointError: the file is missing, cut off or damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path}")
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is None:
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise CheckpointError(f"the checkpoint {path} cannot be read ({error}): it is cut off or damaged") from error
    raise CheckpointError(f"the checkpoint {path} is damaged: its part {damaged} does not match its checksum")


def newest_readable(run: RunFolder) -> Path | None:
    """The newest checkpoint of a run that can be read whole, or None when the run has none yet.

    A damaged newest file is reported and the one before used.

    Raises:
        CheckpointError: checkpoints exist, and none of them can be read.
    """
    candidates = [path for path in (run.last, run.previous) if path.exists()]
    errors = []
    for path in candidates:
        try:
            read_checkpoint(path)
        except CheckpointError as error:
            errors.append(str(error))
            warnings.warn(f"{error}; trying the one before", stacklevel=2)
        else:
            return path
    if candidates:
        raise CheckpointError("no checkpoint of the run can be read:\n  " + "\n  ".join(errors))
    return None


@dataclass(frozen=True)
class CheckpointConfig:
    """When checkpoints are written; one is written after every epoch in any case.

    Args:
        every_n_steps: also after this many optimiser steps within an epoch; 0 for never.
    """

    every_n_steps: int = 500

    def __post_init__(self) -> None:
        if self.every_n_steps < 0:
            raise ValueError(f"checkpoint.every_n_steps is {self.every_n_steps}: it must be 0 (never) or more")


class RunCheckpoint(Checkpoint):
    """Keeps ``last``, ``previous`` and ``best`` (by online top-1) in the run folder.

    Args:
        run: the run's folder.
        config: when to write.
        resolved: the run's whole configuration as plain values; it is kept in every checkpoint, beside the images'
            size and normalisation, so that one file is enough to rebuild the model and to feed it.
        guard: asked before each write, so that a checkpoint never holds what follows a non-finite loss.
        metrics: gets the epoch's row before its checkpoint is written, so that a kill between the two loses nothing.
        monitor: metric that ``best`` maximises.
    """

    def __init__(
        self,
        run: RunFolder,
        config: CheckpointConfig,
        resolved: dict[str, Any],
        guard: NonFiniteGuard,
        metrics: EpochCSV | None = None,
        monitor: str = "online/top1",
    ) -> None:
        self.run = run
        self.config = config
        self.resolved = resolved
        self.guard = guard
        self.metrics = metrics
        self.monitor = monitor
        self.best_value = float("-inf")
        self.saved_step: int | None = None
        """Optimiser steps that the newest checkpoint of this process has; None before the first."""

    def state_dict(self) -> dict[str, Any]:
        """The best value so far."""
        return {"best_value": self.best_value}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue with the best value so far."""
        self.best_value = state["best_value"]

    def on_save_checkpoint(self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Put the configuration into the file, and how images are prepared, which may have been measured on them."""
        checkpoint["config"] = self.resolved
        images = {key: getattr(trainer.datamodule, key, None) for key in ("image_size", "mean", "std")}
        checkpoint["images"] = {key: value for key, value in images.items() if value is not None}

    def on_train_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Forget the metrics of the epoch before, which the Trainer would show again for what this one leaves out."""
        trainer.callback_metrics.clear()

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *args) -> None:
        """Save within an epoch; the epoch's last batch is left to its end, which validates first."""
        every = self.config.every_n_steps
        stepped = not trainer.fit_loop._should_accumulate()
        if every and stepped and trainer.global_step % every == 0 and not trainer.is_last_batch:
            self.save(trainer, module)

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Save after every epoch, and keep it as ``best`` when it is."""
        value = trainer.callback_metrics.get(self.monitor)
        is_best = value is not None and float(value) > self.best_value
        if is_best:
            self.best_value = float(value)
        if self.metrics is not None:
            row = {name: float(metric) for name, metric in trainer.callback_metrics.items()}
            self.metrics.log_metrics({**row, "epoch": trainer.current_epoch})
        self.save(trainer, module, is_best)

    def on_exception(self, trainer: Trainer, module: LightningModule, exception: BaseException) -> None:
        """Save on SIGTERM, which the Trainer raises between two batches.

        When these are batches of validation, the resumed run goes on with the next epoch, and the accuracies of this
        one stay unknown.
        """
        if isinstance(exception, SIGTERMException):
            self.save(trainer, module)

    def save(self, trainer: Trainer, module: LightningModule, is_best: bool = False) -> None:
        """Write ``last``, keeping the one before as ``previous``; all processes call it.

        Args:
            trainer: the Trainer.
            module: the method.
            is_best: keep the same file as ``best`` too; before it becomes ``last``, which says that it was the best.
        """
        self.guard.check(trainer)
        assert_finite_weights(trainer, module)
        new = self.run.last.with_name("new.ckpt")
        trainer.save_checkpoint(new)
        if trainer.is_global_zero:
            if is_best:
                _link(new, self.run.best)
            if self.run.last.exists():
                os.replace(self.run.last, self.run.previous)
            os.replace(new, self.run.last)
        self.saved_step = trainer.global_step
        trainer.strategy.barrier("checkpoint")


def _link(file: Path, name: Path) -> None:
    """Give a file a second name, whatever had that name before."""
    link = name.with_name(name.name + ".part")
    link.unlink(missing_ok=True)
    try:
        os.link(file, link)
    except OSError:  # a file system without hard links
        link.write_bytes(file.read_bytes())
    os.replace(link, name)

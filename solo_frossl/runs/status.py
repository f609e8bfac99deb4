"""The callback that keeps ``status.json`` up to date."""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.exceptions import SIGTERMException

from solo_frossl.run_files import RunFolder, RunStatus, State, process_began, read_status, write_status

_SECONDS_BETWEEN_SIGNS_OF_LIFE = 60.0


class StatusFile(Callback):
    """Keeps ``status.json`` of a run up to date: as training starts, once a minute, and after every epoch.

    How training ends is noted by :meth:`watching`, around the call of ``Trainer.fit``. Only the first process writes.

    Args:
        run: the run's folder.
    """

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self.remark: str | None = None
        """What a run that ends well is to say of itself, as the reason of its status."""
        self._status: RunStatus | None = None
        self._written = 0.0

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """The run is running."""
        on_gpu = module.device.type == "cuda"
        self._status = RunStatus(
            state="running",
            epochs=trainer.max_epochs,
            pid=os.getpid(),
            host=socket.gethostname(),
            processes=trainer.world_size,
            device=torch.cuda.get_device_name(module.device) if on_gpu else module.device.type,
            started=read_status(self.run).started or _now(),
            process_began=process_began(os.getpid()),
        )
        self._write(trainer)

    def on_train_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        """The epoch before is done, and its metrics and its checkpoint are written."""
        self._write(trainer)

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *args: Any) -> None:
        """A sign of life."""
        if time.monotonic() - self._written > _SECONDS_BETWEEN_SIGNS_OF_LIFE:
            self._write(trainer)

    @contextmanager
    def watching(self, trainer: Trainer) -> Iterator[None]:
        """Note how the training inside ends; what it raises goes on its way.

        Args:
            trainer: the Trainer whose ``fit`` is called inside.
        """
        try:
            yield
        except SIGTERMException as stop:
            self._end(trainer, "stopped", str(stop) or None)
            raise
        except (KeyboardInterrupt, SystemExit):  # Lightning makes the second of the first
            self._end(trainer, "stopped")
            raise
        except BaseException as error:
            text = " ".join(str(error).split()) or "no reason given"
            self._end(trainer, "failed", f"{type(error).__name__}: {text}")
            raise
        all_epochs = trainer.current_epoch >= (trainer.max_epochs or 0)
        self._end(trainer, "finished" if all_epochs else "stopped", self.remark)

    def _end(self, trainer: Trainer, state: State, reason: str | None = None) -> None:
        if self._status is not None:  # else training never started, and the run is what it was before
            self._status = replace(self._status, state=state, reason=reason)
            self._write(trainer)

    def _write(self, trainer: Trainer) -> None:
        self._written = time.monotonic()
        if trainer.is_global_zero:
            place = {"epoch": trainer.current_epoch, "step": trainer.global_step, "updated": _now()}
            self._status = replace(self._status, **place)
            write_status(self.run, self._status)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")

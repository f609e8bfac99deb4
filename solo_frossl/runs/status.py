"""``status.json``: whether a run is running, and how it ended if it is not."""

import json
import os
import socket
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.exceptions import SIGTERMException

from solo_frossl.runs.folder import RunFolder

State = Literal["running", "finished", "stopped", "failed", "killed", "unknown"]

_SECONDS_BETWEEN_SIGNS_OF_LIFE = 60.0


@dataclass(frozen=True)
class RunStatus:
    """What a run last said of itself.

    Attributes:
        state: ``running``; ``finished``: all its epochs are done; ``stopped``: by SIGTERM, Ctrl-C or a callback, and
            saved; ``failed``: by an error; ``killed``: it says running, and its process is gone; ``unknown``: there is
            no status, or none that can be read.
        epoch: epochs done.
        step: optimiser steps done.
        epochs: epochs planned.
        pid: of its first process.
        host: name of the machine of its first process.
        processes: how many train together.
        device: ``cpu``, or the name of the GPU.
        started: when it was first started, ISO 8601 in UTC.
        updated: when it last said so; at least once a minute while it trains.
        reason: one line, when it failed, was stopped for a reason of its own, or nothing is known; else None.
        process_began: when the first process was started, in the kernel's clock ticks; None where the kernel does not
            tell. With it a pid that another process has got since is told apart.
    """

    state: State
    epoch: int = 0
    step: int = 0
    epochs: int | None = None
    pid: int | None = None
    host: str = ""
    processes: int = 1
    device: str = ""
    started: str = ""
    updated: str = ""
    reason: str | None = None
    process_began: int | None = None


def read_status(run: RunFolder) -> RunStatus:
    """What a run last said of itself; never an error.

    Args:
        run: the run's folder. Runs made before there was a ``status.json`` are ``unknown``.
    """
    status = _last_said(run)
    if status.state == "running" and status.host == socket.gethostname() and not _lives(status):
        return replace(status, state="killed")
    return status


def _last_said(run: RunFolder) -> RunStatus:
    try:
        values = json.loads(run.status.read_text(encoding="utf-8"))
        known = {field.name for field in fields(RunStatus)}
        status = RunStatus(**{name: value for name, value in values.items() if name in known})
        if status.state not in ("running", "finished", "stopped", "failed"):
            raise ValueError(f"state is {status.state!r}")
        return status
    except FileNotFoundError:
        return RunStatus("unknown", reason=f"there is no {run.status.name}")
    except (OSError, ValueError, TypeError, AttributeError) as error:
        return RunStatus("unknown", reason=f"{run.status.name} cannot be read: {error}")


def write_status(run: RunFolder, status: RunStatus) -> None:
    """Write the file atomically; a disk that takes nothing is warned of, for no run is lost for want of its status."""
    part = run.status.with_name(run.status.name + ".part")
    try:
        part.write_text(json.dumps(asdict(status), indent=1) + "\n", encoding="utf-8")
        os.replace(part, run.status)
    except OSError as error:
        warnings.warn(f"{run.status} could not be written: {error}", stacklevel=2)


class StatusFile(Callback):
    """Keeps ``status.json`` of a run up to date: as training starts, once a minute, and after every epoch.

    How training ends is noted by :meth:`watching`, around the call of ``Trainer.fit``. Only the first process writes.

    Args:
        run: the run's folder.
    """

    def __init__(self, run: RunFolder) -> None:
        self.run = run
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
            started=_last_said(self.run).started or _now(),
            process_began=_began(os.getpid()),
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
        self._end(trainer, "finished" if all_epochs else "stopped")

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


def _lives(status: RunStatus) -> bool:
    """Whether the process that wrote a status on this machine is still there."""
    try:
        os.kill(status.pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, TypeError, OverflowError):  # another user's, or no pid
        pass
    return status.process_began is None or _began(status.pid) == status.process_began


def _began(pid: int) -> int | None:
    """When a process was started, clock ticks since boot; None where the kernel does not tell.

    It is field 22 of ``/proc/PID/stat`` (proc_pid_stat(5)), counted behind the program's name, which may hold blanks.
    """
    try:
        return int(
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
        )
    except (OSError, IndexError, ValueError):
        return None

"""``status.json``: whether a run is running, and how it ended if it is not."""

import json
import os
import socket
import warnings
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Literal

from solo_frossl.replacing import replacing
from solo_frossl.run_files.folder import RunFolder

State = Literal["running", "finished", "stopped", "failed", "killed", "unknown"]


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
        reason: one line, when it failed, was stopped for a reason of its own, ended with what looks like collapse, or
            nothing is known; else None.
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
    try:
        run.path.stat()  # a folder that was deleted stays so
        with replacing(run.status) as part:
            part.write_text(json.dumps(asdict(status), indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        warnings.warn(f"{run.status} could not be written: {error}", stacklevel=2)


def _lives(status: RunStatus) -> bool:
    """Whether the process that wrote a status on this machine is still there."""
    try:
        os.kill(status.pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, TypeError, OverflowError):  # another user's, or no pid
        pass
    return status.process_began is None or process_began(status.pid) == status.process_began


def process_began(pid: int) -> int | None:
    """When a process was started, clock ticks since boot; None where the kernel does not tell.

    It is field 22 of ``/proc/PID/stat`` (proc_pid_stat(5)), counted behind the program's name, which may hold blanks.
    """
    try:
        return int(
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
        )
    except (OSError, IndexError, ValueError):
        return None

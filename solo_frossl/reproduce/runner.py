"""Training the runs of a grid: what is left of each, several at once, and a clean stop."""

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal

import torch

from solo_frossl.reproduce.plan import Cell
from solo_frossl.run_files import RunFolder, read_metrics, read_status

PROGRAM = (sys.executable, "-m", "solo_frossl")
NEVER_STARTED = {"status.json", "wandb", "wandb-id.txt"}
"""What the folder of a run may hold that was killed before its first step."""


@dataclass(frozen=True)
class Outcome:
    """How a cell came out.

    Attributes:
        state: ``finished`` now or before; ``failed``; ``stopped`` on request or from outside, to be resumed; ``busy``:
            another process is training it; ``waiting``: not begun, because everything was stopped.
        text: why, one line for the reader; empty for ``finished`` and ``waiting``.
    """

    state: Literal["finished", "failed", "stopped", "busy", "waiting"]
    text: str = ""


def option(key: str, value: Any) -> str:
    """A value as the command line takes it.

    >>> option("model.momentum", None), option("model.optimizer.lr", 1e-4), option("data.views", [{"count": 2}])
    ('--model.momentum=null', '--model.optimizer.lr=0.0001', '--data.views=[{"count": 2}]')
    """
    return f"--{key}={value if isinstance(value, str) else json.dumps(value)}"


def trained(run: RunFolder, epochs: int) -> bool:
    """Whether a run has been trained, and saved, up to an epoch, counted from 1."""
    status = read_status(run)
    if status.state != "unknown":
        return status.epoch >= epochs
    rows = read_metrics(run.metrics) if run.metrics.is_file() else {}  # a run made before there was a status
    return "train/loss" in rows.get(epochs - 1, {})


def probed(run: RunFolder) -> bool:
    """Whether the linear probe has seen the newest weights."""
    result = run.path / "linear" / "linear.json"
    return result.is_file() and run.last.is_file() and result.stat().st_mtime >= run.last.stat().st_mtime


def remaining(cell: Cell, runs_dir: Path, extra: Sequence[str] = ()) -> list[list[str]]:
    """The commands that are left to run for a cell, in order; none when it is finished.

    Args:
        cell: the cell.
        runs_dir: folder of the run folders.
        extra: more arguments for pretraining; they win.
    """
    run = RunFolder(runs_dir / cell.name)
    commands = []
    if not trained(run, cell.epochs):
        options = dict(cell.options)
        if run.config.is_file():
            start = ["--resume", str(run.path)]
            options.setdefault("stop_after_epoch", None)  # the run's own may be an earlier one
        else:
            start = ["--config", cell.config, "--runs_dir", str(runs_dir), "--name", cell.name]
        given = [f"--seed_everything={cell.seed}", *(option(key, value) for key, value in options.items())]
        commands.append([*PROGRAM, "pretrain", *start, *given, *extra])
    if cell.probe is not None and (commands or not probed(run)):
        options = [option(key, value) for key, value in cell.probe.items()]
        commands.append([*PROGRAM, "linear", "--backbone", str(run.path), *options])
    return commands


def run_cells(
    cells: Sequence[Cell],
    runs_dir: Path,
    *,
    jobs: int = 1,
    devices: int = 1,
    threads: int | None = None,
    extra: Sequence[str] = (),
    say: Callable[[str], None] = print,
) -> dict[str, Outcome]:
    """Train what is left of every cell, each in processes of its own that write to ``runs_dir/NAME.log``.

    A cell that fails leaves the others alone. The first SIGINT or SIGTERM asks the running ones to save and stop, the
    next one kills them. A `say` that finds its pipe closed stops them too.

    Args:
        cells: the cells.
        runs_dir: folder of the run folders; it is made.
        jobs: how many to train at once.
        devices: devices of each.
        threads: CPU threads of each process; None for an equal share of the cores where there are several, unless
            ``OMP_NUM_THREADS`` says otherwise.
        extra: more arguments for pretraining.
        say: takes a line whenever something begins or ends.

    Returns:
        How each came out, by name.

    Raises:
        ValueError: more devices are asked for than there are.
    """
    runs_dir.mkdir(parents=True, exist_ok=True)
    slots: SimpleQueue[Mapping[str, str]] = SimpleQueue()
    for environment in _environments(jobs, devices, threads):
        slots.put(environment)
    outcomes = {cell.name: Outcome("waiting") for cell in cells}
    todo = iter(enumerate(cells, start=1))
    lock = threading.Lock()
    children = _Children()

    def say_or_stop(text: str) -> None:
        try:
            say(text)
        except BrokenPipeError:  # nobody reads on
            children.stop()

    def work() -> None:
        while not children.stopping:
            with lock:
                number, cell = next(todo, (0, None))
            if cell is None:
                return
            tell = partial(_tell, say_or_stop, f"[{number}/{len(cells)}] {cell.name}")
            environment = slots.get()
            try:
                outcomes[cell.name] = _run_cell(cell, runs_dir, extra, environment, children, tell)
            except (OSError, ValueError) as error:
                outcomes[cell.name] = Outcome("failed", str(error))
                tell(f"failed: {error}")
            slots.put(environment)

    workers = [threading.Thread(target=work, name=f"cell-{i}") for i in range(min(jobs, len(cells)))]
    with children.stopped_by_signals(say_or_stop):
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    return outcomes


def _tell(say: Callable[[str], None], label: str, text: str) -> None:
    say(f"{label}: {text}")


def _run_cell(
    cell: Cell,
    runs_dir: Path,
    extra: Sequence[str],
    environment: Mapping[str, str],
    children: "_Children",
    tell: Callable[[str], None],
) -> Outcome:
    run, log = RunFolder(runs_dir / cell.name), runs_dir / f"{cell.name}.log"
    status = read_status(run)
    if status.state == "running":
        text = f"process {status.pid} on {status.host} is training it, of another call or left by one that was killed"
        if status.host != socket.gethostname():
            text += f" (or was, then delete {run.status})"
        tell(f"{text}; this call leaves it alone")
        return Outcome("busy", text)
    commands = remaining(cell, runs_dir, extra)
    if not commands:
        tell("finished before")
        return Outcome("finished")
    _clear_never_started(run)
    tell(f"{'resumed' if run.config.is_file() else 'started'}, output in {log}")
    began = time.monotonic()
    while commands:
        with open(log, "a", encoding="utf-8") as output:
            print(f"$ {shlex.join(commands[0])}", file=output, flush=True)
            code = children.run(commands[0], stdout=output, stderr=subprocess.STDOUT, env=os.environ | environment)
        left = remaining(cell, runs_dir, extra)
        if left and (children.stopping or (code == 0 and len(left) == len(commands))):  # SIGTERM from elsewhere
            tell("stopped; the same command goes on with it")
            return Outcome("stopped", f"to be resumed, output in {log}")
        if code:
            text = f"exit code {code}: {_last_line(log)} (see {log})"
            tell(f"failed with {text}")
            return Outcome("failed", text)
        commands = left
    tell(f"finished in {_duration(time.monotonic() - began)}")
    return Outcome("finished")


def _clear_never_started(run: RunFolder) -> None:
    """Remove the folder of a run that was killed before it began, for a run is never started in a folder that is there.

    Raises:
        ValueError: there is such a folder, and it holds something else.
    """
    if run.config.is_file() or not run.path.exists():
        return
    if other := {entry.name for entry in run.path.iterdir()} - NEVER_STARTED:
        raise ValueError(f"{run.path} is there and no run: it has no {run.config.name}, but {min(other)}; move it away")
    shutil.rmtree(run.path)


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")[:300]


def _duration(seconds: float) -> str:
    """
    >>> _duration(42), _duration(600), _duration(20000)
    ('42 s', '10 min', '5.6 h')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _environments(jobs: int, devices: int, threads: int | None) -> Iterator[dict[str, str]]:
    """Environment of each of the jobs that run at once: its GPUs and its CPU threads."""
    gpus = _gpus()
    if gpus and devices > len(gpus):
        raise ValueError(f"{devices} devices are asked for, and there are {len(gpus)} GPUs here: {', '.join(gpus)}")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if threads is None and jobs * devices > 1 and "OMP_NUM_THREADS" not in os.environ:
        threads = max(1, cores // (jobs * devices))
    for job in range(jobs):
        own = [gpus[(job * devices + i) % len(gpus)] for i in range(devices)] if gpus else []
        yield ({"CUDA_VISIBLE_DEVICES": ",".join(own)} if own else {}) | (
            {"OMP_NUM_THREADS": str(threads)} if threads else {}
        )


def _gpus() -> list[str]:
    """The GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` writes them."""
    count = torch.cuda.device_count()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",")[:count] if visible else [str(i) for i in range(count)]


class _Children:
    """The processes that run now, and how to stop them."""

    def __init__(self) -> None:
        self.stopping = False
        self._lock = threading.RLock()  # a second signal may come while the first one's handler holds it
        self._running: set[subprocess.Popen] = set()

    def run(self, command: Sequence[str], **kwargs: Any) -> int | None:
        """Run a command to its end; its exit code, or None if it was not started because all are being stopped.

        It gets a session of its own, so that Ctrl-C at the terminal reaches this process only.
        """
        with self._lock:
            if self.stopping:
                return None
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, **kwargs)
            self._running.add(process)
        code = process.wait()
        with self._lock:
            self._running.remove(process)
        return code

    def stop(self, kill: bool = False) -> None:
        """Start no more, and ask those that run to save and end, or kill them."""
        with self._lock:
            self.stopping = True
            for process in self._running:
                with suppress(ProcessLookupError):  # it has just ended
                    if kill:
                        os.killpg(process.pid, signal.SIGKILL)
                    else:
                        process.send_signal(signal.SIGTERM)

    @contextmanager
    def stopped_by_signals(self, say: Callable[[str], None]) -> Iterator[None]:
        """Inside, the first SIGINT or SIGTERM asks all to stop and the next one kills them."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def stop(signum: int, frame: Any) -> None:
            again = self.stopping
            self.stop(kill=again)
            say("killing what runs" if again else "stopping: what runs saves and ends; once more kills it")

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

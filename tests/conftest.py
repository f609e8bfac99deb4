"""Two real processes joined by gloo, started once a session, for tests of what is exact over processes."""

import importlib.util
import inspect
import os
import pickle
import subprocess
import sys
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import Any

import pytest

# Small tensors on two busy cores crawl when the threads of one process wait for each other: one thread a process.
os.environ["OMP_NUM_THREADS"] = "1"

ADDRESS = "SOLO_FROSSL_TEST_POOL"


class GlooPool:
    """Two worker processes in one gloo process group, one thread each.

    They import torch, and what the tests that they are given import. They start with the first :meth:`run`.

    Args:
        folder: empty folder for the file by which the processes find each other.
        timeout: seconds that a function may take.
    """

    def __init__(self, folder: Path, timeout: float = 300.0) -> None:
        self.folder = folder
        self.timeout = timeout
        self.starts = 0
        self.workers: list[tuple[subprocess.Popen, Connection]] = []

    def run(self, fn: Callable[..., Any], *args: Any) -> list[Any]:
        """Call ``fn(*args)`` in both processes; returns the two results, by rank.

        Args:
            fn: function at the top level of a test file, which each process imports by its path.
            args: anything that can be pickled. For values that differ between the processes, ``fn`` asks
                ``solo_frossl.distributed.rank()``.

        Raises:
            RuntimeError: with the traceback of each process that failed, or that did not answer in time.
        """
        if "<locals>" in fn.__qualname__ or fn.__name__ == "<lambda>":
            raise ValueError(f"{fn.__qualname__} must be at the top level of its file: the processes import it by name")
        if not self.workers:
            self._start()
        task = pickle.dumps((inspect.getfile(fn), fn.__qualname__, args))
        for _, connection in self.workers:
            connection.send_bytes(task)
        answers, errors, lost, timeout = [], [], False, self.timeout
        for rank, (_, connection) in enumerate(self.workers):
            try:
                if not connection.poll(timeout):
                    raise TimeoutError(f"no answer within {timeout} s, perhaps it waits for the other process")
                result, error = pickle.loads(connection.recv_bytes())
            except (TimeoutError, EOFError, ConnectionError) as failure:
                result, error, lost = None, f"{type(failure).__name__}: {failure}", True
            if error:
                errors.append(f"process {rank} of {len(self.workers)}:\n{error}")
                timeout = 5.0  # the other one may wait for this one for ever
            answers.append(result)
        if lost:
            self.close()  # what is left of a half-done collective must not meet the next test
        if errors:
            raise RuntimeError("\n".join(errors))
        return answers

    def _start(self) -> None:
        self.starts += 1
        rendezvous = f"file://{self.folder / f'rendezvous{self.starts}'}"
        root = str(Path(__file__).resolve().parent.parent)
        path = os.pathsep.join([root, f"{root}/tests", *filter(None, [os.environ.get("PYTHONPATH")])])
        with Listener(family="AF_UNIX") as listener:
            for rank in range(2):
                environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", ADDRESS: listener.address}
                process = subprocess.Popen([sys.executable, __file__, str(rank), rendezvous], env=environment)
                self.workers.append((process, listener.accept()))

    def close(self) -> None:
        """End the processes; the next :meth:`run` starts new ones."""
        for process, connection in self.workers:
            connection.close()
            process.kill()
            process.wait()
        self.workers = []


@pytest.fixture(scope="session")
def gloo_pool(tmp_path_factory):
    """Two real processes: ``gloo_pool.run(fn, *args)`` calls a top-level function in both."""
    pool = GlooPool(tmp_path_factory.mktemp("gloo"))
    yield pool
    pool.close()


def _work(rank: int, rendezvous: str) -> None:
    with Client(os.environ[ADDRESS], family="AF_UNIX") as connection:  # before torch, so that both import it at once
        import torch
        import torch.distributed as dist

        torch.set_num_threads(1)
        dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=2, timeout=timedelta(seconds=60))
        modules = {}
        while True:
            try:
                file, name, args = pickle.loads(connection.recv_bytes())
            except EOFError:
                return
            try:
                if file not in modules:
                    modules[file] = _load(file)
                answer = getattr(modules[file], name)(*args), None
            except Exception:
                answer = None, traceback.format_exc()
            connection.send_bytes(pickle.dumps(answer))


def _load(file: str) -> Any:
    name = f"gloo_pool_{Path(file).stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    _work(int(sys.argv[1]), sys.argv[2])

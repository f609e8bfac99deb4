"""The main job in real processes that start in a moment: forks of a server that has imported everything once."""

import multiprocessing
import os
import socket
import sys
from multiprocessing.process import BaseProcess
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_only

from solo_frossl.cli.pretrain import pretrain

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["solo_frossl.cli.pretrain"])


def start(folder: Path, *arguments: str, accelerator: str = "cpu") -> list[BaseProcess]:
    """Start the main job as one process.

    Args:
        folder: for the run, which is named ``r``, and for what it prints.
        arguments: of the command line.
        accelerator: ``cpu`` or ``gpu``.
    """
    return [_start(folder, (*arguments, f"--trainer.accelerator={accelerator}"), rank=0, environment={})]


def start_two(folder: Path, *arguments: str, accelerator: str = "cpu") -> list[BaseProcess]:
    """Start the main job as two processes, each with what the Trainer's launcher would have put into its environment.

    Arguments as for :func:`start`.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "NODE_RANK": "0",
        "WORLD_SIZE": "2",
        "SOLO_FROSSL_RUN_FOLDER": str(folder / "r"),
    }
    arguments = (*arguments, "--trainer.devices=2", "--trainer.strategy=ddp", f"--trainer.accelerator={accelerator}")
    return [_start(folder, arguments, rank, {**environment, "LOCAL_RANK": str(rank)}) for rank in range(2)]


def finish(folder: Path, processes: list[BaseProcess]) -> None:
    """Wait for the end of a run, which must be a good one."""
    for process in processes:
        process.join(timeout=120)
        process.kill()  # the one that hangs, where there is one
    printed = "".join(file.read_text() for file in sorted(folder.glob("printed*")))
    assert [process.exitcode for process in processes] == [0] * len(processes), printed


def _start(folder: Path, arguments: tuple[str, ...], rank: int, environment: dict[str, str]) -> BaseProcess:
    folder.mkdir(exist_ok=True)
    arguments = (*arguments, f"--runs_dir={folder}", "--name=r")
    process = _SERVER.Process(target=_run, args=(folder / f"printed{rank}", arguments, rank, environment))
    process.start()
    return process


def _run(printed: Path, arguments: tuple[str, ...], rank: int, environment: dict[str, str]) -> None:
    with open(printed, "a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ |= environment
    rank_zero_only.rank = rank  # Lightning asked the environment when the server imported it
    sys.exit(pretrain(list(arguments)))

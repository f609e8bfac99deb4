"""What a run says of itself, and what is made of it."""

import json
import os
import socket
import subprocess
import sys
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.utilities.exceptions import SIGTERMException

from solo_frossl.run_files import RunFolder, RunStatus, read_status, write_status
from solo_frossl.runs import StatusFile, status
from solo_frossl.spectrum import CollapseStop

MODULE = SimpleNamespace(device=torch.device("cpu"))


def trainer(epoch=0, step=0, rank=0):
    return SimpleNamespace(current_epoch=epoch, global_step=step, max_epochs=4, world_size=2, is_global_zero=rank == 0)


@pytest.fixture
def run(tmp_path):
    return RunFolder(tmp_path)


def ended(run, error=None, epoch=2):
    """The status of a run that ends so."""
    keeper, ours = StatusFile(run), trainer(epoch, 17)
    with nullcontext() if error is None else pytest.raises(type(error)), keeper.watching(ours):
        keeper.on_train_start(ours, MODULE)
        if error is not None:
            raise error
    return read_status(run)


def test_it_is_running_from_the_start_of_training(run):
    StatusFile(run).on_train_start(trainer(1, 30), MODULE)
    said = read_status(run)
    assert (said.state, said.epoch, said.step, said.epochs) == ("running", 1, 30, 4)
    assert (said.pid, said.host, said.processes, said.device) == (os.getpid(), socket.gethostname(), 2, "cpu")
    assert said.reason is None
    assert said.updated.endswith("+00:00")
    assert [p.name for p in run.path.iterdir()] == ["status.json"]


def test_every_epoch_is_told(run):
    keeper = StatusFile(run)
    keeper.on_train_start(trainer(), MODULE)
    keeper.on_train_epoch_start(trainer(3, 90), MODULE)
    assert (read_status(run).epoch, read_status(run).step) == (3, 90)


def test_a_long_epoch_gives_a_sign_of_life_each_minute(run, monkeypatch):
    now = 1000.0
    monkeypatch.setattr(status.time, "monotonic", lambda: now)
    keeper = StatusFile(run)
    keeper.on_train_start(trainer(), MODULE)
    now += 59
    keeper.on_train_batch_end(trainer(0, 8), MODULE)
    assert read_status(run).step == 0
    now += 2
    keeper.on_train_batch_end(trainer(0, 9), MODULE)
    assert read_status(run).step == 9


@pytest.mark.parametrize(
    ("error", "epoch", "state", "reason"),
    [
        (None, 4, "finished", None),
        (None, 2, "stopped", None),
        (SIGTERMException(), 2, "stopped", None),
        (CollapseStop("all the same"), 2, "stopped", "all the same"),
        (KeyboardInterrupt(), 2, "stopped", None),
        (SystemExit(1), 2, "stopped", None),
        (ValueError("two\n lines"), 2, "failed", "ValueError: two lines"),
        (MemoryError(), 2, "failed", "MemoryError: no reason given"),
    ],
)
def test_how_it_ends(run, error, epoch, state, reason):
    said = ended(run, error, epoch)
    assert (said.state, said.reason, said.epoch, said.step) == (state, reason, epoch, 17)


def test_training_that_never_starts_leaves_the_status_alone(run):
    ended(run)
    before = run.status.read_text()
    with pytest.raises(ValueError, match="refused"), StatusFile(run).watching(trainer()):
        raise ValueError("refused")
    assert run.status.read_text() == before


def test_a_resumed_run_keeps_its_start_and_forgets_its_failure(run):
    ended(run, ValueError("bad"))
    write_status(run, RunStatus("failed", started="2020-01-01T00:00:00+00:00", reason="bad"))
    StatusFile(run).on_train_start(trainer(), MODULE)
    said = read_status(run)
    assert (said.state, said.started, said.reason) == ("running", "2020-01-01T00:00:00+00:00", None)


def test_only_the_first_process_writes(run):
    keeper, second = StatusFile(run), trainer(rank=1)
    with keeper.watching(second):
        keeper.on_train_start(second, MODULE)
    assert list(run.path.iterdir()) == []


def test_a_run_whose_process_is_gone_was_killed(run):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    write_status(run, RunStatus("running", epoch=3, pid=gone.pid, host=socket.gethostname()))
    assert (read_status(run).state, read_status(run).epoch) == ("killed", 3)


def test_a_pid_that_another_process_has_got_since_is_not_the_run(run):
    StatusFile(run).on_train_start(trainer(), MODULE)
    values = json.loads(run.status.read_text())
    if values["process_began"] is None:
        pytest.skip("this kernel does not tell when a process was started")
    run.status.write_text(json.dumps(values | {"process_began": values["process_began"] - 1}))
    assert read_status(run).state == "killed"


def test_of_another_machine_s_processes_nothing_is_known(run):
    StatusFile(run).on_train_start(trainer(), MODULE)
    values = json.loads(run.status.read_text())
    run.status.write_text(json.dumps(values | {"host": "elsewhere", "pid": 2**22 + 1, "process_began": 1}))
    assert read_status(run).state == "running"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "there is no status.json"),
        ("", "cannot be read"),
        ("[1]", "cannot be read"),
        ('{"epoch": 3}', "cannot be read"),
        ('{"state": "dancing"}', "state is 'dancing'"),
        (b"\xff\xfe", "cannot be read"),
    ],
)
def test_what_cannot_be_read_is_unknown(run, content, reason):
    if content is not None:
        run.status.write_bytes(content if isinstance(content, bytes) else content.encode())
    said = read_status(run)
    assert said.state == "unknown"
    assert reason in said.reason


def test_keys_of_a_later_version_are_passed_over(run):
    run.status.write_text('{"state": "finished", "epoch": 3, "mood": "good"}')
    assert read_status(run).epoch == 3


def test_a_full_disk_does_not_end_the_run(run, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.warns(UserWarning, match=r"status\.json could not be written.*No space left"):
        StatusFile(run).on_train_start(trainer(), MODULE)

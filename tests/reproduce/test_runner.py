"""What is left of a run, and the processes that train it: tiny scripts here, in place of pretraining."""

import os
import signal
import socket
import sys
import threading
import time

import pytest

from solo_frossl.reproduce import Cell, remaining, run_cells, runner
from solo_frossl.run_files import RunFolder, RunStatus, write_metrics, write_status


def cell(name="a", probe=None, **options) -> Cell:
    return Cell(name, "frossl", "stl10", 7, "configs/stl10/frossl.yaml", {"data.root": "my images"} | options, 3, probe)


def begin(folder, name="a", epochs=1, state="stopped", **status) -> RunFolder:
    """A run's folder as training leaves it."""
    run = RunFolder(folder / name)
    run.last.parent.mkdir(parents=True)
    run.last.touch()
    run.config.write_text("method: frossl\n")
    write_status(run, RunStatus(state, epoch=epochs, **status))
    return run


class TestRemaining:
    def test_a_run_that_is_not_there_is_started(self, tmp_path):
        (command,) = remaining(cell(**{"model.momentum": None}), tmp_path, ["--trainer.devices=2"])
        assert command[:4] == [sys.executable, "-m", "solo_frossl", "pretrain"]
        assert command[4:] == [
            *("--config", "configs/stl10/frossl.yaml", "--runs_dir", str(tmp_path), "--name", "a"),
            *("--seed_everything=7", "--data.root=my images", "--model.momentum=null", "--trainer.devices=2"),
        ]

    @pytest.mark.parametrize("state", ["stopped", "failed", "killed"])
    def test_an_interrupted_run_is_resumed(self, tmp_path, state):
        begin(tmp_path, state="stopped" if state == "killed" else state)
        (command,) = remaining(cell(), tmp_path)
        assert command[4:] == [
            *("--resume", str(tmp_path / "a"), "--seed_everything=7", "--data.root=my images"),
            "--stop_after_epoch=null",
        ]

    def test_a_first_part_is_gone_on_with_up_to_its_end(self, tmp_path):
        begin(tmp_path)
        (command,) = remaining(cell(stop_after_epoch=3), tmp_path)
        assert [text for text in command if text.startswith("--stop")] == ["--stop_after_epoch=3"]

    @pytest.mark.parametrize(("epochs", "state"), [(3, "finished"), (3, "stopped"), (4, "stopped")])
    def test_nothing_is_left_of_a_run_that_is_trained_far_enough(self, tmp_path, epochs, state):
        begin(tmp_path, epochs=epochs, state=state)
        assert remaining(cell(), tmp_path) == []

    @pytest.mark.parametrize(("epochs", "left"), [(3, 0), (2, 1)])
    def test_a_run_without_a_status_is_as_far_as_its_metrics(self, tmp_path, epochs, left):
        run = begin(tmp_path)
        run.status.unlink()
        write_metrics(run.metrics, {epoch: {"train/loss": 1.0} for epoch in range(epochs)})
        assert len(remaining(cell(), tmp_path)) == left

    def test_the_probe_follows_training(self, tmp_path):
        train, probe = remaining(cell(probe={"linear.optimizer": "adam"}), tmp_path)
        assert train[3] == "pretrain"
        assert probe[3:] == ["linear", "--backbone", str(tmp_path / "a"), "--linear.optimizer=adam"]

    def test_the_probe_is_done_again_for_newer_weights(self, tmp_path):
        run = begin(tmp_path, epochs=3)
        (probe,) = remaining(cell(probe={}), tmp_path)
        assert probe[3] == "linear"
        (run.path / "linear").mkdir()
        (run.path / "linear" / "linear.json").write_text("{}")
        assert remaining(cell(probe={}), tmp_path) == []
        os.utime(run.last, (time.time() + 10, time.time() + 10))
        assert len(remaining(cell(probe={}), tmp_path)) == 1


@pytest.fixture
def programs(monkeypatch, tmp_path):
    """``programs(a="code", b="code")``: cells; this Python code is left to run of them until ``NAME.done`` is there."""

    def make(**code: str) -> list[Cell]:
        def left(cell, runs_dir, extra=()):
            done = (tmp_path / f"{cell.name}.done").exists()
            return [] if done else [[sys.executable, "-c", code[cell.name], str(tmp_path / cell.name)]]

        monkeypatch.setattr(runner, "remaining", left)
        return [cell(name) for name in code]

    return make


FINISH = "import sys; open(sys.argv[1] + '.done', 'w'); print('well done')"
FAIL = "import sys; print('working'); sys.exit('out of paper')"
SAVE_AND_STOP = """
import signal, sys, time

def save(*args):
    open(sys.argv[1] + ".saved", "w")
    sys.exit(0)

signal.signal(signal.SIGTERM, save)
open(sys.argv[1] + ".up", "w")
time.sleep(60)
"""
DEAF = """
import signal, sys, time

signal.signal(signal.SIGTERM, lambda *args: open(sys.argv[1] + ".heard", "w"))
open(sys.argv[1] + ".up", "w")
for _ in range(60):
    time.sleep(1)
"""
MEET = """
import pathlib, sys, time

me = pathlib.Path(sys.argv[1])
me.with_suffix(".here").touch()
until = time.monotonic() + 60
while not me.with_name("OTHER.here").exists():
    time.sleep(0.01)
    if time.monotonic() > until:
        sys.exit("nobody came")
me.with_suffix(".done").touch()
"""


def states(outcomes) -> dict:
    return {name: outcome.state for name, outcome in outcomes.items()}


def test_a_failure_leaves_the_others_alone(programs, tmp_path):
    said = []
    outcomes = run_cells(programs(a=FAIL, b=FINISH), tmp_path, say=said.append)
    assert states(outcomes) == {"a": "failed", "b": "finished"}
    assert outcomes["a"].text == f"exit code 1: out of paper (see {tmp_path}/a.log)"
    assert (tmp_path / "b.log").read_text().endswith("well done\n")
    assert [line.split(" in ")[0] for line in said] == [
        "[1/2] a: started, output",
        "[1/2] a: failed with exit code 1: out of paper (see " + str(tmp_path) + "/a.log)",
        "[2/2] b: started, output",
        "[2/2] b: finished",
    ]


def test_the_log_holds_the_command_and_is_continued(programs, tmp_path):
    cells = programs(a=FAIL)
    for _ in range(2):
        run_cells(cells, tmp_path, say=lambda text: None)
    lines = (tmp_path / "a.log").read_text().splitlines()
    assert [line[:1] for line in lines if line.startswith("$ ")] == ["$", "$"]
    assert lines.count("out of paper") == 2


def test_what_is_finished_is_skipped(programs, tmp_path):
    (tmp_path / "a.done").touch()
    said = []
    assert states(run_cells(programs(a=FAIL), tmp_path, say=said.append)) == {"a": "finished"}
    assert said == ["[1/1] a: finished before"]


def test_several_run_at_once(programs, tmp_path):
    """Each waits for the other one."""
    cells = programs(a=MEET.replace("OTHER", "b"), b=MEET.replace("OTHER", "a"))
    assert states(run_cells(cells, tmp_path, jobs=2, say=lambda text: None)) == {"a": "finished", "b": "finished"}


def test_a_program_that_ends_well_without_progress_was_stopped_from_outside(programs, tmp_path):
    assert states(run_cells(programs(a="pass"), tmp_path, say=lambda text: None)) == {"a": "stopped"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_lets_what_runs_save_and_begins_nothing_more(programs, tmp_path, number):
    said = []
    before = signal.getsignal(number)
    _signal_when(tmp_path / "a.up", number)
    outcomes = run_cells(programs(a=SAVE_AND_STOP, b=FINISH), tmp_path, say=said.append)
    assert states(outcomes) == {"a": "stopped", "b": "waiting"}
    assert (tmp_path / "a.saved").exists()
    assert "stopping: what runs saves and ends; once more kills it" in said
    assert signal.getsignal(number) is before


def test_the_second_signal_kills(programs, tmp_path):
    _signal_when(tmp_path / "a.up", signal.SIGINT)
    _signal_when(tmp_path / "a.heard", signal.SIGINT)
    assert states(run_cells(programs(a=DEAF), tmp_path, say=lambda text: None)) == {"a": "stopped"}


def _signal_when(file, number) -> None:
    """Send this process a signal as soon as a file is there."""

    def wait() -> None:
        while not file.exists():
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    threading.Thread(target=wait, daemon=True).start()


def test_a_run_that_another_process_trains_is_left_alone(programs, tmp_path):
    run = begin(tmp_path, state="running", host="elsewhere", pid=42)
    outcomes = run_cells(programs(a=FINISH), tmp_path, say=lambda text: None)
    assert states(outcomes) == {"a": "busy"}
    assert "process 42 on elsewhere is training it" in outcomes["a"].text
    assert f"(or was, then delete {run.status})" in outcomes["a"].text


def test_a_run_that_a_killed_call_has_left_is_told_of(programs, tmp_path):
    begin(tmp_path, state="running", host=socket.gethostname(), pid=os.getpid())
    said = []
    assert states(run_cells(programs(a=FINISH), tmp_path, say=said.append)) == {"a": "busy"}
    about = f"process {os.getpid()} on {socket.gethostname()} is training it, of another call or left by one that was"
    assert said == [f"[1/1] a: {about} killed; this call leaves it alone"]


def test_when_nobody_reads_on_what_runs_saves_and_nothing_more_begins(programs, tmp_path):
    def say(text):
        if (tmp_path / "a.up").exists() or text.startswith("[2/3] b: started"):
            until = time.monotonic() + 60
            while not (tmp_path / "a.up").exists() and time.monotonic() < until:
                time.sleep(0.01)
            raise BrokenPipeError

    outcomes = run_cells(programs(a=SAVE_AND_STOP, b=FINISH, c=FINISH), tmp_path, jobs=2, say=say)
    assert states(outcomes) == {"a": "stopped", "b": "stopped", "c": "waiting"}
    assert (tmp_path / "a.saved").exists()


def test_a_folder_that_a_run_was_killed_in_before_it_began_is_made_anew(programs, tmp_path):
    (tmp_path / "a" / "wandb").mkdir(parents=True)
    assert states(run_cells(programs(a=FINISH), tmp_path, say=lambda text: None)) == {"a": "finished"}
    assert not (tmp_path / "a").exists()


def test_a_folder_that_is_no_run_is_left_alone(programs, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "thesis.tex").write_text("x")
    outcomes = run_cells(programs(a=FINISH), tmp_path, say=lambda text: None)
    assert states(outcomes) == {"a": "failed"}
    assert "it has no config.yaml, but thesis.tex; move it away" in outcomes["a"].text
    assert (tmp_path / "a" / "thesis.tex").exists()


class TestEnvironments:
    """GPUs and threads of the jobs that run at once."""

    @pytest.fixture
    def machine(self, monkeypatch):
        def make(gpus: int, cores: int = 8, **environment: str) -> None:
            monkeypatch.setattr(runner.torch.cuda, "device_count", lambda: gpus)
            monkeypatch.setattr(runner.os, "sched_getaffinity", lambda pid: set(range(cores)))
            for name in ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS"):
                monkeypatch.delenv(name, raising=False)
            for name, value in environment.items():
                monkeypatch.setenv(name, value)

        return make

    def gpus(self, jobs, devices):
        return [e.get("CUDA_VISIBLE_DEVICES") for e in runner._environments(jobs, devices, None)]

    def threads(self, jobs, devices=1, threads=None):
        return [e.get("OMP_NUM_THREADS") for e in runner._environments(jobs, devices, threads)]

    def test_each_job_has_gpus_of_its_own(self, machine):
        machine(4)
        assert self.gpus(4, 1) == ["0", "1", "2", "3"]
        assert self.gpus(2, 2) == ["0,1", "2,3"]
        assert self.gpus(1, 4) == ["0,1,2,3"]

    def test_only_visible_gpus_are_shared_out(self, machine):
        machine(2, CUDA_VISIBLE_DEVICES="5,7")
        assert self.gpus(2, 1) == ["5", "7"]

    def test_more_jobs_than_gpus_share_them(self, machine):
        machine(2)
        assert self.gpus(5, 1) == ["0", "1", "0", "1", "0"]

    def test_more_devices_than_gpus_are_refused(self, machine):
        machine(2)
        with pytest.raises(ValueError, match="3 devices are asked for, and there are 2 GPUs here: 0, 1"):
            self.gpus(1, 3)

    def test_cpu_cores_are_shared_out(self, machine):
        machine(0)
        assert self.gpus(2, 1) == [None, None]
        assert self.threads(2) == ["4", "4"]
        assert self.threads(2, devices=2) == ["2", "2"]
        assert self.threads(16) == ["1"] * 16
        assert self.threads(2, threads=3) == ["3", "3"]

    def test_a_single_job_and_the_user_s_own_choice_are_left_alone(self, machine):
        machine(0)
        assert self.threads(1) == [None]
        machine(0, OMP_NUM_THREADS="5")
        assert self.threads(2) == [None, None]

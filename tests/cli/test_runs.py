"""The main job end to end: real processes, real kills, real files."""

import csv
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from pseudo_terminal import terminal
from signal_at_step import NO_SIGNAL, signal_at_step
from wandb_file import read_wandb

from solo_frossl.cli.dashboard import metrics
from solo_frossl.cli.pretrain import pretrain
from solo_frossl.run_files import RunFolder, read_metrics, read_spectra, read_status
from solo_frossl.runs import newest_readable, read_checkpoint

ROOT = Path(__file__).parents[2]
TINY = [
    "--data.subset=256",
    "--data.batch_size=64",
    "--trainer.max_epochs=3",
    "--trainer.accelerator=cpu",
    "--model.backbone=test_resnet",
    "--model.stem=imagenet",
    "--model.projector.hidden=64",
    "--model.projector.output=32",
]
STEPS = 4


def arguments(folder, *more, method="frossl"):
    return ["--config", str(ROOT / f"configs/digits/{method}.yaml"), f"--runs_dir={folder}", "--name=r", *TINY, *more]


def start(folder, *more, **kwargs):
    """The main job in a process of its own, of a user who has no W&B key."""
    command = [sys.executable, str(ROOT / "main_pretrain.py"), *arguments(folder, *more)]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("WANDB")}
    environment |= {"OMP_NUM_THREADS": "1", "NETRC": str(folder / "no-netrc"), "PYTHONPATH": str(ROOT / "tests")}
    environment |= {f"WANDB_{name}_DIR": str(folder / f"wandb-{name}") for name in ("DATA", "CACHE", "CONFIG")}
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **kwargs
    )


def finish(process):
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return output


def test_what_the_trainer_refuses_leaves_no_folder(tmp_path):
    with pytest.raises(SystemExit):
        pretrain(arguments(tmp_path, "--trainer.accelerator=abacus"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--data.batch_size=100000"], "do not fill one batch"),
        (["--data.views=[{recipe: digits, count: 3}]"], "BarlowTwins compares two views, and data.views makes 3"),
        (["--trainer.max_steps=10"], "trainer.max_steps is 10"),
        (["--trainer.max_epochs=0"], "trainer.max_epochs is 0"),
        (["--stop_after_epoch=0"], "stop_after_epoch is 0"),
        (["--trainer.precision=bf16-true"], "trainer.precision is bf16-true"),
        (["--method=frossl"], "is for barlow_twins, and --method is frossl: give the file of frossl"),
    ],
)
def test_a_run_that_cannot_start_leaves_no_folder(tmp_path, capsys, wrong, message):
    try:
        code = pretrain(arguments(tmp_path, *wrong, method="barlow_twins"))
    except SystemExit as stop:
        code = stop.code
    assert code in (1, 2)
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_refused_resume_leaves_the_configuration_alone(tmp_path, capsys):
    assert pretrain(arguments(tmp_path, "--trainer.max_epochs=1", "--checkpoint.every_n_steps=3")) == 0
    os.replace(tmp_path / "r/checkpoints/previous.ckpt", tmp_path / "r/checkpoints/last.ckpt")  # in mid-epoch
    kept = (tmp_path / "r/config.yaml").read_text()
    more = [f"--runs_dir={tmp_path}", "--resume=r"]
    assert pretrain([*more, "--data.batch_size=32"]) == 1
    assert "saved after 3 of 4 batches" in capsys.readouterr().err
    assert (tmp_path / "r/config.yaml").read_text() == kept
    assert pretrain([*more, "--trainer.max_epochs=2"]) == 0
    assert yaml.safe_load((tmp_path / "r/config.yaml").read_text())["trainer"]["max_epochs"] == 2


@pytest.mark.slow
def test_a_configuration_given_on_resuming_lies_over_the_run_s_own(tmp_path):
    """In both ways of writing it."""
    assert pretrain(arguments(tmp_path, "--trainer.max_epochs=1")) == 0
    (tmp_path / "more.yaml").write_text("trainer:\n  max_epochs: 2\n")
    for given in (["--config", str(tmp_path / "more.yaml")], [f"--config={tmp_path}/more.yaml"]):
        assert pretrain([f"--runs_dir={tmp_path}", "--resume=r", *given]) == 0
        config = yaml.safe_load((tmp_path / "r/config.yaml").read_text())
        assert (config["trainer"]["max_epochs"], config["data"]["subset"]) == (2, 256)
    assert len(rows(tmp_path)) == 2


@pytest.mark.slow
def test_a_run_in_two_parts_is_the_whole_run(tmp_path):
    """The schedules of the first part are those of the whole."""
    for part in ("whole", "parts"):
        (tmp_path / part).mkdir()
    assert pretrain(arguments(tmp_path / "whole")) == 0
    assert pretrain(arguments(tmp_path / "parts", "--stop_after_epoch=2")) == 0
    assert len(rows(tmp_path / "parts")) == 2
    for same in (2, 1):  # as far already
        assert pretrain([f"--runs_dir={tmp_path}/parts", "--resume=r", f"--stop_after_epoch={same}"]) == 0
        assert len(rows(tmp_path / "parts")) == 2
    assert pretrain([f"--runs_dir={tmp_path}/parts", "--resume=r", "--stop_after_epoch=null"]) == 0
    assert_identical(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    for key in ("train/loss", "online/top1", "learning_rate"):
        assert [row[key] for row in rows(tmp_path / "whole")] == [row[key] for row in rows(tmp_path / "parts")]


def weights(folder):
    return read_checkpoint(folder / "r/checkpoints/last.ckpt")["state_dict"]


def assert_identical(a, b):
    assert a.keys() == b.keys()
    assert [key for key in a if not torch.equal(a[key], b[key])] == []


def state(folder):
    return read_status(RunFolder(folder / "r")).state


def rows(folder):
    with open(folder / "r/metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """One run in a process of its own, and what it printed."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    return folder, finish(start(folder))


@pytest.mark.slow
def test_a_run_leaves_what_it_promises(uninterrupted):
    folder, output = uninterrupted
    checkpoints = ("checkpoints/last.ckpt", "checkpoints/best.ckpt")
    for name in ("config.yaml", "metrics.csv", "spectrum.bin", "curves.png", *checkpoints):
        assert (folder / "r" / name).is_file(), name
    assert not list((folder / "r").rglob("*.part"))
    status = read_status(RunFolder(folder / "r"))
    assert (status.state, status.epoch, status.epochs, status.step) == ("finished", 3, 3, 3 * STEPS)
    table = rows(folder)
    assert [int(float(row["epoch"])) for row in table] == [0, 1, 2]
    for column in (
        "train/loss",
        "train/variance",
        "train/invariance",
        "online/top1",
        "online/top5",
        "knn/top1",
        "spectrum/effective_rank",
        "spectrum/embeddings/l14",
        "spectrum/features/rankme",
        "spectrum/view_correlation",
        "images_per_second",
    ):
        assert all(float(row[column]) == float(row[column]) for row in table), column
    assert "main_linear.py" in output
    assert "Traceback" not in output


@pytest.mark.parametrize("columns", [100, 60])
def test_a_terminal_shows_a_progress_bar_and_is_left_with_the_table(tmp_path, columns):
    with terminal(columns) as screen:
        assert pretrain(arguments(tmp_path, "--trainer.max_epochs=2")) == 0
        lines = screen.lines()
    table = [line.split() for line in lines if line.lstrip().startswith(("epoch ", "1/2 ", "2/2 "))]
    assert [line[0] for line in table] == ["epoch", "1/2", "2/2"]
    assert {"online", "k-NN", "eff."} <= set(table[0])
    assert "epoch 1/2  step 0/4" in screen.written.decode()
    assert not any("█" in line for line in lines)


@pytest.mark.slow
def test_the_dashboard_draws_what_a_run_measures(uninterrupted):
    folder, _ = uninterrupted
    measured = set().union(*read_metrics(folder / "r/metrics.csv").values())
    assert metrics() - measured == {"online/target_top1"}


@pytest.mark.slow
def test_killed_again_and_again_it_ends_bit_identical(uninterrupted, tmp_path):
    whole, _ = uninterrupted
    draw = random.Random(0)
    every_step = "--checkpoint.every_n_steps=1"
    for resume in ((), ("--resume",), ("--resume",)):
        step = _steps_saved(tmp_path) + draw.randint(2, 3)
        process = start(tmp_path, every_step, *resume, signal_at_step("SIGKILL", step, draw.uniform(0, 0.05)))
        output, _ = process.communicate(timeout=300)
        assert process.returncode == -signal.SIGKILL, output
        assert _steps_saved(tmp_path) in (step - 1, step)
        assert state(tmp_path) == "killed"
    finish(start(tmp_path, every_step, "--resume", NO_SIGNAL))
    assert_identical(weights(whole), weights(tmp_path))
    assert [row["epoch"] for row in rows(tmp_path)] == [row["epoch"] for row in rows(whole)]
    for ours, theirs in zip(rows(tmp_path), rows(whole), strict=True):
        for key in ("train/loss", "train/online_top1", "online/top1", "knn/top1", "spectrum/embeddings/entropy"):
            assert ours[key] == theirs[key], key
    assert (tmp_path / "r/spectrum.bin").read_bytes() == (whole / "r/spectrum.bin").read_bytes()


def _steps_saved(folder):
    """Steps in the newest checkpoint, which is ``previous`` between the two renames that put a new one in place."""
    newest = newest_readable(RunFolder(folder / "r"))
    return 0 if newest is None else read_checkpoint(newest)["global_step"]


@pytest.mark.slow
def test_a_truncated_newest_checkpoint_falls_back_to_the_one_before(uninterrupted, tmp_path):
    whole, _ = uninterrupted
    finish(start(tmp_path, "--trainer.max_epochs=3"))
    last = tmp_path / "r/checkpoints/last.ckpt"
    last.write_bytes(last.read_bytes()[:-1000])
    output = finish(start(tmp_path, "--resume"))
    assert "trying the one before" in output
    assert_identical(weights(whole), weights(tmp_path))


@pytest.mark.slow
def test_sigterm_saves_and_exits_cleanly(uninterrupted, tmp_path):
    whole, _ = uninterrupted
    output = finish(start(tmp_path, "--checkpoint.every_n_steps=0", signal_at_step("SIGTERM", STEPS + 2)))
    assert f"Stopped by SIGTERM; saved after step {STEPS + 2}." in output
    assert "Traceback" not in output
    assert _steps_saved(tmp_path) == STEPS + 2
    assert state(tmp_path) == "stopped"
    finish(start(tmp_path, "--resume", NO_SIGNAL))
    assert_identical(weights(whole), weights(tmp_path))


@pytest.mark.slow
def test_ctrl_c_saves_too(uninterrupted, tmp_path):
    whole, _ = uninterrupted
    process = start(tmp_path, "--checkpoint.every_n_steps=0", signal_at_step("SIGINT", STEPS + 2))
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 130, output
    assert "press Ctrl-C again" in output
    assert f"Stopped by Ctrl-C; saved after step {STEPS + 2}." in output
    assert state(tmp_path) == "stopped"
    assert "Traceback" not in output
    finish(start(tmp_path, "--resume", NO_SIGNAL))
    assert_identical(weights(whole), weights(tmp_path))


def test_a_model_that_changed_is_not_resumed(tmp_path, capsys):
    assert pretrain(arguments(tmp_path, "--trainer.max_epochs=1")) == 0
    assert pretrain([f"--runs_dir={tmp_path}", "--resume=r", "--model.projector.hidden=32"]) == 1
    error = capsys.readouterr().err
    assert "must not change on resuming: model.projector.hidden from 64 to 32" in error
    assert "Traceback" not in error


@pytest.mark.slow
def test_two_processes_run_and_share_one_folder(tmp_path):
    command = [sys.executable, str(ROOT / "main_pretrain.py")]
    command += arguments(tmp_path, "--trainer.devices=2", "--trainer.strategy=ddp")
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == ["r"]
    assert [int(float(row["epoch"])) for row in rows(tmp_path)] == [0, 1, 2]
    assert done.stdout.count("run folder:") == 1
    assert "sync_dist" not in done.stderr
    assert read_spectra(tmp_path / "r/spectrum.bin").features.shape == (4, 63)  # of the global batch


@pytest.mark.slow
def test_wandb_without_a_key_gets_every_number_offline(tmp_path):
    """Of a run and of its continuation, which is the same run to W&B."""
    output = finish(start(tmp_path, "--wandb", "--trainer.max_epochs=2"))
    assert f"wandb sync {tmp_path}/r/wandb/offline-run-*" in output
    finish(start(tmp_path, "--resume", "--trainer.max_epochs=3", "--wandb_checkpoints"))
    first, second = (read_wandb(path) for path in sorted((tmp_path / "r/wandb").glob("offline-run-*/*.wandb")))
    metrics = read_metrics(tmp_path / "r/metrics.csv")
    sent = [line for line in [*first.history, *second.history] if "spectrum/eigenvalues" not in "".join(line)]
    assert [line["epoch"] for line in sent] == [1, 2, 3]
    for epoch, line in enumerate(sent):
        assert {name: line.get(name) for name in metrics[epoch]} == metrics[epoch]
    for file in (first, second):
        config = yaml.safe_load((tmp_path / "r/config.yaml").read_text())
        assert {key: file.config[key] for key in config if key not in ("trainer", "wandb_checkpoints")} == {
            key: config[key] for key in config if key not in ("trainer", "wandb_checkpoints")
        }
        assert file.run.run_id == (tmp_path / "r/wandb-id.txt").read_text()
        assert (file.run.project, file.run.run_group, file.run.job_type) == ("solo-frossl", "digits/frossl", "pretrain")
        assert list(file.run.tags) == ["digits", "frossl", "test_resnet"]
        assert file.axes == {"epoch": "", "*": "epoch"}
        assert any(name.startswith("spectrum/eigenvalues") for line in file.history for name in line)
        assert file.exit_code == 0
    accuracies = [metrics[epoch]["online/top1"] for epoch in range(3)]
    assert second.summary["best/online_top1"] == max(accuracies)
    assert second.summary["best/epoch"] == 1 + accuracies.index(max(accuracies))
    assert second.summary["last/online_top1"] == accuracies[-1]
    assert (first.config["trainer"]["max_epochs"], second.config["trainer"]["max_epochs"]) == (2, 3)
    assert [kind for kind, *_ in first.artifacts].count("model") == 0
    assert [aliases for kind, aliases, _ in second.artifacts if kind == "model"] == [
        {"latest", "best"},
        {"latest", "last"},
    ]


def test_a_diverging_run_says_where_and_keeps_the_last_good_checkpoint(tmp_path, capsys):
    code = pretrain(arguments(tmp_path, "--model.optimizer.lr=1e30", "--model.schedule.warmup_epochs=0"))
    error = capsys.readouterr().err
    assert code == 1
    assert "train/" in error
    assert "is not finite at epoch 1, batch " in error
    assert "No checkpoint was written yet" in error
    assert "Traceback" not in error
    status = read_status(RunFolder(tmp_path / "r"))
    assert (status.state, status.epoch) == ("failed", 0)
    assert status.reason.startswith("NonFiniteError: train/")
    assert not (tmp_path / "r/checkpoints/last.ckpt").exists()


def test_a_dry_run_tells_and_writes_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert pretrain(arguments(tmp_path, "--dry_run")) == 0
    printed = capsys.readouterr().out
    for word in ("backbone", "projector", "parameters", "memory", "s a training step", "for 3 epochs", "4 steps of 64"):
        assert word in printed, word
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--model.invarance_weight=1"], "invariance_weight"),
        (["--data.batch_size=many"], "batch_size"),
        (["--trainer.max_epoch=3"], "max_epochs"),
        (["--data.batch_size=100000"], "fill one batch"),
        (["--resume=nothing-here"], "no run named 'nothing-here'"),
        (["--resume", "nothing-here"], "no run named 'nothing-here'"),
        (["--resume", "--data.views=[{recipe: digits, count: 2}]"], "no run named 'r'"),
        (["--trainer.accelerator=abacus"], "abacus"),
    ],
)
def test_a_wrong_value_ends_with_one_message(tmp_path, capsys, wrong, message):
    try:
        code = pretrain(arguments(tmp_path, *wrong))
    except SystemExit as stop:
        code = stop.code
    assert code in (1, 2)
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


@pytest.mark.slow
def test_the_kept_configuration_makes_the_same_run_again(uninterrupted, tmp_path):
    folder, _ = uninterrupted
    kept = folder / "r/config.yaml"
    assert yaml.safe_load(kept.read_text())["data"]["subset"] == 256
    command = [sys.executable, str(ROOT / "main_pretrain.py"), "--config", str(kept), f"--runs_dir={tmp_path}"]
    subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True, capture_output=True, timeout=300
    )
    assert_identical(weights(folder), weights(tmp_path))

"""What a run sends to W&B, read back from the file that W&B writes offline."""

import math
import os
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
import wandb
from lightning.pytorch.utilities.exceptions import SIGTERMException
from wandb_file import read_wandb

from solo_frossl.run_files import RunFolder, Spectra, SpectraFile, write_metrics
from solo_frossl.runs import WandbRun, weights_and_biases
from solo_frossl.spectrum import CollapseStop

CONFIG = {
    "method": "frossl",
    "model": {"optimizer": {"lr": 0.3, "betas": [0.9, 0.99]}, "stem": None},
    "seed_everything": 1,
}


@pytest.fixture(autouse=True)
def user_without_a_key(monkeypatch, tmp_path):
    """Nothing of the machine's own W&B settings, and nothing written outside."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_TAGS", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    wandb.teardown()  # W&B reads the environment once
    yield
    wandb.teardown()


@pytest.fixture
def run(tmp_path):
    (tmp_path / "r").mkdir()
    return RunFolder(tmp_path / "r")


def sender(run, **options):
    options = {"project": "p", "config": CONFIG, "group": "cifar10/frossl", "tags": ["cifar10", "frossl"]} | options
    return WandbRun(run, **options)


def trainer(epoch, rank=0):
    return SimpleNamespace(current_epoch=epoch, is_global_zero=rank == 0)


def row(epoch):
    return {
        "train/loss": -float(epoch),
        "online/top1": [50.0, 62.5, 61.0, math.nan][epoch],
        "spectrum/embeddings/l1": 0.5,
    }


def train(callback, run, epochs, error=None):
    """The hooks of a run that trains these epochs."""
    callback.on_fit_start(trainer(0), None)
    for epoch in epochs:
        (callback.on_train_start if epoch == epochs[0] else callback.on_train_epoch_start)(trainer(epoch), None)
        write_metrics(run.metrics, {e: row(e) for e in range(epoch + 1)})
    done = trainer(epochs[-1] + 1)
    callback.on_exception(done, None, error) if error else callback.on_fit_end(done, None)


def write_spectra(run, epochs, per_epoch=2):
    """A few checks each epoch, as training leaves them."""
    file = SpectraFile(run.spectrum)
    file.continue_from(0)
    one = np.ones(20)
    for step in range(epochs * per_epoch):
        others = {"predictor": one[:0], "alignment": one[:0], "view_correlation": one, "variance_share": 1.0}
        others |= {"embeddings_rankme": 1.0, "features_rankme": 1.0}
        file.append(step=step, epoch=step / per_epoch, embeddings=one, features=one, **others)


def files(run):
    wandb.teardown()  # W&B's own process writes the last of the file after the run is finished
    return [read_wandb(path) for path in sorted(run.path.glob("wandb/offline-run-*/*.wandb"))]


def rows_of(file):
    return [{k: v for k, v in line.items() if not k.startswith("_")} for line in file.history]


def test_every_number_of_the_metrics_file_is_sent_once(run, capsys):
    train(sender(run), run, range(4))
    (sent,) = files(run)
    for epoch, line in enumerate(rows_of(sent)):
        expected = row(epoch) | {"epoch": epoch + 1}
        assert line.keys() == expected.keys()
        assert all(line[name] == value or value != value for name, value in expected.items())
    assert math.isnan(rows_of(sent)[3]["online/top1"])
    assert sent.axes == {"epoch": "", "*": "epoch"}
    assert sent.exit_code == 0
    assert f"wandb sync {run.path}/wandb/offline-run-*" in capsys.readouterr().out


def test_the_summary_has_best_and_last_accuracy_and_the_epoch_of_the_best(run):
    train(sender(run), run, range(4))
    (sent,) = files(run)
    assert {name: sent.summary[name] for name in ("best/online_top1", "best/epoch", "last/online_top1", "epoch")} == {
        "best/online_top1": 62.5,
        "best/epoch": 2,
        "last/online_top1": 61.0,
        "epoch": 4,
    }


def test_the_run_can_be_found(run, monkeypatch):
    monkeypatch.setenv("WANDB_TAGS", "mine,cifar10")
    train(sender(run, tags=["cifar10", "a.class.of.ones.own" * 9]), run, range(1))
    (sent,) = files(run)
    assert (sent.run.project, sent.run.display_name, sent.run.run_group) == ("p", "r", "cifar10/frossl")
    assert sent.run.job_type == "pretrain"
    assert [len(tag) for tag in sent.run.tags] == [7, 64, 4]
    assert sent.run.tags[2] == "mine"
    assert {key: sent.config[key] for key in CONFIG} == CONFIG


def test_a_resumed_run_goes_on_under_its_id_and_sends_nothing_twice(run):
    train(sender(run), run, range(2), RuntimeError("killed"))
    train(sender(run, config=CONFIG | {"seed_everything": 2}), run, range(2, 4))
    first, second = files(run)
    assert first.run.run_id == second.run.run_id == (run.path / "wandb-id.txt").read_text()
    assert [[line["epoch"] for line in rows_of(file)] for file in (first, second)] == [[1, 2], [3, 4]]
    assert (first.exit_code, second.exit_code) == (1, 0)
    assert second.config["seed_everything"] == 2
    assert second.summary["best/epoch"] == 2


KILLED = """
import os, sys, time
from pathlib import Path
from types import SimpleNamespace
from solo_frossl.run_files import RunFolder, write_metrics
from solo_frossl.runs import WandbRun
run = RunFolder(Path(sys.argv[1]))
callback = WandbRun(run, project="p", config={}, group="g", tags=[])
at = lambda epoch: SimpleNamespace(current_epoch=epoch, is_global_zero=True)
callback.on_fit_start(at(0), None)
for epoch in range(3):
    write_metrics(run.metrics, {e: {"train/loss": float(e)} for e in range(epoch + 1)})
    callback.on_train_epoch_start(at(epoch + 1), None)
    noted = run.path / "wandb-epochs.txt"
    while epoch == 1 and not (noted.is_file() and noted.read_text() == "2"):
        callback.on_train_batch_end(at(2), None)
        time.sleep(0.1)
os.kill(os.getpid(), 9)
"""


@pytest.mark.slow
def test_a_kill_loses_no_epoch(run):
    """Two epochs that W&B had time to write, and one that it had not: it dies with the run."""
    subprocess.run(
        [sys.executable, "-c", KILLED, str(run.path)], timeout=300, env=os.environ | {"WANDB_SILENT": "true"}
    )
    assert (run.path / "wandb-epochs.txt").read_text() == "2"
    time.sleep(1)  # W&B's process sees that it is alone
    train(sender(run), run, range(3, 4))
    first, second = files(run)
    assert first.run.run_id == second.run.run_id
    assert [line["epoch"] for line in rows_of(first)][:2] == [1, 2]
    assert [line["epoch"] for line in rows_of(second)] == [3, 4]


def test_epochs_that_were_trained_without_wandb_are_sent_too(run):
    write_metrics(run.metrics, {epoch: row(epoch) for epoch in range(2)})
    train(sender(run), run, range(2, 3))
    assert [line["epoch"] for line in rows_of(files(run)[0])] == [1, 2, 3]


def test_rows_of_epochs_that_run_again_wait_for_their_end(run):
    write_metrics(run.metrics, {epoch: row(epoch) for epoch in range(3)})
    callback = sender(run)
    callback.on_fit_start(trainer(0), None)
    callback.on_train_start(trainer(1), None)
    callback.on_exception(trainer(1), None, RuntimeError())
    assert [line["epoch"] for line in rows_of(files(run)[0])] == [1]


def test_the_eigenvalues_are_drawn_over_the_epochs(run, monkeypatch):
    steps = np.arange(1000)
    values = np.tile(10.0 ** -np.arange(20, dtype=np.float32), (1000, 1))
    values[:, 13] = 0
    others = dict.fromkeys(set(Spectra._fields) - {"step", "epoch", "embeddings"}, np.zeros((1000, 0), np.float32))
    spectra = Spectra(step=steps, epoch=steps / 100, embeddings=values, **others)
    monkeypatch.setattr(weights_and_biases, "read_spectra", lambda path: spectra)
    drawn = {}
    monkeypatch.setattr(wandb.plot, "line_series", lambda **chart: drawn.update(chart) or 1)
    train(sender(run), run, range(1))
    assert rows_of(files(run)[0])[-1] == {"spectrum/eigenvalues": 1, "epoch": 1}
    assert drawn["keys"] == [f"l{i}" for i in range(1, 15)]
    assert (len(drawn["xs"]), drawn["xs"][0], drawn["xs"][-1]) == (200, 0.0, 9.99)
    assert [line[0] for line in drawn["ys"]] == pytest.approx([*(-i for i in range(13)), -12])


def charts(file):
    return [line["epoch"] for line in rows_of(file) if any(name.startswith("spectrum/eigenvalues") for name in line)]


def test_the_chart_comes_every_few_epochs_and_at_the_end(run, monkeypatch):
    monkeypatch.setattr(wandb.plot, "line_series", lambda **chart: 1)
    monkeypatch.setattr(f"{__name__}.row", lambda epoch: {"train/loss": 1.0})
    write_spectra(run, 1)
    train(sender(run), run, range(11))
    (sent,) = files(run)
    assert charts(sent) == [1, 2, 3, 4, 5, 6, 8, 10, 11]


def test_a_resumed_run_draws_only_what_is_new(run):
    write_spectra(run, 1)
    train(sender(run), run, range(2))
    again = sender(run)
    again.on_fit_start(trainer(2), None)
    again.on_train_start(trainer(2), None)
    again.on_fit_end(trainer(2), None)
    train(sender(run), run, range(2, 3))
    first, nothing, second = files(run)
    assert charts(first) == [1, 2]
    assert nothing.history == []
    assert charts(second) == [3]


@pytest.mark.parametrize(
    ("error", "preempting", "exit_code"),
    [
        (SIGTERMException(), True, 1),
        (KeyboardInterrupt(), False, 255),
        (CollapseStop("low"), False, 1),
        (RuntimeError("bad"), False, 1),
    ],
)
def test_a_run_that_was_stopped_to_go_on_later_has_not_failed(run, error, preempting, exit_code):
    train(sender(run), run, range(1), error)
    (sent,) = files(run)
    assert (sent.preempting, sent.exit_code) == (preempting, exit_code)


def test_the_checkpoints_are_sent_when_asked_for(run):
    for path in (run.best, run.last):
        path.parent.mkdir(exist_ok=True)
        path.write_text(path.name)
    train(sender(run), run, range(1))
    train(sender(run, checkpoints=True), run, range(1, 2))
    without, sent = files(run)
    assert without.artifacts == []
    assert sent.artifacts == [
        ("model", {"latest", "best"}, ["model.ckpt"]),
        ("model", {"latest", "last"}, ["model.ckpt"]),
    ]


def test_only_the_first_process_sends(run):
    callback = sender(run)
    for hook in (callback.on_fit_start, callback.on_train_start, callback.on_train_epoch_start, callback.on_fit_end):
        hook(trainer(1, rank=1), None)
    callback.on_exception(trainer(1, rank=1), None, RuntimeError())
    assert list(run.path.iterdir()) == []


def test_a_key_that_is_none_is_an_error(run, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    with pytest.raises(ValueError, match=r"W&B does not take the run: .*key.* Log in anew with"):
        sender(run).on_fit_start(trainer(0), None)


def test_a_refusal_names_the_remedies(run, monkeypatch):
    def refuse(**options):
        raise wandb.errors.AuthenticationError("the key is of another user.")

    monkeypatch.setattr(wandb, "init", refuse)
    with pytest.raises(ValueError, match=r"another user\. Log in anew with `wandb login`, or set WANDB_MODE=offline"):
        sender(run).on_fit_start(trainer(0), None)


def test_with_a_key_it_is_online_unless_asked_otherwise(run, monkeypatch):
    asked = []

    def init(**options):
        asked.append((options["mode"], options["resume"]))
        raise wandb.Error("enough")

    monkeypatch.setattr(wandb, "init", init)
    monkeypatch.setattr(wandb, "login", lambda **options: True)
    for mode in ("online", "offline"):
        monkeypatch.setenv("WANDB_MODE", mode)
        with pytest.raises(ValueError, match="enough"):
            sender(run).on_fit_start(trainer(0), None)
    assert asked == [(None, "allow"), ("offline", "allow")]

from typing import ClassVar

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import TQDMProgressBar

from solo_frossl.report import EpochCSV, EpochTable, LearningRate, Throughput, progress
from solo_frossl.run_files import read_metrics


def test_one_line_an_epoch(fit, tmp_path, capsys):
    fit(tmp_path / "m.csv", 3, [EpochTable(), LearningRate()])
    assert capsys.readouterr().out.splitlines() == [
        "    epoch       loss   variance  off diagonal   online %     k-NN %  eff. rank   images/s         lr",
        "      1/3    10.0000    -1.0000        0.5000      50.00                                    2.50e-01",
        "      2/3    11.0000        nan        0.5000      51.00      41.00                         2.50e-01",
        "      3/3    12.0000    -1.0000        0.5000      52.00                                    2.50e-01",
    ]


def test_lines_stay_whole_beside_a_progress_bar(fit, tmp_path, capsys):
    fit(tmp_path / "m.csv", 2, [EpochTable(), TQDMProgressBar()], enable_progress_bar=True)
    lines = [line.split("\r")[-1].strip() for line in capsys.readouterr().out.splitlines()]
    found = [line.split()[:3] for line in lines if line.startswith(("epoch  ", "1/2  ", "2/2  "))]
    assert found == [["epoch", "loss", "variance"], ["1/2", "10.0000", "-1.0000"], ["2/2", "11.0000", "nan"]]


class Stop(Callback):
    """Stops in an epoch's first batch, having saved at its start."""

    def __init__(self, epoch, checkpoint):
        self.epoch, self.checkpoint = epoch, checkpoint

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if trainer.current_epoch == self.epoch:
            trainer.save_checkpoint(self.checkpoint)
            raise RuntimeError("stop")


def test_a_resumed_run_goes_on_with_its_next_line(fit, tmp_path, capsys):
    with pytest.raises(RuntimeError, match="stop"):
        fit(tmp_path / "m.csv", 3, [EpochTable(), Stop(1, tmp_path / "c.ckpt")])
    first = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in first] == ["epoch", "1/3"]
    fit(tmp_path / "m.csv", 3, [EpochTable()], resume=tmp_path / "c.ckpt")
    second = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in second] == ["epoch", "2/3", "3/3"]


def test_table_needs_the_csv(fit, tmp_path):
    with pytest.raises(ValueError, match="give the Trainer logger=EpochCSV"):
        fit(tmp_path / "m.csv", 1, [EpochTable()], logger=False)


@pytest.fixture
def clock(monkeypatch):
    """Time that moves only when told."""

    class Clock:
        now = 100.0

    monkeypatch.setattr(progress.time, "perf_counter", lambda: Clock.now)
    return Clock


class Work(Callback):
    """A training step takes 2 s, each validation step 50 s, the time between epochs 1000 s."""

    def __init__(self, clock):
        self.clock = clock

    def on_train_batch_start(self, *args):
        self.clock.now += 2

    def on_validation_batch_start(self, *args):
        self.clock.now += 50

    def on_train_epoch_end(self, *args):
        self.clock.now += 1000


@pytest.mark.parametrize("interval", [1.0, 1 / 3])
def test_speed_and_device_seconds_count_training_only(fit, tmp_path, clock, interval):
    fit(tmp_path / "m.csv", 2, [Work(clock), Throughput()][::-1], val_check_interval=interval)
    for row in read_metrics(tmp_path / "m.csv").values():
        assert row["images_per_second"] == pytest.approx(3.0)
        assert row["device_seconds"] == pytest.approx(6.0)


def test_an_epoch_resumed_in_its_middle_has_all_its_device_seconds(fit, tmp_path, clock):
    """Those up to the checkpoint, and those since; not the ones that were lost, nor those of another epoch."""
    stop = Stop(1, tmp_path / "c.ckpt")
    with pytest.raises(RuntimeError, match="stop"):
        fit(tmp_path / "m.csv", 3, [Throughput(), Work(clock), stop])
    clock.now += 7777
    fit(tmp_path / "m.csv", 3, [Throughput(), Work(clock)], resume=tmp_path / "c.ckpt")
    rows = read_metrics(tmp_path / "m.csv")
    assert [rows[epoch]["device_seconds"] for epoch in (1, 2)] == pytest.approx([6.0, 6.0])
    assert [rows[epoch]["images_per_second"] for epoch in (1, 2)] == pytest.approx([3.0, 3.0])


def test_speed_and_device_seconds_count_all_processes(tmp_path, clock):
    class Module:
        device = torch.device("cpu")
        logged: ClassVar[dict] = {}

        def log(self, name, value, **kwargs):
            self.logged[name] = value

    class Trainer:
        world_size = 4

    class Batch:
        label = torch.zeros(8)

    module, callback = Module(), Throughput()
    callback.on_train_epoch_start(Trainer, module)
    clock.now += 2
    callback.on_train_batch_end(Trainer, module, None, Batch, 0)
    callback.on_train_epoch_end(Trainer, module)
    assert module.logged == {"images_per_second": 16.0, "device_seconds": 8.0}


def test_csv_and_table_agree(fit, tmp_path, capsys):
    trainer = fit(tmp_path / "m.csv", 1, [Throughput(), EpochTable()])
    history = next(logger for logger in trainer.loggers if isinstance(logger, EpochCSV))
    speed = capsys.readouterr().out.splitlines()[1].split()[-1]
    assert speed == f"{history.rows[0]['images_per_second']:,.0f}"

"""The progress bar, seen through a pseudo-terminal."""

import re
import sys
import warnings
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import Callback
from pseudo_terminal import terminal

from solo_frossl.report import EpochTable, TerminalBar
from solo_frossl.report import terminal as module_under_test
from solo_frossl.report.terminal import Moment, texts

BAR = re.compile(r"^(epoch )?\d+/\d+ ")


@pytest.fixture(autouse=True)
def every_step_is_drawn(monkeypatch):
    monkeypatch.setattr(module_under_test, "_SECONDS_BETWEEN_DRAWINGS", 0.0)


class Look(Callback):
    """Keeps what the terminal shows after each training step and each validation step."""

    def __init__(self, screen):
        self.screen, self.seen = screen, []

    def on_train_batch_end(self, *args):
        self.seen.append(self.screen.lines())

    def on_validation_batch_end(self, *args):
        self.seen.append(self.screen.lines())


def watch(fit, tmp_path, columns, *callbacks, epochs=2, known=True, **kwargs):
    """The screens seen on the way, and the last one."""
    with terminal(columns, known) as screen:
        look = Look(screen)
        more = [callback(screen) for callback in callbacks]
        bar = [EpochTable(), TerminalBar(), *more, look]
        fit(tmp_path / "m.csv", epochs, bar, enable_progress_bar=True, **kwargs)
        return look.seen, screen.lines()


@pytest.mark.slow
@pytest.mark.parametrize("columns", [130, 60, 35])
def test_table_and_bar_stand_together_whole(fit, tmp_path, columns):
    seen, last = watch(fit, tmp_path, columns)
    assert len(seen) == 2 * (3 + 2)
    for lines in seen:
        assert [i for i, line in enumerate(lines) if BAR.match(line)] == [len(lines) - 1]
        assert len(lines[-1]) <= columns - 3
    assert [line.split()[0] for line in last] == ["epoch", "1/2", "2/2"]
    for lines in [line[:-1] for line in seen]:
        assert lines == last[: len(lines)]


def test_a_terminal_that_does_not_know_its_size_has_80_columns(fit, tmp_path):
    seen, last = watch(fit, tmp_path, 80, known=False)
    for lines in seen:
        assert BAR.match(lines[-1])
        assert 60 < len(lines[-1]) <= 77
    assert [line.split()[0] for line in last] == ["epoch", "1/2", "2/2"]
    assert max(map(len, last)) <= 80


@pytest.mark.slow
def test_a_narrow_terminal_has_the_columns_that_matter_most(fit, tmp_path):
    _, last = watch(fit, tmp_path, 60)
    assert last[0].split() == ["epoch", "loss", "online", "%", "k-NN", "%", "eff.", "rank"]
    _, last = watch(fit, tmp_path, 25)
    assert last[0].split() == ["epoch", "online", "%"]


class Clock:
    """Time that moves only when told: 2 s a training step, 5 s a validation step."""

    def __init__(self, monkeypatch):
        self.now = 100.0
        monkeypatch.setattr("tqdm.std.time", lambda: self.now)
        monkeypatch.setattr(module_under_test.time, "monotonic", lambda: self.now)

    def callback(self, screen):
        clock = self

        class Work(Callback):
            def on_train_batch_start(self, *args):
                clock.now += 2

            def on_validation_batch_start(self, *args):
                clock.now += 5

        return Work()


@pytest.mark.slow
def test_it_tells_speed_and_time_left(fit, tmp_path, monkeypatch):
    seen, _ = watch(fit, tmp_path, 200, Clock(monkeypatch).callback, epochs=3)
    bars = [re.sub(" [^ -~]+ *", " | ", lines[-1]) for lines in seen]
    assert bars == [
        "epoch 1/3  step 1/3 | 3 images/s  epoch 00:04 left  run 00:16 left",
        "epoch 1/3  step 2/3 | 3 images/s  epoch 00:02 left  run 00:14 left",
        "epoch 1/3  step 3/3 | 3 images/s  epoch 00:00 left  run 00:12 left",
        "epoch 1/3  validation 1/2 | 3 images/s  run 00:22 left",
        "epoch 1/3  validation 2/2 | 3 images/s  run 00:32 left",
        "epoch 2/3  step 1/3 | 3 images/s  epoch 00:04 left  run 00:30 left",
        "epoch 2/3  step 2/3 | 3 images/s  epoch 00:02 left  run 00:28 left",
        "epoch 2/3  step 3/3 | 3 images/s  epoch 00:00 left  run 00:26 left",
        "epoch 2/3  validation 1/2 | 3 images/s  run 00:21 left",
        "epoch 2/3  validation 2/2 | 3 images/s  run 00:16 left",
        "epoch 3/3  step 1/3 | 3 images/s  epoch 00:04 left  run 00:14 left",
        "epoch 3/3  step 2/3 | 3 images/s  epoch 00:02 left  run 00:12 left",
        "epoch 3/3  step 3/3 | 3 images/s  epoch 00:00 left  run 00:10 left",
        "epoch 3/3  validation 1/2 | 3 images/s  run 00:05 left",
        "epoch 3/3  validation 2/2 | 3 images/s  run 00:00 left",
    ]


class Measures(Callback):
    """A model with an online accuracy, and a validation that measures the effective rank."""

    def __init__(self, screen):
        pass

    def on_train_start(self, trainer, module):
        module.epoch_means = {
            "online_top1": SimpleNamespace(numerator=torch.tensor(3.0), denominator=torch.tensor(8.0))
        }

    def on_validation_epoch_end(self, trainer, module):
        module.log("spectrum/effective_rank", 7.25)


def test_it_tells_the_online_accuracy_so_far_and_the_last_effective_rank(fit, tmp_path):
    seen, _ = watch(fit, tmp_path, 150, Measures)
    assert "online" not in seen[0][-1]  # asked for after each drawing, shown with the next
    assert "online 37.5 %" in seen[2][-1]
    assert "rank" not in seen[4][-1]
    assert "online" not in seen[5][-1]
    assert "eff. rank 7.2" in seen[5][-1]
    assert "online 37.5 %  eff. rank 7.2" in seen[7][-1]


def test_it_tells_the_effective_rank_as_training_goes_on(fit, tmp_path):
    ranks = iter([None, *range(3, 99)])
    with terminal(150) as screen:
        look = Look(screen)
        bar = [EpochTable(), TerminalBar(effective_rank=lambda: next(ranks)), Measures(screen), look]
        fit(tmp_path / "m.csv", 2, bar, enable_progress_bar=True)
    assert "rank" not in look.seen[1][-1]
    assert "eff. rank 3.0" in look.seen[2][-1]
    shown = [lines[-1].partition("eff. rank ")[2].split(" ")[0] for lines in look.seen[5:8]]
    assert shown == ["5.0", "6.0", "7.0"] or (shown == sorted(shown, key=float) and "7.2" not in shown)


class Warns(Callback):
    """Warns in mid-epoch, and says something by the bar."""

    def __init__(self, screen):
        pass

    def on_train_batch_end(self, trainer, *args):
        if trainer.global_step == 2:
            warnings.warn("look out", stacklevel=1)
            trainer.progress_bar_callback.print("by", "the way", file=sys.stdout)


@pytest.mark.filterwarnings("always:look out")
def test_warnings_stand_above_the_bar(fit, tmp_path):
    _, last = watch(fit, tmp_path, 200, Warns, epochs=1)
    show = warnings.showwarning
    assert last[1].endswith("UserWarning: look out")
    assert last[-2:][0] == "by the way"
    assert last[-1].split()[0] == "1/1"
    assert not any(BAR.match(line) for line in last)
    assert warnings.showwarning is show


class Breaks(Callback):
    """Saves and stops in the second step of the second epoch."""

    def __init__(self, checkpoint):
        self.checkpoint = checkpoint

    def __call__(self, screen):
        self.screen = screen
        return self

    def on_train_batch_end(self, trainer, *args):
        if trainer.global_step == 5:
            trainer.save_checkpoint(self.checkpoint)
            raise RuntimeError("stop")

    def on_exception(self, *args):
        self.last = self.screen.lines()


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before")
def test_a_run_that_stops_leaves_no_bar_and_goes_on_from_there(fit, tmp_path):
    breaks = Breaks(tmp_path / "c.ckpt")
    before = warnings.showwarning
    with pytest.raises(RuntimeError, match="stop"):
        watch(fit, tmp_path, 120, breaks)
    assert [line.split()[0] for line in breaks.last] == ["epoch", "1/2"]
    assert warnings.showwarning is before
    seen, last = watch(fit, tmp_path, 120, resume=tmp_path / "c.ckpt")
    assert seen[0][-1].startswith("epoch 2/2  step 3/3 ")
    assert [line.split()[0] for line in last] == ["epoch", "2/2"]


def test_only_the_first_process_draws(tmp_path):
    with terminal(80) as screen:
        bar, trainer = TerminalBar(), SimpleNamespace(is_global_zero=False)
        bar.setup(trainer, None, "fit")
        bar.on_train_start(trainer, None)
        bar.on_train_batch_end(trainer, None, None, None, 0)
        bar.on_validation_start(trainer, None)
        bar.on_validation_batch_end(trainer, None)
        bar.on_validation_end(trainer, None)
        bar.on_train_end(trainer, None)
        screen.lines()
        assert screen.written == b""


def test_the_texts_fit_into_any_width():
    moment = Moment(100, 1000, 12345, 54321, True, 100.0, 2047.9, 123456.0, 86399.0, 8639999.0)
    for columns in range(32, 200):
        left, right = texts(moment, columns)
        assert len(left) + len(right) + 2 <= columns


@pytest.mark.slow
def test_a_run_that_stops_early_says_what_is_left_until_then(fit, tmp_path):
    with terminal(120) as screen:
        look = Look(screen)
        fit(tmp_path / "m.csv", 5, [TerminalBar(epochs=2), look], enable_progress_bar=True, limit_train_batches=1)
    assert look.seen[0][-1].startswith("epoch 1/2 ")

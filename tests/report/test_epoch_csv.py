import math

import pytest
from lightning.pytorch import Callback

from solo_frossl.report import EpochCSV
from solo_frossl.run_files import MetricsFileError, read_metrics, write_metrics


class Interrupt(Callback):
    """Saves in the middle of an epoch and dies some batches later."""

    def __init__(self, checkpoint, save_at, die_at):
        self.checkpoint, self.save_at, self.die_at = checkpoint, save_at, die_at

    def on_train_batch_end(self, trainer, *args):
        if trainer.global_step == self.save_at:
            trainer.save_checkpoint(self.checkpoint)
        if trainer.global_step == self.die_at:
            raise RuntimeError("killed")


def test_a_run_has_one_row_an_epoch(fit, tmp_path):
    fit(tmp_path / "run" / "metrics.csv", 3)
    text = (tmp_path / "run" / "metrics.csv").read_text()
    assert text.splitlines() == [
        "epoch,online/top1,train/loss,train/variance,train/off_diagonal,knn/top1",
        "0,50.0,10.0,-1.0,0.5,",
        "1,51.0,11.0,nan,0.5,41.0",
        "2,52.0,12.0,-1.0,0.5,",
    ]
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["metrics.csv"]


def test_resuming_drops_the_epochs_that_run_again_and_ends_as_if_never_interrupted(fit, tmp_path):
    fit(tmp_path / "whole.csv", 5)
    path, checkpoint = tmp_path / "metrics.csv", tmp_path / "saved.ckpt"
    with pytest.raises(RuntimeError, match="killed"):
        fit(path, 5, [Interrupt(checkpoint, save_at=5, die_at=11)])  # saved in epoch 1, died in epoch 3
    assert list(read_metrics(path)) == [0, 1, 2]
    first_again = []

    class Look(Callback):
        def on_validation_end(self, trainer, module):
            first_again.append(list(read_metrics(path)))

    fit(path, 5, [Look()], resume=checkpoint)
    assert first_again[0] == [0, 1]  # the row of epoch 2 is gone until it is run again
    assert path.read_text() == (tmp_path / "whole.csv").read_text()


def test_every_float_comes_back(tmp_path):
    rows = {0: {"a/b": 0.1 + 0.2, "with, comma": -1e-300}, 3: {"a/b": math.inf, 'a "quote"': 2.0, "c": math.nan}}
    write_metrics(tmp_path / "m.csv", rows)
    read = read_metrics(tmp_path / "m.csv")
    assert math.isnan(read[3].pop("c"))
    del rows[3]["c"]
    assert read == rows


def test_metrics_of_one_epoch_join_and_columns_grow(tmp_path):
    history = EpochCSV(tmp_path / "m.csv")
    history.log_metrics({"epoch": 0, "a": 1.0}, step=3)
    history.log_metrics({"epoch": 0, "a": 2.0, "b": 5})
    history.log_metrics({"epoch": 1, "c": 7.0})
    assert (tmp_path / "m.csv").read_text() == "epoch,a,b,c\n0,2.0,5.0,\n1,,,7.0\n"
    with pytest.raises(ValueError, match="metrics a, b come without their epoch"):
        history.log_metrics({"a": 1.0, "b": 1.0})


def test_a_failing_disk_leaves_the_old_file(tmp_path, monkeypatch):
    history = EpochCSV(tmp_path / "m.csv")
    history.log_metrics({"epoch": 0, "a": 1.0})

    def full(fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        history.log_metrics({"epoch": 1, "a": 2.0})
    assert read_metrics(tmp_path / "m.csv") == {0: {"a": 1.0}}


def test_what_a_kill_left_behind_is_no_obstacle(tmp_path):
    (tmp_path / "m.csv").write_text("epoch,a\n0,1.0\n")
    (tmp_path / "m.csv.part").write_text("epoch,a\n0,1.")
    EpochCSV(tmp_path / "m.csv").log_metrics({"epoch": 1, "a": 2.0})
    assert read_metrics(tmp_path / "m.csv") == {0: {"a": 1.0}, 1: {"a": 2.0}}
    assert [p.name for p in tmp_path.iterdir()] == ["m.csv"]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("", 1),
        ("step,loss\n1,2\n", 1),
        ("epoch,a,a\n0,1,2\n", 1),
        ("epoch,a\n0,1.0\n1,2.0,3.0\n", 3),
        ("epoch,a\n0,1.0\n1\n", 3),
        ("epoch,a\n0,1.0\n\n", 3),
        ("epoch,a\n0,1.0\n0,2.0\n", 3),
        ("epoch,a\n0,one\n", 2),
        ("epoch,a\n0.5,1.0\n", 2),
        ('epoch,a\n0,"1.0\n', 2),
        ("epoch,a\n0,\0\n", 2),
    ],
)
def test_a_file_that_is_no_such_table(tmp_path, content, line):
    path = tmp_path / "metrics.csv"
    path.write_text(content)
    with pytest.raises(MetricsFileError, match=rf"metrics\.csv, line {line}: "):
        read_metrics(path)
    for number in (1, 2):
        path.write_text(content)
        with pytest.warns(UserWarning, match=rf"kept as metrics\.unreadable-{number}\.csv"):
            EpochCSV(path).log_metrics({"epoch": 4, "a": 1.0})
        assert (tmp_path / f"metrics.unreadable-{number}.csv").read_text() == content
        assert read_metrics(path) == {4: {"a": 1.0}}


def test_a_file_that_is_no_text(tmp_path):
    (tmp_path / "m.csv").write_bytes(b"epoch,a\n\xff\xfe\n")
    with pytest.raises(MetricsFileError, match=r"m\.csv, line "):
        read_metrics(tmp_path / "m.csv")


def test_only_the_first_process_writes(tmp_path, monkeypatch):
    monkeypatch.setattr("lightning.pytorch.utilities.rank_zero_only.rank", 1)
    EpochCSV(tmp_path / "m.csv").log_metrics({"epoch": 0, "a": 1.0})
    assert list(tmp_path.iterdir()) == []

import os

import pytest
import torch

from solo_frossl.run_files import new_run
from solo_frossl.runs import AtomicCheckpointIO, CheckpointConfig, CheckpointError, newest_readable, read_checkpoint


def write(path, value):
    AtomicCheckpointIO().save_checkpoint({"value": torch.full((1000,), float(value))}, path)


def test_a_checkpoint_reads_back(tmp_path):
    write(tmp_path / "deep" / "a.ckpt", 3)
    assert read_checkpoint(tmp_path / "deep" / "a.ckpt")["value"][0] == 3
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["a.ckpt"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a.ckpt"
    write(path, 1)

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match=r"a\.ckpt could not be written .*No space left.*one before is kept"):
        write(path, 2)
    assert [p.name for p in tmp_path.iterdir()] == ["a.ckpt"]
    assert read_checkpoint(path)["value"][0] == 1


@pytest.mark.parametrize("keep", [0, 1, 10, 0.5, 0.99])
def test_a_truncated_file_is_refused_by_name(tmp_path, keep):
    path = tmp_path / "a.ckpt"
    write(path, 1)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if isinstance(keep, float) else keep])
    with pytest.raises(CheckpointError, match=r"a\.ckpt cannot be read"):
        read_checkpoint(path)


def test_a_flipped_bit_is_noticed(tmp_path):
    path = tmp_path / "a.ckpt"
    write(path, 1)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged"):
        read_checkpoint(path)


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    path = tmp_path / "a.ckpt"
    torch.save({"value": os.system}, path)
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_checkpoint(path)


def test_the_one_before_is_used_when_the_newest_is_cut_off(tmp_path):
    run = new_run(tmp_path, "r")
    assert newest_readable(run) is None
    write(run.previous, 1)
    write(run.last, 2)
    assert newest_readable(run) == run.last
    run.last.write_bytes(run.last.read_bytes()[:-100])
    with pytest.warns(UserWarning, match="trying the one before"):
        assert newest_readable(run) == run.previous
    run.previous.write_bytes(b"")
    with (
        pytest.warns(UserWarning, match="trying"),
        pytest.raises(CheckpointError, match="no checkpoint of the run can be read"),
    ):
        newest_readable(run)


def test_the_interval_is_checked():
    with pytest.raises(ValueError, match=r"checkpoint.every_n_steps is -1"):
        CheckpointConfig(every_n_steps=-1)

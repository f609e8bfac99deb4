"""Run folders in every state that they can be found in."""

import json
import math

import numpy as np
import pytest
from made_up_runs import config, metrics, write_csv, write_run, write_spectra

from solo_frossl.compare.read import read_run
from solo_frossl.run_files import RunFolder, RunStatus, write_status


def read(folder, **changes):
    return read_run(folder, config("frossl", 0, 12) | changes)


def test_a_finished_run(tmp_path):
    run = read(write_run(tmp_path / "frossl-seed0"))
    assert (run.name, run.row, run.dataset, run.seed) == ("frossl-seed0", "frossl", "STL-10", 0)
    assert (run.epochs, run.planned, run.state) == (12, 12, "finished")
    assert run.metrics[1] == metrics("frossl", 0, 12)[0]
    assert run.device_seconds[3] == 300.0
    assert not run.remarks


def test_a_run_that_has_only_begun(tmp_path):
    (tmp_path / "run").mkdir()
    run = read(tmp_path / "run")
    assert (run.epochs, run.metrics, run.spectrum, run.state) == (0, {}, None, "unknown")
    assert run.remarks == ("no epoch is done yet",)


def test_a_last_line_that_is_not_whole_is_left_out_and_remarked_on(tmp_path):
    folder = write_run(tmp_path / "run")
    text = (folder / "metrics.csv").read_text()
    (folder / "metrics.csv").write_text(text[:-30])
    run = read(folder)
    assert run.epochs == 11
    assert "last line" in run.remarks[0]


@pytest.mark.parametrize("text", ["", "epoch,online/to"])
def test_a_table_without_a_whole_line_has_no_epoch(tmp_path, text):
    (tmp_path / "metrics.csv").write_text(text)
    assert "no epoch is done yet" in read(tmp_path).remarks


@pytest.mark.parametrize("text", ["no table\n", "epoch,online/top1\n0,high\n", "epoch,online/top1\n0\n1,2\n"])
def test_a_damaged_table_is_remarked_on_and_the_rest_is_read(tmp_path, text):
    folder = write_run(tmp_path / "run")
    (folder / "metrics.csv").write_text(text)
    run = read(folder)
    assert run.epochs == 0
    assert "metrics.csv cannot be read" in run.remarks[0]
    assert run.spectrum is not None


def test_what_is_not_finite_is_left_out_and_remarked_on(tmp_path):
    rows = metrics("frossl", 0, 4)
    rows[1]["train/loss"], rows[2]["train/loss"], rows[3]["knn/top1"] = math.nan, math.inf, -math.inf
    write_csv(tmp_path / "metrics.csv", rows)
    run = read(tmp_path)
    assert sorted(run.curve("train/loss")) == [1, 4]
    assert sorted(run.curve("knn/top1")) == [1, 2, 3]
    assert "train/loss is not finite after epoch 2, 3" in run.remarks


def test_images_without_labels_are_remarked_on(tmp_path):
    write_csv(tmp_path / "metrics.csv", {0: {"train/loss": 1.0}})
    assert any("no labels" in remark for remark in read(tmp_path).remarks)


def test_a_run_that_failed_says_why(tmp_path):
    folder = write_run(tmp_path / "run", epochs=5)
    write_status(RunFolder(folder), RunStatus("failed", epoch=5, device="NVIDIA H200", reason="OSError: disk full"))
    run = read(folder)
    assert (run.state, run.device) == ("failed", "NVIDIA H200")
    assert run.remarks == ("failed after 5 epochs: OSError: disk full",)


def test_an_older_run_is_finished_when_its_last_epoch_is_there(tmp_path):
    assert read(write_run(tmp_path / "run", epochs=11)).state == "unknown"
    assert read(write_run(tmp_path / "done", epochs=12)).state == "finished"


def test_device_seconds_end_at_the_first_epoch_without(tmp_path):
    rows = metrics("frossl", 0, 5)
    del rows[2]["device_seconds"], rows[2]["images_per_second"]
    write_csv(tmp_path / "metrics.csv", rows)
    run = read(tmp_path)
    assert run.device_seconds == {1: 100.0, 2: 200.0}
    assert not run.estimated


@pytest.mark.parametrize(
    ("data", "dataset", "trainer", "seconds"),
    [
        ({"subset": 1000}, "folder", {}, 768 / 50),  # whole batches of 256
        ({"subset": 1000}, "folder", {"devices": 2}, 2 * 768 / 50),
        ({"subset": 1000}, "folder", {"devices": [0, 3], "num_nodes": 2}, 4 * 768 / 50),
        ({"subset": 1000}, "folder", {"devices": "auto"}, 768 / 50),
        ({"subset": 0.1}, "stl10", {}, 10496 / 50),
        ({}, "cifar10", {}, 49920 / 50),
        ({}, "folder", {}, None),
        ({"class_list": "some.txt"}, "imagenet", {}, None),
    ],
)
def test_device_seconds_are_estimated_where_the_images_of_an_epoch_are_known(tmp_path, data, dataset, trainer, seconds):
    write_csv(tmp_path / "metrics.csv", {0: {"images_per_second": 50.0}, 1: {"device_seconds": 7.0}})
    run = read(tmp_path, dataset=dataset, data={"batch_size": 256, **data}, trainer=trainer)
    assert run.device_seconds == ({} if seconds is None else {1: seconds, 2: seconds + 7})
    assert run.estimated == (seconds is not None)


def test_processes_are_those_that_the_run_says(tmp_path):
    write_status(RunFolder(tmp_path), RunStatus("finished", processes=4))
    assert read(tmp_path, trainer={"devices": 2}).processes == 4


def test_the_spectrum_has_the_first_eigenvalues_of_every_check_and_all_after_each_epoch(tmp_path):
    write_spectra(tmp_path / "spectrum.bin", steps=100, every=10, steps_an_epoch=40)
    spectrum = read(tmp_path).spectrum
    assert spectrum.step.tolist() == list(range(0, 100, 10))
    assert set(spectrum.first) == {"embeddings", "features"}
    assert spectrum.first["embeddings"].shape == (10, 14)
    assert list(spectrum.whole["features"]) == [0, 1, 2, 3]
    ends = [spectrum.whole["features"][epoch] for epoch in (1, 2, 3)]
    for whole, row in zip(ends, (4, 8, 9), strict=True):  # steps 40, 80 and 90, the last so far
        assert whole.shape == (32,)
        np.testing.assert_array_equal(whole[:14], spectrum.first["features"][row])


@pytest.mark.parametrize("cut", [1, 100])
def test_a_half_written_spectrum_is_read_as_far_as_it_goes(tmp_path, cut):
    path = tmp_path / "spectrum.bin"
    write_spectra(path, steps=100, every=10, steps_an_epoch=40)
    path.write_bytes(path.read_bytes()[:-cut])
    assert len(read(tmp_path).spectrum.step) == 9


@pytest.mark.parametrize("content", [b"", b"no spectrum\n", b'{"version": 99}\n'])
def test_a_damaged_spectrum_is_remarked_on(tmp_path, content):
    (tmp_path / "spectrum.bin").write_bytes(content)
    run = read(tmp_path)
    assert run.spectrum is None
    assert any("spectrum.bin cannot be read" in remark for remark in run.remarks)


def test_a_linear_probe_is_read(tmp_path):
    (tmp_path / "linear").mkdir()
    (tmp_path / "linear" / "linear.json").write_text(json.dumps({"top1": 87.3, "top5": None}))
    assert read(tmp_path).linear == {"top1": 87.3}
    (tmp_path / "linear" / "linear.json").write_text('{"top1": 87')
    run = read(tmp_path)
    assert run.linear == {}
    assert any("linear.json cannot be read" in remark for remark in run.remarks)

"""solo-frossl compare: what it takes, what it refuses, what it says."""

import os

import pytest
from made_up_runs import write_run

from solo_frossl.cli.compare import compare, find_run_folders, read_runs


@pytest.fixture
def runs(tmp_path):
    write_run(tmp_path / "runs" / "frossl-seed0", "frossl", epochs=3, spectra=False)
    write_run(tmp_path / "runs" / "simclr-seed0", "simclr", epochs=3, spectra=False)
    (tmp_path / "runs" / "simclr-seed0.log").write_text("a log")
    (tmp_path / "runs" / "no-run").mkdir()
    return tmp_path / "runs"


def names(*given):
    return [folder.name for folder in find_run_folders([str(path) for path in given])]


def test_a_run_a_folder_of_runs_and_a_pattern_stand_for_runs(runs, monkeypatch, capsys):
    assert names(runs / "frossl-seed0") == ["frossl-seed0"]
    assert names(runs) == ["frossl-seed0", "simclr-seed0"]
    assert names(runs.parent) == ["frossl-seed0", "simclr-seed0"]
    assert names(runs / "*seed0*") == ["frossl-seed0", "simclr-seed0"]
    assert "simclr-seed0.log is a file" in capsys.readouterr().err
    monkeypatch.chdir(runs / "frossl-seed0")
    assert find_run_folders(["."])[0].resolve().name == "frossl-seed0"


def test_a_run_that_is_given_twice_counts_once(runs):
    assert names(runs / "frossl-seed0", runs, os.path.relpath(runs / "frossl-seed0")) == [
        "frossl-seed0",
        "simclr-seed0",
    ]


def refused(capsys, *argv):
    with pytest.raises(SystemExit) as error:
        compare([str(argument) for argument in argv])
    assert error.value.code == 2
    text = capsys.readouterr().err
    assert "Traceback" not in text
    return text


def test_what_is_no_run_is_named(runs, capsys):
    assert f"{runs / 'no-run'} is no run folder and holds none" in refused(capsys, runs, runs / "no-run")
    assert f"{runs / 'missing'}: there is no such folder" in refused(capsys, runs / "missing")
    assert f"{runs / 'x*'}: there is no such folder" in refused(capsys, runs / "x*")
    assert "only files" in refused(capsys, runs / "simclr-seed0.log")


@pytest.mark.parametrize("text", ["a: [", "- a\n", "dataset: stl10\n", "\xff"])
def test_a_configuration_that_is_none_is_named(runs, capsys, text):
    path = runs / "frossl-seed0" / "config.yaml"
    path.write_text(text, encoding="latin-1")
    assert str(path) in refused(capsys, path.parent)


@pytest.mark.parametrize("text", ["a: [", "method: frossl\ntrainer: 3\n"])
def test_a_run_with_an_unreadable_configuration_is_left_out(runs, capsys, text):
    path = runs / "frossl-seed0" / "config.yaml"
    path.write_text(text)
    assert [run.name for run in read_runs(find_run_folders([str(runs)]))] == ["simclr-seed0"]
    said = capsys.readouterr().err
    assert str(path) in said
    assert "the run is left out" in said
    (runs / "simclr-seed0" / "config.yaml").write_text("a: [")
    assert "no run can be read" in refused(capsys, runs)


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [("--epochs", "0", "count from 1"), ("--epochs", "x", "count from 1"), ("--reach", "120", "percent")],
)
def test_bad_numbers_are_refused(runs, capsys, option, value, said):
    assert said in refused(capsys, runs, option, value)


def test_a_folder_that_cannot_be_written_is_named(runs, capsys):
    (runs / "taken").write_text("a file")
    assert "choose another folder with --out" in refused(capsys, runs, "--out", runs / "taken")


@pytest.mark.slow
def test_it_says_what_it_wrote_and_what_to_know(runs, tmp_path, capsys):
    (runs / "simclr-seed0" / "metrics.csv").unlink()
    assert compare([str(runs), "--out", str(tmp_path / "out"), "--epochs", "2", "--reach", "20"]) == 0
    said = capsys.readouterr().out
    assert f"{runs / 'simclr-seed0'}: no epoch is done yet\n" in said
    assert "2 runs of 2 methods on 1 dataset" in said
    for name in ("index.html", "comparison.md", "comparison.csv"):
        assert name in said
        assert (tmp_path / "out" / name).is_file()

"""``solo-frossl runs``: folders in every state, whole and damaged."""

import csv
import io
import json
import os
import socket
from datetime import UTC, datetime, timedelta

import pytest
import yaml
from pseudo_terminal import terminal

from solo_frossl.cli.runs import runs
from solo_frossl.run_files import RunFolder, RunStatus, write_status


def three(unit):
    """Three days, hours, minutes or seconds ago."""
    return (datetime.now(UTC) - timedelta(**{unit: 3})).isoformat()


@pytest.fixture
def make(tmp_path):
    """``make(name, accuracies, ...)`` writes a run folder below ``runs``."""

    def run(name, accuracies=(), state=None, settings=None, **status):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        config = {
            "method": "frossl",
            "dataset": "cifar10",
            "name": name,
            "seed_everything": 0,
            "model": {"optimizer": {"lr": 0.3}, "log_variance": True},
            "trainer": {"max_epochs": 4},
        }
        for key, value in (settings or {}).items():
            inner = config
            *groups, last = key.split(".")
            for group in groups:
                inner = inner[group]
            inner[last] = value
        (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        if accuracies:
            lines = [f"{epoch},{top1},{top1 + 1},{epoch + 2}.5" for epoch, top1 in enumerate(accuracies)]
            header = "epoch,online/top1,knn/top1,spectrum/effective_rank"
            (folder / "metrics.csv").write_text("\n".join([header, *lines, ""]))
        if state:
            write_status(RunFolder(folder), RunStatus(state, **({"started": three("days")} | status)))
        return folder

    return run


def listed(tmp_path, capsys, *arguments):
    assert runs([str(tmp_path / "runs"), *arguments]) == 0
    return capsys.readouterr().out.splitlines()


def names(lines):
    return [line.split()[0] for line in lines[1:] if line]


def test_a_run_with_all_that_is_known_of_it(make, tmp_path, capsys):
    make("a", (40.0, 62.5, 61.25), "failed", epochs=4, reason="ValueError: bad luck")
    head, row, _, remark = listed(tmp_path, capsys)
    assert head.split("  ")[0] == "run"
    assert " ".join(row.split()) == "a failed frossl cifar10 3/4 61.25 62.50 at 2 62.25 4.5 3 d ago"
    assert remark == "a: failed: ValueError: bad luck"


def test_every_state_is_told(make, tmp_path, capsys):
    here = {"host": socket.gethostname(), "updated": three("minutes")}
    make("1", (1.0,), "running", pid=os.getpid(), **here)
    make("2", (1.0,), "running", pid=2**22 + 1, **here)
    make("3", (1.0,), "stopped")
    make("4", (1.0,) * 4)
    make("5", (1.0,))
    make("6")
    lines = listed(tmp_path, capsys, "--sort", "run")
    assert [line.split()[1] for line in lines[1:]] == ["running", "killed", "stopped", "finished", "unknown", "unknown"]
    assert lines[6].split()[4] == "0/4"


def test_a_silent_run_of_another_machine_is_remarked_on(make, tmp_path, capsys):
    make("a", (1.0,), "running", host="elsewhere", pid=1, updated=three("hours"))
    make("b", (1.0,), "running", host="elsewhere", pid=1, updated=three("minutes"))
    assert listed(tmp_path, capsys)[-1] == "a: says that it is running, but has not said so for 3 h"


@pytest.mark.parametrize(
    ("file", "content", "remark"),
    [
        ("config.yaml", b"a: [", "unreadable: config.yaml cannot be read: "),
        ("config.yaml", b"\xff\xfe\x00", "unreadable: config.yaml cannot be read: "),
        ("config.yaml", b"- 1", "unreadable: config.yaml is no configuration of a run"),
        ("config.yaml", b"a: 1", "unreadable: config.yaml is no configuration of a run"),
        ("config.yaml", b"", "unreadable: config.yaml is no configuration of a run"),
        ("config.yaml", b"method: [1]\ntrainer: 3\nmodel: x", "unreadable: config.yaml is no configuration of a run"),
        ("config.yaml", None, "unreadable: there is no config.yaml"),
        ("metrics.csv", b"epoch,a\n1,2,3\n", "metrics.csv, line 2: not a table of metrics"),
        ("metrics.csv", b"\xff", "unknown: "),
        ("status.json", b"{", "unknown: status.json cannot be read"),
    ],
)
def test_a_damaged_folder_is_listed_among_the_others(make, tmp_path, capsys, file, content, remark):
    make("good", (50.0,), "stopped")
    folder = make("bad", (50.0,))
    (folder / file).unlink(missing_ok=True)
    if content is not None:
        (folder / file).write_bytes(content)
    lines = listed(tmp_path, capsys)
    assert set(names(lines)[:2]) == {"good", "bad"}
    assert remark in lines[-1]


def test_folders_are_searched_but_not_what_is_in_a_run(make, tmp_path, capsys):
    inside = make("grid/table/a") / "wandb/files"
    inside.mkdir(parents=True)
    (inside / "config.yaml").write_text("method: none")
    make(".hidden/b")
    assert names(listed(tmp_path, capsys)) == ["grid/table/a"]
    assert runs([str(tmp_path / "runs/grid/table/a")]) == 0
    assert names(capsys.readouterr().out.splitlines()) == ["a"]


def test_differences_are_those_between_runs_of_one_method_and_dataset(make, tmp_path, capsys):
    make("a")
    make("b", settings={"seed_everything": 1})
    make("c", settings={"model.optimizer.lr": 0.6, "method": "vicreg"})
    make("d", settings={"model.optimizer.lr": 0.6, "model.log_variance": False})
    lines = listed(tmp_path, capsys, "--sort", "run")
    assert [line.split("ago")[1].strip() for line in lines[1:]] == ["seed 0", "seed 1", "", ""]
    assert lines[4].split()[2] == "frossl_no_logs"


def test_ends_of_keys_that_are_not_clear_are_written_in_full(make, tmp_path, capsys):
    make("a", settings={"model.lr": 1})
    make("b", settings={"model.lr": 2, "model.optimizer.lr": None})
    lines = listed(tmp_path, capsys, "--sort", "run")
    assert lines[2].endswith("model.optimizer.lr null, model.lr 2")


def test_a_key_that_an_older_run_has_not_is_no_difference(make, tmp_path, capsys):
    make("old")
    make("new", settings={"wandb_checkpoints": False, "model.optimizer.name": "lars"})
    make("newest", settings={"wandb_checkpoints": False, "model.optimizer.name": "sgd"})
    lines = listed(tmp_path, capsys, "--sort", "run")
    assert [line.split("ago")[1].strip() for line in lines[1:]] == ["optimizer lars", "optimizer sgd", ""]


def test_a_group_that_is_null_differs_from_one_that_is_not(make, tmp_path, capsys):
    make("a", settings={"model.schedule": None})
    make("b", settings={"model.schedule": {"warmup": 5}})
    lines = listed(tmp_path, capsys, "--sort", "run")
    assert [line.split("ago")[1].strip() for line in lines[1:]] == ["warmup null", "warmup 5"]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (["status=finished"], ["a", "ab"]),
        (["status!=finished"], ["c"]),
        (["method=vic*"], ["c"]),
        (["model.optimizer.lr=0.3"], ["a", "ab"]),
        (["lr=0.6"], ["c"]),
        (["a"], ["a", "ab"]),
        (["a", "run!=a"], ["ab"]),
        (["best_epoch=2"], ["a"]),
    ],
)
def test_filters(make, tmp_path, capsys, wanted, found):
    make("a", (1.0, 2.0, 1.0, 1.0), "finished")
    make("ab", (3.0, 2.0, 1.0, 1.0), "finished")
    make("c", (1.0,), "stopped", {"method": "vicreg", "model.optimizer.lr": 0.6})
    assert names(listed(tmp_path, capsys, "--sort", "run", *(f"--filter={one}" for one in wanted))) == found


@pytest.mark.parametrize(
    ("by", "order"),
    [
        (["--sort=started"], ["b", "a", "c"]),
        (["--sort=best"], ["c", "a", "b"]),
        (["--sort=best", "--reverse"], ["b", "a", "c"]),
        (["--sort=online"], ["a", "c", "b"]),
        (["--sort=status"], ["c", "a", "b"]),
    ],
)
def test_orders(make, tmp_path, capsys, by, order):
    make("a", (5.0, 6.0), "stopped", started=three("hours"))
    make("b", (), "stopped")
    make("c", (9.0, 5.5), "finished", started=three("seconds"))
    assert names(listed(tmp_path, capsys, *by)) == order


def test_json_and_csv_hold_the_same_with_all_digits(make, tmp_path, capsys):
    make("a", (1 / 3, 0.25), "stopped", epochs=4)
    make("b", settings={"seed_everything": 5})
    first, second = json.loads("\n".join(listed(tmp_path, capsys, "--json")))
    assert (first["best_online_top1"], first["best_epoch"], first["epochs"], first["planned"]) == (1 / 3, 1, 2, 4)
    assert (second["online_top1"], second["differences"]) == (None, {"seed_everything": 5})
    rows = list(csv.DictReader(io.StringIO("\n".join(listed(tmp_path, capsys, "--csv")))))
    assert [row["best_online_top1"] for row in rows] == [str(1 / 3), ""]
    assert rows[1]["differences"] == "seed 5"
    assert list(rows[0]) == list(first)


@pytest.mark.parametrize("columns", [40, 60, 80, 120])
def test_no_line_is_wider_than_the_terminal(make, tmp_path, columns):
    make("a-run-with-a-rather-long-name-that-goes-on-and-on", (99.0,) * 4, "finished")
    make("b", (1.0,), "failed", {"seed_everything": 1, "model.optimizer.lr": 0.123456789}, reason="word " * 50)
    with terminal(columns) as screen:
        runs([str(tmp_path / "runs"), "--sort=run"])
        lines = screen.lines()
        raw = screen.written.decode()
    assert max(len(line) for line in raw.split("\r\n")) <= columns
    assert lines[1].startswith("a-run-")
    assert "99.00 at 1" in lines[1]
    assert "seed 0, lr 0.3" in " ".join(lines)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere: there is no such folder"),
        (["runs", "--filter=metod=x"], "no run has a key metod; there is method"),
    ],
)
def test_what_cannot_be_listed(make, tmp_path, capsys, monkeypatch, arguments, message):
    make("a")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        runs(arguments)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_nothing_to_list(make, tmp_path, capsys):
    make("a")
    assert listed(tmp_path, capsys, "--filter=status=failed") == [
        f"no run in {tmp_path / 'runs'} fits status=failed (of 1)"
    ]
    (tmp_path / "empty").mkdir()
    assert runs([str(tmp_path / "empty")]) == 0
    assert capsys.readouterr().out == f"no run in {tmp_path / 'empty'}\n"

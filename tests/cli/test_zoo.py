"""``solo-frossl zoo``: what each command prints, and how it ends."""

import json
import random
import re
from dataclasses import replace

import pytest
from pseudo_terminal import terminal
from zoo_server import make_entry, serve

from solo_frossl.cli.zoo import zoo
from solo_frossl.zoo import read_index, write_index

CONTENT = random.Random(2).randbytes(3000)
ARCHITECTURE = {"backbone": "resnet18", "stem": "cifar"}


@pytest.fixture
def run(tmp_path, capsys, monkeypatch):
    """``run(command, ...)`` gives exit code, output and errors; three checkpoints: shipped, to be had, and not."""
    monkeypatch.setenv("NO_PROXY", "*")
    index, cache = tmp_path / "zoo" / "index.yaml", tmp_path / "cache"
    with serve(CONTENT) as server:
        shipped = make_entry(CONTENT, "file:weights/a.safetensors", name="frossl-digits")
        there = make_entry(
            CONTENT, server("good"), name="byol-cifar10", method="byol", dataset="cifar10", architecture=ARCHITECTURE
        )
        lost = make_entry(CONTENT, server("not_found"), name="simclr-stl10", method="simclr", accuracy={})
        write_index(index, [shipped, there, lost])
        (tmp_path / "zoo" / "weights").mkdir()
        (tmp_path / "zoo" / "weights" / "a.safetensors").write_bytes(CONTENT)

        def call(command, *arguments):
            try:
                code = zoo([command, *arguments, "--index", str(index), "--cache", str(cache)])
            except SystemExit as stop:
                code = stop.code
            said = capsys.readouterr()
            return code, said.out, said.err

        call.index, call.cache, call.file = index, cache, cache / there.file
        yield call


def test_list(run):
    code, out, _ = run("list")
    assert code == 0
    assert [line.split() for line in out.splitlines()] == [
        ["name", "method", "backbone", "dataset", "epochs", "linear", "%", "k-NN", "%", "size", "here"],
        ["frossl-digits", "frossl", "resnet18", "x0.25", "digits", "30", "97.77", "98.33", "3.0", "kB", "shipped"],
        ["byol-cifar10", "byol", "resnet18", "cifar10", "30", "97.77", "98.33", "3.0", "kB"],
        ["simclr-stl10", "simclr", "resnet18", "x0.25", "digits", "30", "3.0", "kB"],
    ]
    run("download", "byol-cifar10")
    assert run("list")[1].splitlines()[2].endswith("3.0 kB  cached")


def test_a_target_network_is_called_one(run):
    entries = read_index(run.index).entries
    write_index(run.index, [replace(entries["byol-cifar10"], encoder="target"), entries["simclr-stl10"]])
    first, second = run("list")[1].splitlines()[1:]
    assert first.startswith("byol-cifar10  byol (target)  resnet18 ")
    assert second.startswith("simclr-stl10  simclr         resnet18 ")
    assert [entry["encoder"] for entry in json.loads(run("list", "--json")[1])] == ["target", "backbone"]
    for name, encoder in (("byol-cifar10", "target"), ("simclr-stl10", "backbone")):
        assert re.search(rf"^encoder +{encoder}$", run("show", name)[1], re.MULTILINE)


@pytest.mark.parametrize("columns", [20, 40, 60, 80, 100, 120])
def test_the_list_fits_the_terminal(run, columns, monkeypatch):
    with terminal(columns) as screen:
        monkeypatch.setattr("sys.stdout", screen.file)
        run("list")
        lines = screen.lines()
    assert len(lines) == 4
    assert "frossl-digits" in lines[1]
    assert ("here" in lines[0]) == (columns >= 40)


def test_list_as_json(run):
    code, out, _ = run("list", "--json")
    entries = json.loads(out)
    assert code == 0
    assert [(entry["name"], entry["here"]) for entry in entries] == [
        ("frossl-digits", "shipped"),
        ("byol-cifar10", None),
        ("simclr-stl10", None),
    ]
    expected = read_index(run.index).entries["frossl-digits"].to_dict()
    assert entries[0] == expected | {"here": "shipped", "path": str(run.index.parent / "weights" / "a.safetensors")}


def test_list_of_nothing(run):
    write_index(run.index, [])
    assert run("list") == (0, f"no checkpoint in {run.index}\n", "")
    assert run("list", "--json") == (0, "[]\n", "")
    assert run("verify") == (0, "0 file(s), 0 bad\n", "")


def test_show(run):
    code, out, _ = run("show", "byol-cifar10")
    entry = read_index(run.index).entries["byol-cifar10"]
    assert code == 0
    for value in (entry.name, entry.sha256, entry.file, *entry.places, entry.measured_by, "MIT", "linear_top1 97.77 %"):
        assert value in out
    assert re.search(r"^architecture +backbone: resnet18\n +stem: cifar$", out, re.MULTILINE)
    assert re.search(r"^mean +0\.5000, 0\.5000, 0\.5000$", out, re.MULTILINE)
    assert re.search(r"^size +3\.0 kB \(3000 bytes\)$", out, re.MULTILINE)
    assert re.search(r"^here +no: solo-frossl zoo download byol-cifar10$", out, re.MULTILINE)
    assert "config\n  method: frossl\n  model:\n    optimizer:\n      lr: 1.0e-05\n" in out
    out = run("show", "frossl-digits")[1]
    assert re.search(r"^here +shipped, .*/weights/a\.safetensors$", out, re.MULTILINE)
    assert re.search(r"^accuracy +not measured$", run("show", "simclr-stl10")[1], re.MULTILINE)


@pytest.mark.parametrize("command", ["show", "download", "verify", "remove"])
def test_a_name_that_is_not_there(run, command):
    code, out, err = run(command, "frosl-digits")
    assert (code, out) == (2, "")
    assert re.fullmatch(
        r"solo-frossl zoo: error: there is no checkpoint 'frosl-digits' in .*; the nearest are frossl-digits.*\n", err
    )


def test_download(run):
    assert run("download", "byol-cifar10", "frossl-digits") == (
        0,
        f"{run.file}\n{run.index.parent / 'weights' / 'a.safetensors'}\n",
        "",
    )
    assert run.file.read_bytes() == CONTENT


def test_a_download_that_fails_does_not_keep_others_from_theirs(run):
    code, out, err = run("download", "simclr-stl10", "byol-cifar10")
    assert (code, out) == (1, f"{run.file}\n")
    assert err.startswith(
        "solo-frossl zoo: error: simclr-stl10 cannot be had: none of its places gives the file\n  http:"
    )
    assert "answers 404 Not Found" in err


def test_a_damaged_file_is_told_of_in_a_line(run):
    run("download", "byol-cifar10")
    run.file.write_bytes(b"x")
    code, _, err = run("download", "byol-cifar10")
    assert code == 0
    assert err == (
        f"solo-frossl zoo: warning: {run.file} has 1 bytes, and the index says 3000;"
        " it was deleted and is fetched again\n"
    )


def test_verify(run):
    weights = run.index.parent / "weights" / "a.safetensors"
    run("download", "byol-cifar10")
    assert run("verify") == (
        0,
        f"frossl-digits: shipped, {weights}: good\n"
        f"byol-cifar10: cached, {run.file}: good\n"
        "simclr-stl10: not here\n"
        "2 file(s), 0 bad\n",
        "",
    )
    assert run("verify", "byol-cifar10") == (0, f"byol-cifar10: cached, {run.file}: good\n1 file(s), 0 bad\n", "")
    for damage, reason in ((b"x" * 3000, "has the SHA-256"), (CONTENT[:-1], "has 2999 bytes, and the index says 3000")):
        run.file.write_bytes(damage)
        code, out, _ = run("verify")
        assert code == 1
        assert f"byol-cifar10: cached, {run.file}: BAD: {reason}" in out
        assert out.endswith("2 file(s), 1 bad\n")
        assert run("verify", "frossl-digits")[0] == 0
    weights.unlink()
    code, out, _ = run("verify", "frossl-digits")
    assert (code, out) == (
        1,
        f"frossl-digits: shipped, {weights}: BAD: is not there; put the right file there\n1 file(s), 1 bad\n",
    )


def test_remove(run):
    assert run("remove", "byol-cifar10")[1] == f"byol-cifar10: not cached, there is no {run.file}\n"
    run("download", "byol-cifar10")
    assert run("remove", "byol-cifar10") == (0, f"byol-cifar10: deleted {run.file}\n", "")
    assert not run.file.exists()
    assert "byol-cifar10" in read_index(run.index).entries


def test_remove_from_index(run, capsys):
    card = run.index.parent / "cards" / "frossl-digits.md"
    card.parent.mkdir()
    card.write_text("# frossl-digits\n")
    code, out, _ = run("remove", "frossl-digits", "byol-cifar10", "--from_index")
    assert code == 0
    assert f"frossl-digits: taken out of {run.index}\n" in out
    assert f"  deleted {card}\n" in out
    assert list(read_index(run.index).entries) == ["simclr-stl10"]
    left = {file.name for file in run.index.parent.rglob("*") if file.is_file()}
    assert left == {"index.yaml", "index.yaml.lock"}
    with pytest.raises(SystemExit) as stop:
        zoo(["remove", "anything", "--from_index"])
    assert stop.value.code == 2
    assert "name it with --index FILE" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["lst"], "invalid choice: 'lst'"),
        (["download"], "the following arguments are required: NAME"),
        (["download", "a", "--timeout", "0"], "0 is no number of seconds above 0"),
        (["download", "a", "--timeout", "soon"], "soon is no number of seconds above 0"),
        (["list", "--index", "/nowhere/index.yaml"], "/nowhere/index.yaml cannot be read as an index"),
    ],
)
def test_arguments_that_cannot_be_used(arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        zoo(arguments)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err

"""``solo-frossl reproduce``: its arguments, and grids of tiny runs on digits."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time

import pytest

from solo_frossl.cli.reproduce import reproduce
from solo_frossl.data import DATASETS, ImageFolder
from solo_frossl.reproduce import TABLES
from solo_frossl.run_files import RunFolder, RunStatus, read_metrics, read_status, write_status

TINY = ["--model.backbone=test_resnet", "--model.stem=imagenet", "--model.projector.hidden=8"]
TINY += ["--model.projector.output=32", "--trainer.accelerator=cpu"]


def lines(capsys) -> list[list[str]]:
    """What was listed, taken apart as a shell does."""
    return [shlex.split(line) for line in capsys.readouterr().out.splitlines()]


def refused(capsys, *arguments: str) -> str:
    with pytest.raises(SystemExit) as stop:
        reproduce(list(arguments))
    assert stop.value.code == 2
    return capsys.readouterr().err


class TestList:
    def test_a_line_is_a_quoted_command(self, tmp_path, capsys):
        folder = tmp_path / "my runs"
        arguments = ["--data", "my images", "--runs_dir", str(folder), "--methods", "byol_no_target", "--seeds", "4"]
        assert reproduce(["implicit-table2", *arguments, "--datasets", "stl10", "--list", "--", "--wandb"]) == 0
        (command,) = lines(capsys)
        assert command[:8] == [
            sys.executable,
            "-m",
            "solo_frossl",
            "pretrain",
            "--config",
            "configs/stl10/byol.yaml",
            "--runs_dir",
            str(folder),
        ]
        assert {"--data.root=my images", "--model.momentum=null", "--seed_everything=4", "--wandb"} < set(command)
        (views,) = (json.loads(text.split("=", 1)[1]) for text in command if text.startswith("--data.views="))
        assert views[1]["solarize_probability"] == 0.2
        assert [path.name for path in folder.iterdir()] == ["grid.json"]

    def test_what_is_listed_is_what_the_folder_holds(self, tmp_path, capsys):
        scale = ["--runs_dir", str(tmp_path), "--scale", "epochs=1", "subset=256"]
        assert reproduce(["frossl-fig3", *scale, "--list", "--", "--model.backbone=test_resnet"]) == 0
        message = "scale {'epochs': 1, 'subset': 256}, not {}): ask for these, or give another --runs_dir"
        for way in (["--list"], ["--report_only"], []):
            assert message in refused(capsys, "frossl-fig3", "--runs_dir", str(tmp_path), *way)
        assert reproduce(["frossl-fig3", *scale, "--report_only"]) == 0
        label = (
            "**Not the paper's setting: 1 epoch a run, 256 training images; arguments --model.backbone=test_resnet.**"
        )
        assert label in (tmp_path / "frossl-fig3.md").read_text()

    def test_a_probe_stands_on_the_same_line(self, tmp_path, capsys):
        reproduce(
            ["frossl-table2", "--runs_dir", str(tmp_path), "--methods", "frossl", "--datasets", "stl10", "--list"]
        )
        (command,) = lines(capsys)
        assert command[command.index("&&") :] == [
            *("&&", sys.executable, "-m", "solo_frossl", "linear", "--backbone", str(tmp_path / "stl10-frossl-seed0"))
        ]

    def test_only_what_is_left_is_listed(self, tmp_path, capsys):
        for name, state, epoch in (("frossl", "finished", 5), ("simclr", "stopped", 2), ("vicreg", "running", 2)):
            run = RunFolder(tmp_path / f"{name}-seed0")
            run.path.mkdir()
            run.config.touch()
            write_status(run, RunStatus(state, epoch=epoch, host="elsewhere", pid=1))
        reproduce(["frossl-fig3", "--runs_dir", str(tmp_path), "--list"])
        output = capsys.readouterr()
        listed = [line.split() for line in output.out.splitlines()]
        assert [command[4] for command in listed] == ["--config", "--resume"]
        assert "vicreg-seed0 is being trained" in output.err

    def test_devices_are_passed_on(self, tmp_path, capsys):
        reproduce(["frossl-fig4", "--runs_dir", str(tmp_path), "--devices", "4", "--list"])
        assert all({"--trainer.devices=4", "--trainer.strategy=ddp"} < set(command) for command in lines(capsys))


@pytest.mark.parametrize("name", TABLES)
def test_help_names_every_table(name, capsys):
    with pytest.raises(SystemExit):
        reproduce(["--help"])
    assert f"  {name} " in (text := capsys.readouterr().out)
    assert TABLES[name].caption in text


def test_scales_have_folders_of_their_own(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    scale = ["--scale", "epochs=8,subset=0.5", "stem=imagenet", "stop=2"]
    reproduce(["frossl-fig3", "--dataset", "folder", "--methods", "frossl", *scale, "--list"])
    (command,) = lines(capsys)
    assert "runs/frossl-fig3-folder-epochs8-subset0.5-stemimagenet" in command
    assert {"--trainer.max_epochs=8", "--stop_after_epoch=2", "--data.subset=0.5", "--dataset=folder"} < set(command)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset", "imagenet", "--data", "."], "/train: data.train is relative to data.root"),
        (["--scale", "epoch=8"], "--scale epoch=8: give KEY=VALUE, where KEY is one of epochs, stop, subset"),
        (["--scale", "epochs"], "--scale epochs: give KEY=VALUE"),
        (["--scale", "epochs=many"], "--scale epochs=many: epochs must be a whole number"),
        (["--scale", "epochs=0.5"], "--scale epochs=0.5: epochs must be a whole number"),
        (["--scale", "epochs=0"], "--scale: epochs is 0: it must be above 0"),
        (["--scale", "stem=small"], "--scale: stem is 'small'"),
        (["--methods", "sinclr"], "frossl-fig3 has no row sinclr; its rows are frossl, vicreg, barlow_twins, simclr"),
        (["--jobs", "0"], "--jobs is 0"),
        (["--", "--trainer.max_epochs=3"], "trainer.max_epochs is set for each run; say it by --scale epochs=N"),
        (["--", "--name", "a"], "--name after --: name is set for each run"),
        (["--dataset", "folder", "--data", "nowhere"], "nowhere: give the folder of the images with --data"),
        (["--dataset", "tinyimagenet", "--data", "nowhere"], "no file wnids.txt in"),
        (["--report_only", "--runs_dir", "nowhere"], "there is no nowhere: run without --report_only first"),
    ],
)
def test_what_cannot_be_done(capsys, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert message in refused(capsys, "frossl-fig3", *arguments)
    assert list(tmp_path.iterdir()) == []


def test_images_that_are_not_as_the_dataset_has_them_are_found_before_anything_starts(tmp_path, capsys):
    for folder in ("train/a", "train/b", "val/a"):
        (tmp_path / "images" / folder).mkdir(parents=True)
    asked = ["frossl-fig3", "--data", str(tmp_path / "images"), "--runs_dir", str(tmp_path / "runs"), "--dataset"]
    assert "only in " in (message := refused(capsys, *asked, "imagenet"))
    assert "Seed set" not in message
    (tmp_path / "images" / "val" / "b").mkdir()
    assert "has 2 classes, and ImageNet-100 has 100" in (message := refused(capsys, *asked, "imagenet100"))
    assert "give data.class_list after --" in message
    assert "/c: data.class_list is a text file" in refused(capsys, *asked, "imagenet100", "--", "--data.class_list=c")
    assert not (tmp_path / "runs").exists()


def test_the_nearest_name_is_given(capsys):
    message = refused(capsys, "frossl-tabel3", "--list")
    assert "there is no table or figure frossl-tabel3; did you mean frossl-table3? There are frossl-table2, " in message


@pytest.mark.parametrize("name", [name for name, dataset in DATASETS.items() if not issubclass(dataset, ImageFolder)])
def test_every_dataset_can_be_trained_on_instead(name, tmp_path, capsys):
    reproduce(["frossl-table3", "--dataset", name, "--methods", "frossl", "--runs_dir", str(tmp_path), "--list"])
    assert f"--dataset={name}" in lines(capsys)[0]


@pytest.mark.parametrize(
    "asked", [["frossl-table3"], ["frossl-fig3", "--scale", "epochs=2"], ["frossl-fig3", "--dataset", "digits"]]
)
def test_a_folder_of_other_runs_is_refused(tmp_path, capsys, asked):
    (tmp_path / "grid.json").write_text('{"table": "frossl-fig3", "dataset": null, "scale": {}, "arguments": []}')
    assert f"{tmp_path} holds other runs" in refused(capsys, *asked, "--runs_dir", str(tmp_path), "--list")
    assert reproduce(["frossl-fig3", "--runs_dir", str(tmp_path), "--scale", "stop=3", "--list"]) == 0


def grid(folder, *arguments: str, methods: tuple[str, ...] = ("frossl", "wmse")) -> list[str]:
    scale = ["--scale", "epochs=2", "subset=128", "batch_size=64", *arguments]
    return [
        "frossl-table2",
        "--dataset",
        "digits",
        "--runs_dir",
        str(folder),
        "--methods",
        *methods,
        *scale,
        "--",
        *TINY,
    ]


@pytest.mark.slow
def test_a_grid_is_trained_gone_on_with_and_reported(tmp_path, capsys):
    """W-MSE fails: 32 dimensions of which 8 are independent cannot be whitened."""
    assert reproduce(grid(tmp_path, "stop=1", "--jobs", "2")) == 1
    output = capsys.readouterr().out
    assert "1 of 2 runs are finished" in output
    assert "cifar10-wmse-seed0: failed, exit code 1: " in output
    assert "whitening_size" in output
    assert "| frossl | – / 92.8 |" in output  # the probe is of the end of training
    run = RunFolder(tmp_path / "cifar10-frossl-seed0")
    assert (read_status(run).state, read_status(run).epoch, list(read_metrics(run.metrics))) == ("stopped", 1, [0])
    rate = read_metrics(run.metrics)[0]["learning_rate"]

    assert reproduce(grid(tmp_path, methods=("frossl",))) == 0
    assert "cifar10-frossl-seed0: resumed" in capsys.readouterr().out
    assert (read_status(run).state, list(read_metrics(run.metrics))) == ("finished", [0, 1])
    assert read_metrics(run.metrics)[0]["learning_rate"] == rate
    probe = json.loads((run.path / "linear" / "linear.json").read_text())
    text = (tmp_path / "frossl-table2.md").read_text()
    assert f"| frossl | {probe['top1']:.1f} / 92.8 |" in text
    assert (
        "2 epochs a run, 128 training images, batch 64; trained on digits (datasets) with the settings of cifar10"
        in text
    )
    assert "arguments --model.backbone=test_resnet" in text
    page = (tmp_path / "comparison" / "comparison.md").read_text()
    assert "FroSSL, Table 2: linear probe of 12 methods" in page
    assert "Not the paper's setting: trained on digits" in page
    assert (tmp_path / "comparison" / "index.html").stat().st_size > 1000

    before = run.last.stat().st_mtime_ns
    assert reproduce(grid(tmp_path, methods=("frossl",))) == 0
    assert "[1/1] cifar10-frossl-seed0: finished before" in capsys.readouterr().out
    assert run.last.stat().st_mtime_ns == before


@pytest.mark.slow
def test_ctrl_c_saves_what_runs(tmp_path):
    command = [
        sys.executable,
        "-m",
        "solo_frossl",
        "reproduce",
        *grid(tmp_path, "epochs=1000", methods=("simclr", "frossl")),
    ]
    process = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, text=True)
    run = RunFolder(tmp_path / "cifar10-simclr-seed0")
    until = time.monotonic() + 300
    while read_status(run).state != "running" and process.poll() is None:
        assert time.monotonic() < until, read_status(run)
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 130, output
    assert (read_status(run).state, run.last.is_file()) == ("stopped", True)
    assert "cifar10-simclr-seed0: stopped" in output
    assert "cifar10-frossl-seed0: waiting" in output
    assert not (tmp_path / "cifar10-frossl-seed0").exists()

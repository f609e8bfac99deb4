"""A run whose embeddings collapse, by the real command line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from solo_frossl.cli.pretrain import COLLAPSED, pretrain
from solo_frossl.run_files import RunFolder, read_spectra, read_status
from solo_frossl.runs import read_checkpoint
from solo_frossl.spectrum import effective_rank

ROOT = Path(__file__).parents[2]
STEPS = 4
COLLAPSING = [
    "--data.subset=256",
    "--data.batch_size=64",
    "--trainer.max_epochs=6",
    "--trainer.accelerator=cpu",
    "--model.backbone=test_resnet",
    "--model.stem=imagenet",
    "--model.projector.hidden=64",
    "--model.projector.output=32",
    "--model.optimizer.name=sgd",
    "--model.optimizer.lr=4",
    "--model.momentum=null",
    "--model.use_predictor=false",
    "--model.stop_gradient=false",
    "--spectrum.every_n_steps=1",
    "--spectrum.collapse_rank=1.8",
    "--spectrum.collapse_checks=4",
    "--knn.every_n_epochs=0",
]


def arguments(folder, *more):
    return [
        "--config",
        str(ROOT / "configs/digits/directpred.yaml"),
        f"--runs_dir={folder}",
        "--name=r",
        *COLLAPSING,
        *more,
    ]


def test_by_default_it_is_reported_and_goes_on(tmp_path, capsys):
    assert pretrain(arguments(tmp_path)) == 0
    said = capsys.readouterr()
    assert said.err.count("The embeddings have collapsed in epoch ") == 1
    assert (
        "Likely causes: gradients flow through both views (model.stop_gradient is false); there is no predictor"
        " (model.use_predictor is false); there is no target network (model.momentum is null); the learning rate is too"
        " high (model.optimizer.lr 4, without warm-up). Training goes on" in said.err
    )
    assert "Traceback" not in said.err
    assert "6 epochs, " in said.out
    spectra = read_spectra(tmp_path / "r/spectrum.bin")
    assert spectra.step.tolist() == list(range(6 * STEPS))


@pytest.mark.slow
def test_on_collapse_stop_ends_the_run_which_can_go_on(tmp_path, capsys):
    assert pretrain(arguments(tmp_path, "--on_collapse=stop")) == COLLAPSED == 3
    said = capsys.readouterr()
    run = RunFolder(tmp_path / "r")
    step = read_checkpoint(run.last)["global_step"]
    assert "The embeddings have collapsed in epoch " in said.err
    epoch = -(-step // STEPS)
    collapse = f"he embeddings have collapsed in epoch {epoch}/6, step {step}: their effective rank is 1."
    assert f"T{collapse}" in said.err
    assert f"Stopped because the embeddings have collapsed; saved after step {step}." in said.out
    assert f"--resume {tmp_path}/r" in said.out
    assert "Traceback" not in said.err + said.out
    assert read_status(run).state == "stopped"
    assert read_status(run).reason.startswith(f"t{collapse}")
    spectra = read_spectra(run.spectrum)
    assert spectra.step[-1] == step - 1
    ranks = [float(effective_rank(torch.from_numpy(row))) for row in spectra.embeddings]
    assert max(ranks[-4:]) < 1.8 <= ranks[-5]
    assert pretrain([f"--runs_dir={tmp_path}", "--resume=r"]) == 0
    assert read_spectra(run.spectrum).step.tolist() == list(range(6 * STEPS))
    assert "have collapsed" not in capsys.readouterr().err


@pytest.mark.slow
def test_found_in_the_last_step_of_an_epoch_it_ends_the_run_just_so(tmp_path, capsys):
    assert pretrain(arguments(tmp_path, "--on_collapse=stop", "--name=first")) == COLLAPSED
    step = read_checkpoint(RunFolder(tmp_path / "first").last)["global_step"]
    later = -step % STEPS or STEPS
    assert pretrain(arguments(tmp_path, "--on_collapse=stop", f"--spectrum.collapse_checks={4 + later}")) == COLLAPSED
    run = RunFolder(tmp_path / "r")
    assert read_checkpoint(run.last)["global_step"] == step + later
    assert f"saved after step {step + later}." in capsys.readouterr().out
    assert read_status(run).state == "stopped"
    assert f"collapsed in epoch {(step + later) // STEPS}/6, step {step + later}: their" in read_status(run).reason


@pytest.mark.slow
def test_a_run_too_short_to_tell_says_at_its_end_how_low_the_rank_is(tmp_path, capsys):
    assert pretrain(arguments(tmp_path, "--spectrum.collapse_checks=null", "--on_collapse=stop")) == 0
    said = capsys.readouterr()
    status = read_status(RunFolder(tmp_path / "r"))
    assert status.state == "finished"
    assert status.reason.startswith(
        "the embeddings may have collapsed, or the run is too short to tell: at the end their effective rank is 1."
    )
    assert f"\nnote: {status.reason}\n6 epochs, " in said.out
    assert "have collapsed" not in said.err


@pytest.mark.slow
def test_two_processes_stop_together(tmp_path):
    command = [sys.executable, str(ROOT / "main_pretrain.py")]
    command += arguments(tmp_path, "--on_collapse=stop", "--trainer.devices=2", "--trainer.strategy=ddp")
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == COLLAPSED, done.stdout + done.stderr
    assert done.stderr.count("The embeddings have collapsed") == 1
    assert done.stdout.count("Stopped because") == 1
    assert "Traceback" not in done.stderr
    assert read_checkpoint(RunFolder(tmp_path / "r").last)["global_step"] < 6 * STEPS


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("--spectrum.every_n_steps=-1", "spectrum.every_n_steps is -1: it must be 0 (never) or more"),
        ("--spectrum.collapse_checks=0", "spectrum.collapse_checks is 0: it must be null or at least 1"),
        ("--on_collapse=halt", "on_collapse must be warn or stop"),
        ("--spectrum.every=5", "every_n_steps"),
    ],
)
def test_a_wrong_value_ends_with_one_message(tmp_path, capsys, wrong, message):
    with pytest.raises(SystemExit) as stop:
        pretrain(arguments(tmp_path, wrong))
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback
from torch import nn

from solo_frossl.augment import View
from solo_frossl.batch import Views
from solo_frossl.data import Digits
from solo_frossl.probe import (
    FineTune,
    FineTuneConfig,
    LinearConfig,
    augmented_batches,
    fine_tune,
    fit_linear,
)

CPU = {"accelerator": "cpu"}
CONFIG = FineTuneConfig(epochs=2, batch_size=64, backbone_learning_rate=0.2, head_learning_rate=1.0)


def digits(labels=None, **kwargs):
    data = Digits(views=[View("digits")], subset=512, **kwargs)
    data.keep_labels(labels)
    return data


def backbone(dropout=0.0):
    """Two convolutions with BatchNorm whose statistics are not those of the data; 32 features."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(dropout),
        )
    network.num_features = 32
    return network.eval()


@pytest.mark.parametrize(
    ("gpus", "accelerator", "synchronised"), [(2, "gpu", True), (2, "cpu", False), (0, "auto", False)]
)
def test_batch_norm_is_synchronised_on_gpus(monkeypatch, gpus, accelerator, synchronised):
    given = {}

    class Asked(Exception):
        pass

    def trainer(**arguments):
        given.update(arguments)
        raise Asked

    monkeypatch.setattr("solo_frossl.probe.finetune.Trainer", trainer)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    with pytest.raises(Asked):
        fine_tune(backbone(), digits(), CONFIG, accelerator=accelerator)
    assert given["sync_batchnorm"] == synchronised


class Keep(Callback):
    """The module, its weights before, and the learning rates of every step."""

    def on_train_start(self, trainer, module):
        self.module, self.rates = module, []
        self.before = {name: value.clone() for name, value in module.state_dict().items()}

    def on_train_batch_end(self, trainer, module, *args):
        self.rates.append([group["lr"] for group in trainer.optimizers[0].param_groups])


def test_learns_and_moves_everything_but_the_caller_s_backbone():
    network, data, keep = backbone(), digits(), Keep()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    config = FineTuneConfig(epochs=8, batch_size=64, backbone_learning_rate=0.8, head_learning_rate=4.0)
    result = fine_tune(network, data, config, **CPU, callbacks=[keep])
    losses = [epoch["loss"] for epoch in result.epochs]
    assert losses[-1] < 0.7 * losses[0]
    assert result.top1 > 40
    for name, parameter in keep.module.named_parameters():
        assert not torch.equal(parameter, keep.before[name]), name
    assert not torch.equal(keep.module.backbone[1].running_mean, before["1.running_mean"])
    torch.testing.assert_close(network.state_dict(), before, rtol=0, atol=0)
    assert not network.training
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert data.trainer is None


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_frozen_backbone_is_a_linear_probe(momentum):
    """Backbone rate 0, BatchNorm frozen, constant rate: the weights of `fit_linear` on the same augmented batches."""
    config = FineTuneConfig(
        epochs=2,
        batch_size=64,
        backbone_learning_rate=0.0,
        head_learning_rate=1.0,
        momentum=momentum,
        weight_decay=0.01,
        schedule="step",
        decay_at=(0.5,),
        decay_factor=0.1,
        batch_norm="frozen",
    )
    data, keep = digits(), Keep()
    fine_tune(backbone(), data, config, **CPU, callbacks=[keep])
    batches = augmented_batches(backbone(), data.shuffled_labelled_dataloader(64), data.make_views, "cpu")
    linear = LinearConfig(
        epochs=2, batch_size=64, learning_rate=1.0, momentum=momentum, weight_decay=0.01, decay_at=(0.5,)
    )
    expected = fit_linear(batches, 32, 10, linear, "cpu")
    torch.testing.assert_close(keep.module.head.weight, expected.weight, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(keep.module.head.bias, expected.bias, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(keep.module.backbone.state_dict(), backbone().state_dict(), rtol=0, atol=0)


def test_frozen_batch_norm_still_learns_its_scale():
    keep = Keep()
    fine_tune(backbone(), digits(), dataclasses.replace(CONFIG, batch_norm="frozen"), **CPU, callbacks=[keep])
    norm = keep.module.backbone[1]
    assert torch.equal(norm.running_mean, backbone()[1].running_mean)
    assert not torch.equal(norm.weight, backbone()[1].weight)


@pytest.mark.parametrize(
    ("schedule", "expected"), [("step", [1.0, 1.0, 0.2, 0.04]), ("cosine", [1.0, 0.853553, 0.5, 0.146447])]
)
def test_learning_rates(schedule, expected):
    """One step an epoch, rates per 256 images of the batch that was asked for."""
    config = FineTuneConfig(
        epochs=4, batch_size=512, backbone_learning_rate=0.25, schedule=schedule, decay_at=(0.5, 0.75)
    )
    keep = Keep()
    fine_tune(backbone(), digits(labels=20), config, **CPU, callbacks=[keep])
    assert [rates[0] for rates in keep.rates] == pytest.approx([0.5 * x for x in expected], rel=1e-4)
    assert [rates[1] for rates in keep.rates] == pytest.approx([0.2 * x for x in expected], rel=1e-4)


def test_the_seed_decides_everything():
    def run(seed, data_seed=0):
        torch.manual_seed(len(runs))  # the global generator's state is of no account
        runs.append(fine_tune(backbone(dropout=0.5), digits(seed=data_seed), CONFIG, seed=seed, **CPU))

    runs = []
    for seeds in ((0,), (0,), (1,), (0, 1)):
        run(*seeds)
    assert runs[0] == runs[1]
    assert runs[0].epochs != runs[2].epochs
    assert runs[0].epochs != runs[3].epochs


def test_one_percent_of_the_labels_of_all_digits():
    data = Digits(views=[View("crop_only")])
    data.keep_labels(0.01)
    result = fine_tune(backbone(), data, FineTuneConfig(epochs=3), **CPU)
    assert result.num_train == 14
    assert result.num_validation == 359
    assert [epoch["epoch"] for epoch in result.epochs] == [1, 2, 3]


def test_result(tmp_path):
    result = fine_tune(backbone(), digits(), CONFIG, **CPU)
    assert result.top1 == pytest.approx(result.epochs[-1]["top1"], abs=1e-3)
    assert result.top5 == pytest.approx(result.epochs[-1]["top5"], abs=1e-3)
    assert (result.num_train, result.num_features) == (512, 32)
    assert sum(map(sum, result.confusion)) == result.num_validation
    result.write(tmp_path / "linear.json", seed=0)
    read = json.loads((tmp_path / "linear.json").read_text())
    assert read["protocol"] == "finetune"
    assert set(read["epochs"][0]) == {"epoch", "loss", "top1", "top5"}


def test_every_view_counts_as_an_image():
    module = FineTune(backbone(), ["a", "b"]).eval()
    nn.init.normal_(module.head.weight)
    g = torch.Generator().manual_seed(0)
    views = [torch.randn(3, 1, 8, 8, generator=g) for _ in range(2)]
    label = torch.tensor([0, 1, 1])
    loss = module.training_step(Views(views, label, label), 0)
    expected = nn.functional.cross_entropy(module(torch.cat(views)), label.repeat(2))
    torch.testing.assert_close(loss, expected)


def test_says_what_is_wrong():
    data = digits()
    data.num_classes = 0
    with pytest.raises(ValueError, match="fine-tuning needs labels"):
        fine_tune(backbone(), data, CONFIG, **CPU)
    with pytest.raises(FloatingPointError, match=r"diverged in epoch \d: lower finetune\.backbone_learning_rate"):
        fine_tune(backbone(), digits(), dataclasses.replace(CONFIG, backbone_learning_rate=1e30), **CPU)
    with pytest.raises(ValueError, match="different names"):
        FineTune(backbone(), ["a", "a"])


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"epochs": 0}, "epochs"),
        ({"batch_size": 0}, "batch_size"),
        ({"backbone_learning_rate": -0.1}, "backbone_learning_rate"),
        ({"head_learning_rate": 0.0}, "head_learning_rate"),
        ({"momentum": 1.0}, "momentum"),
        ({"weight_decay": -1.0}, "weight_decay"),
        ({"schedule": "linear"}, "schedule"),
        ({"decay_at": (12,)}, "decay_at"),
        ({"decay_factor": float("nan")}, "decay_factor"),
        ({"batch_norm": "eval"}, "batch_norm"),
    ],
)
def test_config_refuses(values, named):
    with pytest.raises(ValueError, match=rf"finetune\.{named} "):
        FineTuneConfig(**values)


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path):
    """Real processes; BatchNorm frozen, for it would see the images of one process only."""
    script = Path(__file__).with_name("finetune_in_processes.py")
    results = []
    for processes in (1, 2):
        out = tmp_path / f"{processes}.json"
        subprocess.run([sys.executable, script, out, str(processes)], check=True, timeout=120, capture_output=True)
        results.append(json.loads(out.read_text()))
    assert results[0].keys() == results[1].keys()
    assert results[1]["confusion"] == results[0]["confusion"]
    for one, two in zip(results[0]["epochs"], results[1]["epochs"], strict=True):
        assert two == pytest.approx(one, rel=1e-4)

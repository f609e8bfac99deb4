"""What happens around the objective in a real Trainer's steps: averages, frozen layers, schedules."""

import math
from unittest import mock

import pytest
import torch
from lightning.pytorch import Callback
from small_methods import trainer
from tiny_methods import CASES, SAMPLES, STEPS_PER_EPOCH, build, images
from torch.utils.data import DataLoader

from solo_frossl.batch import Views
from solo_frossl.methods import METHODS, MomentumMethod, dino
from solo_frossl.methods.momentum import MomentumConfig
from solo_frossl.optim import OptimizerConfig, ScheduleConfig

EPOCHS = 4
STEPS = EPOCHS * STEPS_PER_EPOCH
OPTIMIZER = OptimizerConfig(name="sgd", lr=3.2, weight_decay=0.1, momentum=0.9)  # 0.1 for so small a batch


def fit(name, callback, **more):
    """Train the tiny method of a case; returns it."""
    model = build(CASES[name], optimizer=OPTIMIZER, schedule=ScheduleConfig(warmup_epochs=1.5), **more)
    label = index = torch.arange(SAMPLES)
    batches = [Views(images(CASES[name], step), label, index) for step in range(STEPS_PER_EPOCH)]
    trainer(callback, epochs=EPOCHS).fit(model, DataLoader(batches, batch_size=None))
    return model


def parameters(module):
    return {key: p.detach().clone() for key, p in module.named_parameters()}


class Watch(Callback):
    """Of every step: all parameters at its start, before the optimiser and at its end, and all learning rates."""

    def __init__(self):
        self.start, self.before, self.end, self.rates = [], [], [], []

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.start.append(parameters(module))

    def on_before_optimizer_step(self, trainer, module, optimizer):
        self.before.append(parameters(module))
        rates = {p: group["lr"] for group in optimizer.param_groups for p in group["params"]}
        self.rates.append({key: rates[p] for key, p in module.named_parameters() if p in rates})

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.end.append(parameters(module))


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if issubclass(method, MomentumMethod)])
def test_the_target_follows_what_the_optimiser_has_just_made(name):
    watch = Watch()
    fit(name if name in CASES else f"{name} cosine with target", watch, momentum=MomentumConfig(0.6, 0.9))
    assert len(watch.end) == STEPS
    moved = 0.0
    for step, (start, end) in enumerate(zip(watch.start, watch.end, strict=True)):
        tau = 0.9 - (0.9 - 0.6) * (math.cos(math.pi * step / STEPS) + 1) / 2
        targets = [key for key in end if key.startswith("target_")]
        assert {key.split(".")[0] for key in targets} >= {"target_backbone", "target_projector"}
        for key in targets:
            online = end[key.removeprefix("target_")]
            expected = tau * start[key] + (1 - tau) * online
            torch.testing.assert_close(end[key], expected, rtol=1e-12, atol=1e-12, msg=lambda m, k=key: f"{k}: {m}")
            moved = max(moved, float((online - start[key.removeprefix("target_")]).abs().max()))
    assert moved > 1e-2  # an average of what was there before the step would be another


@pytest.mark.parametrize("name", ["swav", "dino"])
def test_frozen_prototypes_stand_still_and_then_move(name):
    watch = Watch()
    fit(name, watch, freeze_prototypes_epochs=2)
    for step, (before, end) in enumerate(zip(watch.before, watch.end, strict=True)):
        frozen = step < 2 * STEPS_PER_EPOCH
        assert torch.equal(before["prototypes.weight"], end["prototypes.weight"]) == frozen, f"step {step}"
        assert not torch.equal(before["projector.0.weight"], end["projector.0.weight"])


def test_swavs_prototypes_have_norm_one_whenever_they_are_used():
    class Norms(Watch):
        def on_fit_start(self, trainer, module):
            module.prototypes.register_forward_pre_hook(lambda m, _: used.append(m.weight.detach().norm(dim=1)))

    watch, used = Norms(), []
    fit("swav", watch, freeze_prototypes_epochs=0)
    assert len(used) == 2 * STEPS  # two views a step
    for norms in used:
        torch.testing.assert_close(norms, torch.ones_like(norms), rtol=1e-12, atol=0)
    assert (watch.end[-1]["prototypes.weight"].norm(dim=1) - 1).abs().max() > 1e-3  # the optimiser changes them


@pytest.mark.parametrize("name", METHODS)
def test_only_simsiams_predictor_keeps_its_learning_rate(name):
    watch = Watch()
    model = fit(name if name in CASES else f"{name} cosine with target", watch)
    peak = OPTIMIZER.lr * SAMPLES / 256
    learnable = {key for key, p in model.named_parameters() if p.requires_grad}
    assert all(rates.keys() == learnable for rates in watch.rates)
    for key in learnable:
        rates = [rates[key] for rates in watch.rates]
        if name == "simsiam" and key.startswith("predictor."):
            assert rates == [peak] * STEPS
        else:
            assert rates[0] < rates[1] < rates[3] == peak > rates[4] > rates[5] > rates[6] > rates[7] > 0


def test_dinos_teacher_sharpens_less_and_less():
    loss = dino.dino_loss
    with mock.patch.object(dino, "dino_loss", side_effect=loss) as called:
        fit(
            "dino",
            Watch(),
            warmup_teacher_temperature=0.1,
            teacher_temperature=0.25,
            warmup_teacher_temperature_epochs=1.5,
        )
    temperatures = [call.kwargs["teacher_temperature"] for call in called.call_args_list]
    assert temperatures == pytest.approx([0.1, 0.15, 0.2] + [0.25] * (STEPS - 3), abs=1e-12)

"""The target network: its moving average, its schedule, and watching it."""

import pytest
import torch
from lightning.pytorch import Trainer
from small_methods import build

from solo_frossl.methods import METHODS, MomentumMethod, Progress
from solo_frossl.methods.momentum import MomentumConfig
from solo_frossl.probe import OnlineKNN

NAMES = [name for name, method in METHODS.items() if issubclass(method, MomentumMethod)]


@pytest.mark.parametrize("name", NAMES)
def test_the_target_starts_as_a_copy_and_follows(name):
    model, _ = build(name)
    targets, online = ([p for m in modules for p in m.parameters()] for modules in zip(*model.followed(), strict=True))
    pairs = list(zip(targets, online, strict=True))
    assert all(torch.equal(t, o) and t is not o and not t.requires_grad for t, o in pairs)
    with torch.no_grad():
        for _, o in pairs:
            o += torch.randn_like(o)
    before = [t.clone() for t, _ in pairs]
    model.progress = Progress(step=30, steps_per_epoch=10, total_steps=100)
    model.update_target()
    tau = model.momentum_config.tau(model.progress)
    assert model.momentum_config.base_tau < tau < model.momentum_config.final_tau
    for (t, o), b in zip(pairs, before, strict=True):
        torch.testing.assert_close(t, tau * b + (1 - tau) * o)


def test_tau_is_the_cosine_of_byol():
    config = MomentumConfig(base_tau=0.96, final_tau=1.0)
    for step in (0, 1, 17, 99, 100):
        expected = 1 - (1 - 0.96) * (torch.cos(torch.tensor(torch.pi * step / 100, dtype=torch.float64)) + 1) / 2
        assert config.tau(Progress(step, 10, 100)) == pytest.approx(float(expected), abs=1e-12)


@pytest.mark.parametrize("wrong", [{"base_tau": -0.1}, {"final_tau": 1.1}, {"base_tau": 0.9, "final_tau": 0.8}])
def test_impossible_averages_are_refused(wrong):
    with pytest.raises(ValueError, match=r"momentum\.base_tau"):
        MomentumConfig(**wrong)


@pytest.mark.parametrize("name", NAMES)
def test_without_a_target_network_the_online_embeddings_take_its_place(name):
    model, data = build(name, "--model.momentum=null")
    assert not [key for key in model.state_dict() if key.startswith(("target_backbone", "target_projector"))]
    data.setup()
    views = data.make_views(next(iter(data.train_dataloader()))).views
    model.objective(views).loss.backward()
    model.update_target()
    assert all(p.grad is not None for p in model.backbone.parameters())


def test_the_target_is_watched_as_the_online_network_is():
    model, data = build("byol", "--model.watch_target=true", "--model.momentum.base_tau=0.5")
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=3,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[OnlineKNN()],
    )
    trainer.fit(model, datamodule=data)
    logged = trainer.callback_metrics
    for name in ("online/target_top1", "knn/target_top1", "train/online_target_top1", "knn/top1", "online/top1"):
        assert 0 < logged[name] <= 100, name
    assert logged["knn/target_top1"] != logged["knn/top1"]
    assert (model.target_classifier.weight != 0).any()
    assert all(p.grad is None for p in model.target_backbone.parameters())


def test_there_must_be_a_target_to_watch():
    with pytest.raises(Exception, match="no target network to watch"):
        build("byol", "--model.watch_target=true", "--model.momentum=null")


def test_the_gradient_through_both_views_needs_no_target():
    with pytest.raises(Exception, match="needs momentum: null"):
        build("directpred", "--model.stop_gradient=false")

"""What every method must hold; a new method is found by itself."""

import copy
import inspect
import os
import re
import signal

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.utilities.exceptions import SIGTERMException
from small_methods import VARIANTS, Losses, build, quality, trainer

from solo_frossl.methods import METHODS
from solo_frossl.report import EpochCSV
from solo_frossl.run_files import RunFolder
from solo_frossl.runs import CheckpointConfig, NonFiniteGuard, RunCheckpoint, read_checkpoint
from solo_frossl.weights import load_backbone

EPOCHS, STEPS = 3, 4
FOLLOWING = ("num_classes", "channels", "image_size", "batch_size")
"""Parameters that follow the data and cannot be given."""
OURS = ("channels_last", "views_in_one_batch", "watch_target")
"""Parameters that no paper has."""


@pytest.fixture(params=list(METHODS))
def name(request):
    return request.param


@pytest.mark.slow
def test_it_learns(name):
    """The loss falls and the features do not collapse: neither their rank, nor how often neighbours are of one class.

    In sixty steps that gains ten points in most runs, and loses one or two in some: the last bits of the processor's
    arithmetic make that difference. A collapse loses twenty and more.
    """
    model, data = build(name)
    losses = Losses()
    data.setup()
    untrained, _ = quality(model, data)
    run = trainer(losses, epochs=15)
    run.fit(model, datamodule=data)
    assert len(losses.values) == 15 * STEPS
    by_epoch = losses.by_epoch(STEPS)
    # A queue that fills, or a teacher that sharpens, makes it rise at first.
    assert sum(by_epoch[-5:]) / 5 < max(by_epoch[:5])
    logged = run.callback_metrics
    assert {"train/loss", "train/online_top1", "online/top1", "online/top5"} <= logged.keys()
    assert {f"train/{term}" for term in model.loss_terms} <= logged.keys()
    trained, rank = quality(model, data)
    assert trained > untrained - 5
    assert rank > 3


def test_every_learnable_parameter_gets_a_gradient_and_no_other(name):
    model, data = build(name)
    data.setup()
    batch = next(iter(data.train_dataloader()))
    model.training_step(data.make_views(batch), 0)["loss"].backward()
    for parameter_name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            assert parameter.grad is None, parameter_name
            continue
        has_gradient = parameter.grad is not None and bool((parameter.grad != 0).any())
        # A bias before BatchNorm shifts what is centred away: its gradient may be exactly zero, but must exist.
        assert has_gradient or (parameter.grad is not None and parameter.ndim == 1), parameter_name


@pytest.mark.slow
def test_the_classifier_learns_without_touching_the_backbone(name):
    model, data = build(name)
    data.setup()
    views = data.make_views(next(iter(data.train_dataloader())))
    torch.manual_seed(0)
    model.training_step(views, 0)["loss"].backward()
    with_labels = [p.grad.clone() for p in model.backbone.parameters()]
    model, _ = build(name)  # a queue or a running mean would have moved on
    torch.manual_seed(0)
    model.training_step(views._replace(label=torch.full_like(views.label, -1)), 0)["loss"].backward()
    for before, parameter in zip(with_labels, model.backbone.parameters(), strict=True):
        torch.testing.assert_close(before, parameter.grad)
    assert (model.classifier.weight.grad == 0).all()


@pytest.mark.slow
def test_mixed_precision_neither_overflows_nor_strays(name, monkeypatch):
    """Networks in half precision; what the objective makes of their outputs is in float32 or better."""
    losses = {}
    for dtype in (None, torch.float16, torch.bfloat16):
        if dtype == torch.bfloat16:  # oneDNN's gradient of a convolution is NaN at times, on CPUs without bfloat16
            monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
        model, data = build(name)
        data.setup()
        views = data.make_views(next(iter(data.train_dataloader()))).views
        torch.manual_seed(0)
        with torch.autocast("cpu", dtype, enabled=dtype is not None):
            loss = model.objective(views).loss
        loss.backward()
        assert loss.dtype in (torch.float32, torch.float64)
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        assert all(bool(g.isfinite().all()) for g in gradients)
        assert any(bool((g != 0).any()) for g in gradients)
        losses[dtype] = float(loss.detach())
    assert losses[torch.float16] == pytest.approx(losses[None], rel=0.05, abs=0.05)
    assert losses[torch.bfloat16] == pytest.approx(losses[None], rel=0.05, abs=0.05)


@pytest.mark.slow
def test_its_backbone_is_probed_from_its_checkpoint(name, tmp_path):
    model, _ = build(name)
    config = {"method": name, "dataset": "digits", "model": {"backbone": "test_resnet", "stem": "imagenet"}}
    torch.save({"state_dict": model.state_dict(), "config": config}, tmp_path / "last.ckpt")
    loaded = load_backbone(tmp_path / "last.ckpt")
    torch.testing.assert_close(loaded.backbone.state_dict(), model.backbone.state_dict(), rtol=0, atol=0)


def test_help_explains_every_hyperparameter(name, capsys):
    """In words, and by its paper where the method is one of a paper."""
    with pytest.raises(SystemExit):
        build(name, "--help")
    text = capsys.readouterr().out
    paper = re.compile(r"[A-Z]\w+ (et al\.|and [A-Z]\w+) (19|20)\d\d")
    own = [p for c in METHODS[name].__mro__ if "__init__" in vars(c) for p in inspect.signature(c.__init__).parameters]
    for parameter in {*own} - {"self", "args", "kwargs", *FOLLOWING}:
        # A group of keys (--model.optimizer CONFIG) is explained by its headline, with its keys below.
        group = re.search(rf"\n\n([^\n]+):\n  --model\.{parameter} CONFIG", text)
        line = group or re.search(rf"\n  --model\.{parameter} (.*?)\(type:", text, flags=re.DOTALL)
        assert line, f"--model.{parameter} is not in --help"
        explanation = " ".join(line[1].split())
        assert len(re.findall("[a-z]{2,}", explanation)) > 1, line[0]
        if paper.search(METHODS[name].__doc__) and parameter not in OURS:
            assert paper.search(explanation), f"--model.{parameter}: {explanation}"


class Interrupt(Exception):
    pass


class StopAfter(Callback):
    """Raises after a number of steps, once the checkpoint callback has had its turn."""

    def __init__(self, steps):
        self.steps = steps

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if trainer.global_step == self.steps:
            raise Interrupt

    def on_train_epoch_start(self, trainer, module):
        if trainer.global_step == self.steps:
            raise Interrupt


def fit(name, folder, stop_after=None, resume=None, changes=()):
    model, data = build(name, *changes)
    guard = NonFiniteGuard()
    callbacks = [guard, RunCheckpoint(RunFolder(folder), CheckpointConfig(every_n_steps=1), {"method": name}, guard)]
    if stop_after is not None:
        callbacks.append(StopAfter(stop_after))
    run = trainer(*callbacks, epochs=EPOCHS)
    try:
        run.fit(model, datamodule=data, ckpt_path=resume, weights_only=True)
    except Interrupt:
        return None
    return copy.deepcopy(model.state_dict()) | {"epoch": run.current_epoch, "step": run.global_step}


def different(whole, resumed):
    """Names of what is not the same bits in two runs."""
    return [key for key in whole if not torch.equal(*map(torch.as_tensor, (whole[key], resumed[key])))]


class TerminateInValidation(Callback):
    """Sends SIGTERM to this process while an epoch's validation is under way."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_validation_batch_start(self, trainer, module, batch, batch_idx, dataloader_idx=0):
        if trainer.current_epoch == self.epoch and batch_idx == 1:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.slow
def test_terminated_in_validation_it_loses_no_training(tmp_path):
    def run(folder, *more, resume=None):
        model, data = build("frossl")
        data.eval_batch_size = 64
        guard, metrics = NonFiniteGuard(), EpochCSV(folder / "metrics.csv")
        keeper = RunCheckpoint(RunFolder(folder), CheckpointConfig(every_n_steps=0), {}, guard, metrics)
        run = trainer(guard, keeper, *more, epochs=EPOCHS)
        run.fit(model, datamodule=data, ckpt_path=resume, weights_only=True)
        return model.state_dict(), metrics.rows

    whole, rows = run(tmp_path / "whole")
    with pytest.raises(SIGTERMException):
        run(tmp_path / "r", TerminateInValidation(epoch=1))
    assert read_checkpoint(RunFolder(tmp_path / "r").last)["global_step"] == 2 * STEPS
    resumed, resumed_rows = run(tmp_path / "r", resume=RunFolder(tmp_path / "r").last)
    assert [key for key in whole if not torch.equal(whole[key], resumed[key])] == []
    for epoch, row in rows.items():  # what the interrupted validation would have measured stays empty
        expected = {k: v for k, v in row.items() if epoch != 1 or k.startswith("train/")}
        assert resumed_rows[epoch] == expected


@pytest.mark.slow
def test_stopped_at_any_step_and_resumed_it_ends_bit_identical(name, tmp_path):
    whole = fit(name, tmp_path / "whole")
    assert whole["step"] == EPOCHS * STEPS
    for stop in (1, STEPS - 1, STEPS, STEPS + 1, 2 * STEPS + 2):
        folder = tmp_path / str(stop)
        assert fit(name, folder, stop_after=stop) is None
        resumed = fit(name, folder, resume=RunFolder(folder).last)
        assert resumed.keys() == whole.keys()
        assert different(whole, resumed) == [], f"stopped after step {stop}"


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_stopped_within_an_epoch_and_resumed_ends_bit_identical(variant, tmp_path):
    name, changes = VARIANTS[variant]
    whole = fit(name, tmp_path / "whole", changes=changes)
    assert fit(name, tmp_path / "r", stop_after=STEPS + 1, changes=changes) is None
    resumed = fit(name, tmp_path / "r", resume=RunFolder(tmp_path / "r").last, changes=changes)
    assert resumed.keys() == whole.keys()
    assert different(whole, resumed) == []


@pytest.mark.slow
def test_a_learning_rate_changed_on_resuming_is_used(name, tmp_path):
    fit(name, tmp_path, stop_after=1)
    model, data = build(
        name, "--model.optimizer.lr=0.01", "--model.optimizer.weight_decay=0.5", "--model.optimizer.momentum=0.3"
    )
    run = trainer(epochs=1)
    run.fit(model, datamodule=data, ckpt_path=RunFolder(tmp_path).last, weights_only=True)
    main = run.optimizers[0].param_groups[0]
    assert main["peak_lr"] == 0.01 * 64 / 256
    assert main["lr"] <= main["peak_lr"]
    assert main["weight_decay"] == 0.5
    assert main["momentum"] == 0.3


@pytest.mark.slow
def test_the_views_can_go_through_as_one_batch(name):
    model, data = build(name, "--model.views_in_one_batch=true")
    data.setup()
    views = data.make_views(next(iter(data.train_dataloader()))).views
    with torch.no_grad():
        together = model.embed(views)
        model.views_in_one_batch = False
        model.eval()
        apart = model.embed(views)
        model.views_in_one_batch = True
        again = model.embed(views)
    assert [z.shape for z in together[1]] == [z.shape for z in apart[1]]
    for a, b in zip(apart[1], again[1], strict=True):  # in eval mode BatchNorm does not see the batch
        torch.testing.assert_close(a, b)


def test_views_of_several_sizes_share_a_pass_a_size():
    model, _ = build("frossl", "--model.views_in_one_batch=true")
    sizes = []
    model.backbone.register_forward_pre_hook(lambda module, args: sizes.append(tuple(args[0].shape)))
    views = [torch.randn(4, 1, s, s) for s in (16, 16, 8, 8, 8)]
    features, embeddings = model.embed(views)
    assert sizes == [(8, 1, 16, 16), (12, 1, 8, 8)]
    assert [len(z) for z in embeddings] == [4] * 5
    assert [len(x) for x in features] == [4] * 5

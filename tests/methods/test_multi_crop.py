"""Two whole views and two small crops: all four predict, only the whole ones are ever predicted."""

import importlib
import math
from typing import NamedTuple

import pytest
import torch
from small_methods import Losses, build, quality, trainer
from torch import Tensor

SIZES = {"test_resnet": (8, 6), "test_vit": (32, 16)}  # the ViT's positions, 2 x 2 patches, are interpolated to one
MILD = "brightness: 0.0, contrast: 0.0, crop_scale"
STEPS, EPOCHS = 4, 12


def multi_crop(name, backbone, *more):
    size, small = SIZES[backbone]
    whole, crops = f"count: 2, {MILD}: [0.8, 1.0]", f"count: 2, size: {small}, {MILD}: [0.5, 0.8]"
    views = f"--data.views=[{{recipe: digits, {whole}}}, {{recipe: digits, {crops}}}]"
    return build(name, f"--model.backbone={backbone}", f"--data.image_size={size}", views, *more)


@pytest.fixture(params=["swav", "dino"])
def name(request):
    return request.param


class FirstStep(NamedTuple):
    predictions: list[Tensor]
    targets: list[Tensor]
    gradients: tuple[Tensor, ...]
    memory: dict[str, Tensor]
    student_sizes: list[int]
    teacher_sizes: list[int]
    features: int


def first_step(name, backbone, monkeypatch, noise, *more):
    """A step's predictions and targets as the loss gets them; of the small crops, or of noise in their place."""
    model, data = multi_crop(name, backbone, *more)
    data.setup()
    size, small = SIZES[backbone]
    views = data.make_views(next(iter(data.train_dataloader()))).views
    assert [view.shape[-1] for view in views] == [size, size, small, small]
    if noise:
        views[2:] = [torch.randn_like(view) for view in views[2:]]
    module = importlib.import_module(type(model).__module__)
    loss, calls, student_sizes, teacher_sizes = getattr(module, f"{name}_loss"), [], [], []
    with monkeypatch.context() as patch:
        patch.setattr(module, f"{name}_loss", lambda *args, **kwargs: calls.append(args) or loss(*args, **kwargs))
        model.backbone.register_forward_pre_hook(lambda _, args: student_sizes.append(args[0].shape[-1]))
        if name == "dino":
            model.target_backbone.register_forward_pre_hook(lambda _, args: teacher_sizes.append(args[0].shape[-1]))
        objective = model.objective(views)
    ((predictions, targets, *_),) = calls
    gradients = torch.autograd.grad(objective.loss, predictions)
    memory = {key: value for key, value in model.state_dict().items() if key.startswith(("queue", "centre"))}
    return FirstStep(predictions, targets, gradients, memory, student_sizes, teacher_sizes, len(objective.features))


@pytest.mark.slow
@pytest.mark.parametrize("in_one_batch", ["false", "true"])
@pytest.mark.parametrize("backbone", SIZES)
def test_small_crops_predict_and_are_never_predicted(name, backbone, in_one_batch, monkeypatch):
    more = [f"--model.views_in_one_batch={in_one_batch}"] + ["--model.queue_from_epoch=0"] * (name == "swav")
    crops, noise = (first_step(name, backbone, monkeypatch, noise, *more) for noise in (False, True))
    size, small = SIZES[backbone]
    assert crops.student_sizes == ([size, small] if in_one_batch == "true" else [size, size, small, small])
    assert crops.teacher_sizes == ([size, size] if name == "dino" else [])
    assert (len(crops.predictions), len(crops.targets), crops.features) == (4, 2, 2)
    assert all(gradient.abs().max() > 0 for gradient in crops.gradients)
    same = [torch.equal(a, b) for a, b in zip(crops.predictions, noise.predictions, strict=True)]
    assert same == [True, True, False, False]
    assert all(torch.equal(a, b) for a, b in zip(crops.targets, noise.targets, strict=True))
    assert crops.memory
    assert all(torch.equal(value, noise.memory[key]) for key, value in crops.memory.items())


@pytest.mark.slow
@pytest.mark.parametrize("backbone", SIZES)
def test_it_learns_from_multi_crop(name, backbone):
    """The loss falls below that of the trivial solution, where all outputs are equal, and neighbours stay of one class.

    An untrained ViT's features of so small images are nearly the pixels, by which digits are told apart: no method gets
    better than that in seconds.
    """
    model, data = multi_crop(name, backbone, *(["--model.optimizer.lr=0.05"] if backbone == "test_vit" else []))
    losses = Losses()
    data.setup()
    untrained, _ = quality(model, data)
    trainer(losses, epochs=EPOCHS).fit(model, datamodule=data)
    by_epoch = losses.by_epoch(STEPS)
    assert len(by_epoch) == EPOCHS
    assert by_epoch[-1] < math.log(model.prototypes.weight.shape[0]) < by_epoch[0]
    trained, rank = quality(model, data)
    assert trained > (untrained - 5 if backbone == "test_resnet" else 45)
    assert rank > 2

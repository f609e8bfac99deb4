"""Linear probe: a linear classifier trained on the features of a frozen backbone, and what it reaches.

Training goes over batches of features, wherever they come from: :func:`shuffled_batches` of features extracted once, or
:func:`augmented_batches`, which sends augmented images through the backbone in every epoch.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from lightning.fabric.utilities.apply_func import move_data_to_device
from torch import Tensor, nn
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_confusion_matrix

from solo_frossl.batch import Batch, Views
from solo_frossl.methods.base import evaluating
from solo_frossl.optim import ScheduleConfig, learning_rate
from solo_frossl.probe.features import Features
from solo_frossl.replacing import replacing
from solo_frossl.seeding import generator

EpochBatches = Callable[[int], Iterable[tuple[Tensor, Tensor]]]
"""From the epoch, from 0, to its batches: features ``(B, F)`` and labels ``(B,)``."""
BATCH_SIZE = 256
"""Images per step, and those that the learning rate is given for."""
SMALL_BATCH_SIZE = 32
"""Images per step where there are so few that an epoch would have less than ``LEAST_STEPS`` steps."""
LEAST_STEPS = 16
"""See ``SMALL_BATCH_SIZE``."""


@dataclass(frozen=True)
class LinearConfig:
    """Training of the linear probe; the defaults are the paper's for the small datasets.

    Args:
        epochs: passes over the training images.
        batch_size: images per step; none given: 256, or 32 below 4,096 training images. With 256 of them an epoch of so
            few has less than 16 steps, each at a rate that overshoots along the largest features, and the probe ends
            up to a point below the optimum.
        optimizer: ``sgd`` or ``adam``.
        learning_rate: peak learning rate per 256 images of the batch.
        momentum: momentum of ``sgd``.
        weight_decay: L2 penalty on the classifier's weight and bias.
        decay_at: fractions of the run after which the learning rate is multiplied by ``decay_factor``; those that fall
            on the same epoch count once.
        decay_factor: see ``decay_at``.
    """

    epochs: int = 100
    batch_size: int | None = None
    optimizer: Literal["sgd", "adam"] = "sgd"
    learning_rate: float = 0.3
    momentum: float = 0.9
    weight_decay: float = 0.0
    decay_at: tuple[float, ...] = (0.6, 0.8)
    decay_factor: float = 0.1

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "learning_rate"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"linear.{name} is {value}: it must be above 0")
        if self.optimizer not in ("sgd", "adam"):
            raise ValueError(f"linear.optimizer is {self.optimizer!r}: it must be sgd or adam")
        if not all(0 < fraction < 1 for fraction in self.decay_at):
            raise ValueError(f"linear.decay_at is {self.decay_at}: these are fractions of the run, between 0 and 1")

    def sized(self, num_train: int) -> "LinearConfig":
        """With a batch size, that for so many labelled training images where none was given.

        >>> [LinearConfig().sized(n).batch_size for n in (1438, 4095, 4096, 50000)]
        [32, 32, 256, 256]
        """
        usual = BATCH_SIZE if num_train >= LEAST_STEPS * BATCH_SIZE else SMALL_BATCH_SIZE
        return replace(self, batch_size=self.batch_size or usual)

    def rate(self, epoch: int) -> float:
        """The learning rate in an epoch, from 0; for batches of 256 where the size is not given.

        >>> [round(LinearConfig().rate(epoch), 6) for epoch in (0, 59, 60, 79, 80, 99)]
        [0.3, 0.3, 0.03, 0.03, 0.003, 0.003]
        """
        milestones = sorted({round(fraction * self.epochs) for fraction in self.decay_at})
        schedule = ScheduleConfig(name="step", warmup_epochs=0, milestones=milestones, gamma=self.decay_factor)
        peak = self.learning_rate * (self.batch_size or BATCH_SIZE) / BATCH_SIZE
        return learning_rate(schedule, peak, epoch, steps_per_epoch=1, total_steps=self.epochs)


def shuffled_batches(train: Features, batch_size: int, seed: int) -> EpochBatches:
    """Batches of features extracted once, in an order that depends on (seed, epoch) only.

    Args:
        train: features of the training images; rows without a label are left out.
        batch_size: rows of a batch; the last batch of an epoch may be smaller.
        seed: the run's seed.
    """
    train = train.labelled()

    def batches(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(train.label), generator=generator(seed, "linear", epoch)).to(train.label.device)
        for rows in order.split(batch_size):
            yield train.features[rows], train.label[rows]

    return batches


def augmented_batches(
    backbone: nn.Module,
    loader: Any,
    prepare: Callable[[Batch], Views],
    device: torch.device | str,
    precision: Callable[[], AbstractContextManager] = nullcontext,
) -> EpochBatches:
    """Features of augmented images, computed anew in every epoch by the frozen backbone in eval mode.

    Args:
        backbone: maps views ``(B, C, S, S)`` to features ``(B, F)``.
        loader: yields training batches; ``loader.sampler.set_epoch`` chooses the epoch.
        prepare: turns such a batch, on the device already, into augmented views; every view counts as an image.
        device: where the backbone is.
        precision: makes the context of each forward pass.
    """

    def batches(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        loader.sampler.set_epoch(epoch)
        for raw in loader:
            views = prepare(move_data_to_device(raw, device))
            with evaluating(backbone), precision():
                features = torch.cat([backbone(view) for view in views.views])
            yield features.float(), views.label.repeat(len(views.views))

    return batches


def fit_linear(
    batches: EpochBatches,
    num_features: int,
    num_classes: int,
    config: LinearConfig,
    device: torch.device | str,
) -> nn.Linear:
    """A linear classifier that minimises the mean cross entropy over the labelled rows of each batch.

    The objective is convex, so training starts from zero.

    Args:
        batches: training batches by epoch, of ``config.batch_size`` (256 where not given), to which the rate belongs.
        num_features: F.
        num_classes: number of classes C.
        config: optimiser, schedule and epochs.
        device: where to train.

    Raises:
        FloatingPointError: the weights are no longer finite.
    """
    classifier = nn.Linear(num_features, num_classes, device=device)
    nn.init.zeros_(classifier.weight)
    nn.init.zeros_(classifier.bias)
    weights = list(classifier.parameters())
    options = {"lr": config.rate(0), "weight_decay": config.weight_decay}
    if config.optimizer == "sgd":
        optimizer = torch.optim.SGD(weights, momentum=config.momentum, **options)
    else:
        optimizer = torch.optim.Adam(weights, **options)
    for epoch in range(config.epochs):
        optimizer.param_groups[0]["lr"] = config.rate(epoch)
        for features, label in batches(epoch):
            summed = F.cross_entropy(classifier(features), label, ignore_index=-1, reduction="sum")
            optimizer.zero_grad()
            (summed / (label >= 0).sum().clamp(min=1)).backward()
            optimizer.step()
    if not all(weight.isfinite().all() for weight in weights):
        raise FloatingPointError(
            f"the linear probe diverged: lower linear.learning_rate ({config.learning_rate} per 256 images)"
        )
    return classifier


@dataclass(frozen=True)
class LinearResult:
    """What a linear probe reached; :meth:`write` makes it ``linear.json``, an object with these keys.

    Args:
        top1: percent of the validation images whose class has the highest score.
        top5: percent whose class is among the five highest; None with five classes or fewer.
        train_top1: percent of the training images, without augmentation.
        per_class: percent of each class's validation images, by class name; None for a class without any.
        confusion: validation images by true class (rows) and predicted class (columns), in the order of ``per_class``.
        num_train: labelled training images.
        num_validation: labelled validation images.
        num_features: dimension F of the features.
    """

    top1: float
    top5: float | None
    train_top1: float
    per_class: dict[str, float | None]
    confusion: list[list[int]]
    num_train: int
    num_validation: int
    num_features: int

    def write(self, path: str | Path, **about: Any) -> None:
        """Write the result as JSON, atomically.

        Args:
            path: the file.
            about: further entries that say what was probed, such as ``checkpoint`` and ``seed``; plain values.
        """
        with replacing(path) as part:
            part.write_text(json.dumps(about | asdict(self), indent=2, allow_nan=False) + "\n", encoding="utf-8")


@torch.no_grad()
def evaluate_linear(
    classifier: nn.Linear, train: Features, validation: Features, class_names: Sequence[str]
) -> LinearResult:
    """Accuracies and confusion matrix of a linear classifier.

    Args:
        classifier: F features to C scores.
        train: clean training features.
        validation: validation features; rows without a label are left out.
        class_names: C names, different from each other.

    Raises:
        ValueError: no validation image is labelled, or the names do not fit the classifier.
    """
    if len(set(class_names)) != classifier.out_features:
        raise ValueError(
            f"{classifier.out_features} different class names are needed, got {len(set(class_names))}: {class_names}"
        )
    scores = [part._replace(features=classifier(part.features)) for part in (train.labelled(), validation.labelled())]
    return evaluate_scores(*scores, class_names, classifier.in_features)


def evaluate_scores(
    train: Features, validation: Features, class_names: Sequence[str], num_features: int
) -> LinearResult:
    """Accuracies and confusion matrix of a classifier's scores.

    Args:
        train: scores ``(N, C)``, as features, of the clean training images; rows without a label are left out.
        validation: scores of the validation images, likewise.
        class_names: C names.
        num_features: dimension F of the features that the scores were made of.

    Raises:
        ValueError: no validation image is labelled.
    """
    num_classes = len(class_names)
    train, validation = train.labelled(), validation.labelled()
    if not len(validation.label):
        raise ValueError("the linear probe needs labelled validation images, and there are none")
    confusion = multiclass_confusion_matrix(validation.features, validation.label, num_classes).cpu()
    per_class = [100 * int(row[c]) / int(row.sum()) if row.sum() else None for c, row in enumerate(confusion)]
    return LinearResult(
        top1=_percent(validation.features, validation.label, 1),
        top5=_percent(validation.features, validation.label, 5) if num_classes > 5 else None,
        train_top1=_percent(train.features, train.label, 1),
        per_class=dict(zip(class_names, per_class, strict=True)),
        confusion=confusion.tolist(),
        num_train=len(train.label),
        num_validation=len(validation.label),
        num_features=num_features,
    )


def linear_probe(
    train: Features,
    validation: Features,
    class_names: Sequence[str],
    config: LinearConfig = LinearConfig(),
    *,
    seed: int = 0,
    batches: EpochBatches | None = None,
) -> LinearResult:
    """Train a linear classifier on features and evaluate it.

    Args:
        train: clean training features.
        validation: validation features.
        class_names: the classes.
        config: optimiser, schedule and epochs.
        seed: the run's seed; the result is a function of it.
        batches: what to train on instead of ``train``, in batches of ``config.batch_size`` (256 where not given); see
            :func:`augmented_batches`.

    Raises:
        ValueError: there is no labelled training image.
    """
    if not (train.label >= 0).any():
        raise ValueError("the linear probe needs labelled training images, and there are none")
    if batches is None:
        config = config.sized(int((train.label >= 0).sum()))
        batches = shuffled_batches(train, config.batch_size, seed)
    classifier = fit_linear(batches, train.features.shape[1], len(class_names), config, train.features.device)
    return evaluate_linear(classifier, train, validation, class_names)


def _percent(scores: Tensor, label: Tensor, top_k: int) -> float:
    accuracy = multiclass_accuracy(scores.float(), label, scores.shape[1], average="micro", top_k=top_k)
    return 100 * float(accuracy)

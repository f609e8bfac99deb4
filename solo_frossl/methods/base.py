"""The base of every method: backbone, projector, online classifier, optimiser and what is logged."""

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy

from solo_frossl.batch import Batch, Views
from solo_frossl.methods.backbones import Stem, build_backbone
from solo_frossl.methods.heads import OnlineClassifier, ProjectorConfig, build_projector
from solo_frossl.optim import OptimizerConfig, ScheduleConfig, build_optimizer, parameter_groups, set_learning_rate


class Objective(NamedTuple):
    """What a method computes from the views of one batch.

    Attributes:
        loss: scalar to minimise.
        terms: the named scalars that the loss is made of, as ``Method.loss_terms`` lists them.
        features: backbone outputs that the online classifier learns from, each ``(B, F)``, one a view.
        embeddings: projector outputs, each ``(B, D)``, one a view.
    """

    loss: Tensor
    terms: dict[str, Tensor]
    features: list[Tensor]
    embeddings: list[Tensor]


class Progress(NamedTuple):
    """Where in the run a training step is; schedules are functions of it.

    Attributes:
        step: optimiser steps taken before this one, from 0.
        steps_per_epoch: optimiser steps in an epoch, at least 1.
        total_steps: optimiser steps of the whole run, at least 1.
    """

    step: int = 0
    steps_per_epoch: int = 1
    total_steps: int = 1

    @property
    def epoch(self) -> int:
        """The epoch that this step is in, from 0."""
        return self.step // self.steps_per_epoch

    def cosine(self, start: float, end: float) -> float:
        """A value that goes from `start` at step 0 to `end` at ``total_steps`` along half a cosine.

        >>> [Progress(step, 1, 4).cosine(0.5, 1.0) for step in (0, 2, 4)]
        [0.5, 0.75, 1.0]
        """
        return end - (end - start) * (1 + math.cos(math.pi * min(1.0, self.step / self.total_steps))) / 2

    def linear(self, start: float, end: float, epochs: float) -> float:
        """A value that goes from `start` to `end` in a straight line over the first `epochs`, then stays.

        >>> [Progress(step, 2, 100).linear(0.0, 1.0, epochs=2) for step in (0, 2, 4, 9)]
        [0.0, 0.5, 1.0, 1.0]
        """
        return end if not epochs else start + (end - start) * min(1.0, self.step / (epochs * self.steps_per_epoch))


class Ratio(Metric):
    """A quotient of two sums over an epoch, kept in the checkpoint so that a resumed epoch counts its first half."""

    full_state_update = False

    def __init__(self) -> None:
        super().__init__()
        self.add_state("numerator", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum", persistent=True)
        self.add_state("denominator", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum", persistent=True)

    def update(self, numerator: Tensor, denominator: Tensor | int = 1) -> None:
        """Add one batch's share; scalars."""
        self.numerator += numerator
        self.denominator += denominator

    def compute(self) -> Tensor:
        """Numerator over denominator; NaN while nothing was counted."""
        return (self.numerator / self.denominator).float()


class Method(LightningModule, ABC):
    """Base of every method; a subclass says its objective and names its terms.

    Args:
        backbone: any timm model name; the papers' tables have a ResNet-18 (He et al. 2016).
        stem: first layers of a ResNet backbone: ``imagenet`` (7x7, stride 2, max-pool), ``cifar`` (3x3, stride 1, no
            max-pool; Chen et al. 2020, Appendix B.9), or the values of a custom one.
        width: factor of the channels in a ResNet's four stages, > 0 (the width multiplier of Howard et al. 2017, Sec.
            3.3); the stem keeps its own.
        zero_init_residual: start the residual branches of a ResNet at zero (Goyal et al. 2017, Sec. 5.1); a high
            learning rate without warm-up needs it, while the papers' tables were trained without.
        projector: sizes of the projector; g in Chen et al. 2020, Sec. 2.1.
        optimizer: optimiser and its peak learning rates; the tables mostly have LARS (You et al. 2017).
        schedule: learning rate over the run; the tables have a cosine (Loshchilov and Hutter 2017) after a warm-up.
        views_in_one_batch: send all views of one size through the network as one batch, so that BatchNorm sees them
            together; the papers' tables were trained with each view by itself.
        channels_last: keep images and convolution weights in channels-last order, which is faster on CPU and GPU.
        channels: channels of the images; follows the dataset.
        image_size: side of the views, pixels; follows the dataset.
        num_classes: classes of the online classifier, 0 for none; follows the dataset.
        batch_size: images of all processes together per step, at least 2, by which learning rates are scaled; follows
            the data.
    """

    loss_terms: ClassVar[tuple[str, ...]] = ()
    """Names of the terms that :meth:`objective` returns; each is logged as ``train/<name>``."""

    unscheduled_modules: ClassVar[tuple[str, ...]] = ()
    """Names of the learnable modules whose learning rate stays at its peak throughout."""

    max_views: ClassVar[int | None] = None
    """Views that the objective compares at most; None for any number. Two is the least."""

    def __init__(
        self,
        *,
        backbone: str = "resnet18",
        stem: Literal["imagenet", "cifar"] | Stem = "imagenet",
        width: float = 1.0,
        zero_init_residual: bool = False,
        projector: ProjectorConfig = ProjectorConfig(),
        optimizer: OptimizerConfig = OptimizerConfig(),
        schedule: ScheduleConfig = ScheduleConfig(),
        views_in_one_batch: bool = False,
        channels_last: bool = True,
        channels: int = 3,
        image_size: int | None = None,
        num_classes: int = 10,
        batch_size: int = 256,
    ) -> None:
        super().__init__()
        if batch_size < 2:
            raise ValueError(f"data.batch_size is {batch_size}: it must be at least 2, for statistics over the batch")
        self.backbone = build_backbone(backbone, stem, channels, zero_init_residual, image_size or 224, width)
        self.projector = build_projector(self.backbone.num_features, projector)
        self.classifier = OnlineClassifier(self.backbone.num_features, num_classes) if num_classes else None
        self.optimizer_config = optimizer
        self.schedule_config = schedule
        self.views_in_one_batch = views_in_one_batch
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.embedding_dimensions = projector.output
        self.batch_size = batch_size
        self.progress = Progress()
        self.backbone.to(memory_format=self.memory_format)
        self.epoch_means = nn.ModuleDict({name: Ratio() for name in ("loss", *self.loss_terms)})
        if num_classes:
            self.epoch_means["online_top1"] = Ratio()
            self.val_accuracy = nn.ModuleDict(
                {f"top{k}": accuracy(num_classes, k) for k in (1, 5) if k == 1 or k < num_classes}
            )

    # ------------------------------------------------------------------------------------------ what a method says

    @abstractmethod
    def objective(self, views: list[Tensor]) -> Objective:
        """The method's objective; every subclass says its own.

        It is called once a training step, and may update buffers (a queue, a running mean). What depends on the time
        of the run is a function of ``self.progress``.

        Args:
            views: V tensors ``(B, C, S_v, S_v)`` float32, normalised.
        """

    def frozen_parameters(self) -> Sequence[nn.Parameter]:
        """Learnable parameters that stand still at this step; their gradient is dropped. None by default."""
        return ()

    def linear_predictor(self) -> Tensor | None:
        """The predictor W_P ``(D, D)`` of the last step, where it is a matrix in closed form; None by default."""
        return None

    def collapse_causes(self) -> list[str]:
        """What in this configuration can make embeddings collapse, the likeliest first; keys by their full names.

        The weights that a constructor takes, all but ``invariance_weight``, work against collapse. They are too small
        if one, relative to ``invariance_weight``, is less than a tenth of what it is by default.
        """
        usual = {
            name: argument.default
            for cls in reversed(type(self).__mro__)
            for name, argument in inspect.signature(cls.__init__).parameters.items()
            if name.endswith("_weight")
            and isinstance(argument.default, float)
            and argument.default
            and hasattr(self, name)
        }
        weights = {name: getattr(self, name) for name in usual}
        relative = {name: weights[name] / usual[name] for name in usual}
        pull = relative.pop("invariance_weight", 1.0)
        against = [share for share in relative.values() if share] or [1.0]
        changed = [f"model.{n} {weights[n]:g}, by default {usual[n]:g}" for n in usual if weights[n] != usual[n]]
        warmup = self.schedule_config.warmup_epochs
        warmed_up = f"warmed up over {warmup:g} epochs" if warmup else "without warm-up"
        return [
            *(f"model.{name} is 0" for name, share in relative.items() if share == 0),
            *([f"little works against collapse ({'; '.join(changed)})"] if min(against) < pull / 10 else []),
            f"the learning rate is too high (model.optimizer.lr {self.optimizer_config.lr:g}, {warmed_up})",
        ]

    def check_views(self, number: int) -> None:
        """Refuse a number of views that the objective does not compare.

        Raises:
            ValueError: naming the method and the remedy.
        """
        if number < 2 or (self.max_views is not None and number > self.max_views):
            wanted = "two views" if self.max_views == 2 else "two views or more"
            raise ValueError(f"{type(self).__name__} compares {wanted}, and data.views makes {number}")

    # -------------------------------------------------------------------------------------------------- the networks

    def forward(self, images: Tensor) -> Tensor:
        """Features ``(B, F)`` of normalised images ``(B, C, H, W)``."""
        return self.backbone(images.contiguous(memory_format=self.memory_format))

    def embed(self, views: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Features ``(B, F)`` and embeddings ``(B, D)`` of each view, BatchNorm seeing one view at a time by default.

        With ``views_in_one_batch`` the views of one size share a forward pass; so multi-crop costs one pass a size.
        """
        features: list[Tensor] = []
        embeddings: list[Tensor] = []
        for group in self._groups(views):
            x = self(torch.cat(group) if len(group) > 1 else group[0])
            z = self.projector(x)
            features += x.chunk(len(group))
            embeddings += z.chunk(len(group))
        return features, embeddings

    def _groups(self, views: list[Tensor]) -> Iterator[list[Tensor]]:
        if not self.views_in_one_batch:
            yield from ([view] for view in views)
            return
        start = 0
        for i in range(1, len(views) + 1):
            if i == len(views) or views[i].shape != views[start].shape:
                yield views[start:i]
                start = i

    # ------------------------------------------------------------------------------------------------------ the steps

    def training_step(self, batch: Views, batch_idx: int) -> dict[str, Any]:
        """One step: the objective plus the online classifier's cross entropy on detached features.

        Returns:
            ``loss``, the sum of both; and for whoever watches ``terms``, named scalars, and the detached ``features``
            and ``embeddings`` of the :class:`Objective`.
        """
        self.check_views(len(batch.views))
        objective = self.objective(batch.views)
        total = objective.loss
        self.epoch_means["loss"].update(objective.loss.detach())
        for name in self.loss_terms:
            self.epoch_means[name].update(objective.terms[name].detach())
        if self.classifier is not None:
            logits = [self.classifier(x.detach()) for x in objective.features]
            total = total + self.classifier.loss(logits, batch.label)
            self.epoch_means["online_top1"].update(*self.classifier.hits(logits, batch.label))
        return {
            "loss": total,
            "terms": {"loss": objective.loss.detach(), **objective.terms},
            "features": [x.detach() for x in objective.features],
            "embeddings": [z.detach() for z in objective.embeddings],
        }

    def on_train_epoch_end(self) -> None:
        """Log the epoch's means and forget them."""
        for name, mean in self.epoch_means.items():
            percent = 100 if name.endswith("top1") else 1
            self.log(f"train/{name}", percent * mean.compute(), sync_dist=True)
            mean.reset()

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Online accuracy on clean images; returns features ``(B, F)`` and labels for whoever else watches."""
        features = self(batch.image)
        if self.classifier is not None:
            logits = self.classifier(features)
            for name in ("top1", "top5"):
                if name in self.val_accuracy:
                    self.val_accuracy[name].update(logits, batch.label)
        return {"features": features, "label": batch.label}

    def on_validation_epoch_end(self) -> None:
        """Log ``online/top1`` and ``online/top5`` in percent."""
        if self.classifier is not None:
            for name, metric in self.val_accuracy.items():
                self.log(f"online/{name}", 100 * metric.compute(), sync_dist=True)
                metric.reset()

    # --------------------------------------------------------------------------------------------------- optimisation

    def learnable_modules(self) -> dict[str, nn.Module]:
        """The modules that the objective trains, by name; the online classifier is not one of them."""
        return {"backbone": self.backbone, "projector": self.projector}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups of parameters with their peak learning rates: the learnable modules, and the online classifier."""
        return parameter_groups(
            self.learnable_modules(),
            self.optimizer_config,
            self.batch_size,
            classifier=self.classifier,
            unscheduled=self.unscheduled_modules,
        )

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """One optimiser over all groups."""
        return build_optimizer(self.optimizer_config, self.parameter_groups())

    def on_train_start(self) -> None:
        """The optimiser's options are the configuration's: a checkpoint restores those of the run that wrote it."""
        configured = self.configure_optimizers().param_groups
        for group, options in zip(self.trainer.optimizers[0].param_groups, configured, strict=True):
            group.update({name: value for name, value in options.items() if name not in ("params", "lr")})

    def on_train_batch_start(self, batch: Views, batch_idx: int) -> None:
        """Note where in the run this step is, and set every group's learning rate: nothing that could be lost."""
        total = int(self.trainer.estimated_stepping_batches)
        epochs = self.trainer.max_epochs or 1
        self.progress = Progress(self.trainer.global_step, max(1, total // epochs), total)
        set_learning_rate(self.trainer.optimizers[0], self.schedule_config, **self.progress._asdict())

    def on_after_backward(self) -> None:
        """Drop the gradients of what is frozen at this step."""
        for parameter in self.frozen_parameters():
            parameter.grad = None


def accuracy(num_classes: int, top_k: int) -> MulticlassAccuracy:
    """Top-k accuracy over a validation set, leaving out the unlabelled; a fraction."""
    return MulticlassAccuracy(num_classes, top_k=top_k, average="micro", ignore_index=-1, validate_args=False)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[nn.Module]:
    """The module in eval mode and without gradients, its training mode restored on the way out."""
    modes = {m: m.training for m in module.modules()}
    module.eval()
    try:
        with torch.no_grad():
            yield module
    finally:
        for m, training in modes.items():
            m.training = training

"""What momentum methods share: a target network that follows the online one as an exponential moving average."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from solo_frossl.batch import Batch, Views
from solo_frossl.methods.base import Method, Progress, Ratio, accuracy
from solo_frossl.methods.heads import OnlineClassifier
from solo_frossl.optim import REFERENCE_BATCH, named_groups


@dataclass(frozen=True)
class MomentumConfig:
    """The exponential moving average (EMA) that makes the target network.

    Args:
        base_tau: tau of the first step, in [0, 1]: how much of the target network stays in a step.
        final_tau: tau that a cosine over all steps of the run ends at, in [base_tau, 1].
    """

    base_tau: float = 0.99
    final_tau: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.base_tau <= self.final_tau <= 1:
            raise ValueError(
                f"momentum.base_tau is {self.base_tau} and momentum.final_tau {self.final_tau}:"
                " they must be 0 <= base_tau <= final_tau <= 1"
            )

    def tau(self, progress: Progress) -> float:
        """tau of a step: 1 - (1 - base_tau) (cos(pi k / K) + 1) / 2 for final_tau 1 (Grill et al. 2020, Sec. 3.2).

        >>> MomentumConfig(0.99, 1.0).tau(Progress(step=0, total_steps=100))
        0.99
        """
        return progress.cosine(self.base_tau, self.final_tau)


class MomentumMethod(Method):
    """Base of the methods with a target network: backbone and projector, updated after every optimiser step by

        target <- tau * target + (1 - tau) * online

    Buffers, such as the running statistics of BatchNorm, are the target network's own: it runs in training mode.

    Args:
        momentum: the moving average, tau in Grill et al. 2020, Eq. 1; null for no target network: the online embeddings
            take its place.
        watch_target: also train an online classifier on the target backbone's features, and measure them by k-NN:
            ``online/target_top1`` and ``knn/target_top1``.
    """

    def __init__(
        self, *, momentum: MomentumConfig | None = MomentumConfig(), watch_target: bool = False, **kwargs
    ) -> None:
        super().__init__(**kwargs)
        self.momentum_config = momentum
        self.target_backbone = self.target_projector = self.target_classifier = None
        if momentum:
            self.target_backbone = target_of(self.backbone)
            self.target_projector = target_of(self.projector)
        elif watch_target:
            raise ValueError("model.watch_target is true and model.momentum null: there is no target network to watch")
        if watch_target and self.classifier is not None:
            self.target_classifier = OnlineClassifier(self.classifier.in_features, self.classifier.out_features)
            self.epoch_means["online_target_top1"] = Ratio()
            self.val_accuracy["target_top1"] = accuracy(self.classifier.out_features, 1)
        self._target_features: list[Tensor] = []

    def followed(self) -> list[tuple[nn.Module, nn.Module]]:
        """Pairs of a target module and the online module that it follows."""
        return [(self.target_backbone, self.backbone), (self.target_projector, self.projector)]

    def targets(self, views: Sequence[Tensor], embeddings: Sequence[Tensor]) -> list[Tensor]:
        """Embeddings ``(B, D)`` of views by the target network, without gradient.

        Args:
            views: V tensors ``(B, C, S_v, S_v)``.
            embeddings: those of the online network, of these views first; returned as they are, gradient and all, when
                there is no target network.
        """
        if self.momentum_config is None:
            return list(embeddings[: len(views)])
        with torch.no_grad():
            outputs = [self.target_embed(view) for view in views]
        self._target_features = [features for features, _ in outputs]
        return [z for _, z in outputs]

    def target_embed(self, view: Tensor) -> tuple[Tensor, Tensor]:
        """Features ``(B, F)`` and embeddings ``(B, D)`` of images ``(B, C, S, S)`` by the target network."""
        features = self.target_backbone(view.contiguous(memory_format=self.memory_format))
        return features, self.target_projector(features)

    @torch.no_grad()
    def update_target(self) -> None:
        """Move the target network towards the online one, all parameters in one fused call."""
        if self.momentum_config is None:
            return
        targets, online = [], []
        for target, module in self.followed():
            targets += target.parameters()
            online += module.parameters()
        torch._foreach_lerp_(targets, online, 1 - self.momentum_config.tau(self.progress))

    def collapse_causes(self) -> list[str]:
        """As for every method; before them a target network that is missing, the online one itself, or stands still."""
        config, why = self.momentum_config, None
        if config is None:
            why = "there is no target network (model.momentum is null)"
        elif config.final_tau == 0:
            why = "the target network is the online one of the step before (model.momentum.final_tau is 0)"
        elif config.base_tau == 1:
            why = "the target network stays as it was at random (model.momentum.base_tau is 1)"
        return ([why] if why else []) + super().collapse_causes()

    def optimizer_step(self, *args, **kwargs) -> None:
        """The optimiser's step, then the target's."""
        super().optimizer_step(*args, **kwargs)
        self.update_target()

    # ------------------------------------------------------------------------------------------- watching the target

    def training_step(self, batch: Views, batch_idx: int) -> dict[str, Any]:
        """One step; with ``watch_target`` also the second classifier's."""
        outputs = super().training_step(batch, batch_idx)
        if self.target_classifier is not None:
            logits = [self.target_classifier(x) for x in self._target_features]
            outputs["loss"] = outputs["loss"] + self.target_classifier.loss(logits, batch.label)
            self.epoch_means["online_target_top1"].update(*self.target_classifier.hits(logits, batch.label))
        self._target_features = []
        return outputs

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """As for every method; with ``watch_target`` also ``target_features (B, F)``."""
        outputs = super().validation_step(batch, batch_idx)
        if self.target_classifier is not None:
            features = self.target_backbone(batch.image.contiguous(memory_format=self.memory_format))
            self.val_accuracy["target_top1"].update(self.target_classifier(features), batch.label)
            outputs["target_features"] = features
        return outputs

    def parameter_groups(self) -> list[dict[str, Any]]:
        """As for every method; the second classifier as the first."""
        groups = super().parameter_groups()
        if self.target_classifier is not None:
            config = self.optimizer_config
            groups += named_groups(
                "target classifier",
                self.target_classifier.named_parameters(),
                config,
                peak_lr=config.classifier_lr * self.batch_size / REFERENCE_BATCH,
                weight_decay=config.classifier_weight_decay,
            )
        return groups


def target_of(module: nn.Module) -> nn.Module:
    """A copy of a module that no optimiser trains."""
    return copy.deepcopy(module).requires_grad_(False)

"""Which parameters learn how fast, and the optimiser over them."""

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from solo_frossl.optim.lars import LARS

REFERENCE_BATCH = 256
"""Images of the global batch for which learning rates are given."""


@dataclass(frozen=True)
class OptimizerConfig:
    """Optimiser and peak learning rates, which grow in proportion to the global batch.

    Args:
        name: ``lars``, ``sgd``, ``adam`` (weight decay added to the gradient) or ``adamw`` (decoupled).
        lr: peak learning rate per 256 images of the global batch.
        weight_decay: weight decay of all but the online classifier.
        momentum: momentum of ``lars`` and ``sgd``, in [0, 1).
        eta: trust coefficient of ``lars``: step over weight, in norm, before the learning rate.
        clip_lr: ``lars`` takes no longer steps than ``sgd`` would.
        nesterov: ``lars`` and ``sgd`` look ahead along the momentum.
        betas: decay of the two running means of ``adam`` and ``adamw``, each in [0, 1).
        exclude_bias_and_norm: keep biases and the weights of normalisation layers out of weight decay, and out of the
            adaptation of ``lars``.
        classifier_lr: peak learning rate of the online classifier per 256 images of the global batch.
        classifier_weight_decay: weight decay of the online classifier.

    Raises:
        ValueError: for a value out of its range.
    """

    name: Literal["lars", "sgd", "adam", "adamw"] = "lars"
    lr: float = 0.3
    weight_decay: float = 1e-4
    momentum: float = 0.9
    eta: float = 0.02
    clip_lr: bool = True
    nesterov: bool = False
    betas: tuple[float, float] = (0.9, 0.999)
    exclude_bias_and_norm: bool = True
    classifier_lr: float = 0.1
    classifier_weight_decay: float = 0.0

    def __post_init__(self) -> None:
        if self.name not in ("lars", "sgd", "adam", "adamw"):
            raise ValueError(f"optimizer.name is {self.name!r}: it must be lars, sgd, adam or adamw")
        for name in ("lr", "weight_decay", "classifier_lr", "classifier_weight_decay"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"optimizer.{name} is {getattr(self, name)}: it must be 0 or more, and finite")
        for name, value in (("momentum", self.momentum), ("betas", self.betas[0]), ("betas", self.betas[1])):
            if not 0 <= value < 1:
                raise ValueError(f"optimizer.{name} is {getattr(self, name)}: it must be at least 0 and below 1")
        if not 0 < self.eta < math.inf:
            raise ValueError(f"optimizer.eta is {self.eta}: it must be above 0, and finite")
        if self.nesterov and not self.momentum:
            raise ValueError("optimizer.nesterov needs a momentum above 0")


def exclude_bias_and_norm(name: str, parameter: torch.Tensor) -> bool:
    """Whether a parameter is a bias or belongs to a normalisation layer: these have at most one dimension.

    >>> exclude_bias_and_norm("bn1.weight", torch.ones(64)), exclude_bias_and_norm("fc.weight", torch.ones(10, 64))
    (True, False)
    """
    return parameter.ndim <= 1 or name.endswith(".bias")


def parameter_groups(
    modules: Mapping[str, nn.Module],
    config: OptimizerConfig,
    batch_size: int,
    classifier: nn.Module | None = None,
    unscheduled: Collection[str] = (),
) -> list[dict[str, Any]]:
    """Groups for :func:`build_optimizer`: what the objective trains, and the online classifier.

    Args:
        modules: the modules that the objective trains, by name.
        config: learning rates and weight decay.
        batch_size: images of the global batch; learning rates are multiplied by ``batch_size / 256``.
        classifier: online classifier, with a learning rate and weight decay of its own; None for none.
        unscheduled: those of the modules whose learning rate stays at its peak.

    Returns:
        ``main``, ``unscheduled`` and ``classifier``, and each again as ``... excluded``, those that have parameters.
    """
    scale = batch_size / REFERENCE_BATCH
    groups = []
    for name, scheduled in (("main", True), ("unscheduled", False)):
        keys = [key for key in modules if (key not in unscheduled) == scheduled]
        named = [(f"{key}.{name}", p) for key in keys for name, p in modules[key].named_parameters()]
        groups += named_groups(
            name, named, config, peak_lr=config.lr * scale, weight_decay=config.weight_decay, scheduled=scheduled
        )
    if classifier is not None:
        groups += named_groups(
            "classifier",
            classifier.named_parameters(),
            config,
            peak_lr=config.classifier_lr * scale,
            weight_decay=config.classifier_weight_decay,
        )
    return groups


def named_groups(
    name: str,
    named_parameters: Iterable[tuple[str, nn.Parameter]],
    config: OptimizerConfig,
    *,
    peak_lr: float,
    weight_decay: float,
    scheduled: bool = True,
) -> list[dict[str, Any]]:
    """One group, or two when biases and norms are kept apart; frozen parameters are left out, shared ones come once.

    Args:
        name: name of the group; the other one is called ``<name> excluded``.
        named_parameters: parameters with their names.
        config: says whether biases and norms are excluded.
        peak_lr: learning rate after warm-up, already scaled by the batch size.
        weight_decay: weight decay of what is not excluded.
        scheduled: false keeps the learning rate at its peak throughout, as for SimSiam's predictor.
    """
    trainable = {parameter: key for key, parameter in named_parameters if parameter.requires_grad}
    excluded = [p for p, key in trainable.items() if config.exclude_bias_and_norm and exclude_bias_and_norm(key, p)]
    apart = set(excluded)
    common = {"lr": peak_lr, "peak_lr": peak_lr, "scheduled": scheduled}
    groups = [
        {
            "name": name,
            "params": [p for p in trainable if p not in apart],
            "weight_decay": weight_decay,
            "adapt": True,
            **common,
        },
        {"name": f"{name} excluded", "params": excluded, "weight_decay": 0.0, "adapt": False, **common},
    ]
    return [group for group in groups if group["params"]]


def build_optimizer(config: OptimizerConfig, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """The optimiser over groups of :func:`parameter_groups` or :func:`named_groups`.

    Raises:
        ValueError: if there is nothing to train.
    """
    if not groups:
        raise ValueError("there is nothing to train: every parameter is frozen")
    if config.name == "lars":
        return LARS(
            groups,
            config.lr,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            eta=config.eta,
            clip_lr=config.clip_lr,
            nesterov=config.nesterov,
        )
    if config.name == "sgd":
        return torch.optim.SGD(groups, config.lr, momentum=config.momentum, nesterov=config.nesterov)
    adam = torch.optim.Adam if config.name == "adam" else torch.optim.AdamW
    return adam(groups, config.lr, betas=config.betas)

"""Optimisers by configuration, over groups of parameters that each have a peak learning rate of their own."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from solo_frossl.optim.lars import LARS


@dataclass(frozen=True)
class OptimizerConfig:
    """Optimiser and its peak learning rates; the defaults are what the papers' tables have in common.

    Args:
        name: ``lars``, ``sgd``, ``adam`` or ``adamw``.
        lr: peak learning rate per 256 images of the global batch.
        weight_decay: L2 penalty (``adamw``: decoupled).
        momentum: of ``lars`` and ``sgd``.
        nesterov: Nesterov momentum, of ``lars`` and ``sgd``.
        eta: trust coefficient of ``lars``.
        clip_lr: ``lars`` never raises a tensor's rate above the learning rate.
        exclude_bias_and_norm: leave biases and normalisation layers out of weight decay and of ``lars``'s scaling.
        classifier_lr: peak learning rate of the online classifier per 256 images of the global batch.
        classifier_weight_decay: L2 penalty on the online classifier.
    """

    name: Literal["lars", "sgd", "adam", "adamw"] = "lars"
    lr: float = 0.3
    weight_decay: float = 1e-4
    momentum: float = 0.9
    nesterov: bool = False
    eta: float = 0.02
    clip_lr: bool = True
    exclude_bias_and_norm: bool = True
    classifier_lr: float = 0.1
    classifier_weight_decay: float = 0.0

    def __post_init__(self) -> None:
        for name in ("lr", "weight_decay", "eta", "classifier_lr", "classifier_weight_decay"):
            if getattr(self, name) < 0:
                raise ValueError(f"optimizer.{name} is {getattr(self, name)}: it must be at least 0")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"optimizer.momentum is {self.momentum}: it must be at least 0 and below 1")


def is_bias_or_norm(parameter: Tensor) -> bool:
    """Biases, and scales of normalisation layers: whatever has one dimension or none."""
    return parameter.ndim <= 1


def parameter_groups(
    modules: Mapping[str, nn.Module], config: OptimizerConfig, batch_size: int, classifier: nn.Module | None = None
) -> list[dict[str, Any]]:
    """Groups of all trainable parameters: the modules', their biases and norms apart, and the online classifier's.

    A group holds, beside what its optimiser takes, ``name``, ``peak_lr`` (scaled by ``batch_size / 256``) and
    ``scheduled``; a method can add groups of its own.

    Args:
        modules: modules that the objective trains, by name.
        config: the optimiser.
        batch_size: images of all processes together per step.
        classifier: the online classifier, which is never scaled by LARS.

    Raises:
        ValueError: no module has a trainable parameter.
    """
    weights: list[Tensor] = []
    excluded: list[Tensor] = []
    for module in modules.values():
        for parameter in module.parameters():
            if parameter.requires_grad:
                out = config.exclude_bias_and_norm and is_bias_or_norm(parameter)
                (excluded if out else weights).append(parameter)
    if not weights and not excluded:
        raise ValueError(f"none of the modules {', '.join(modules) or '(none)'} has a trainable parameter")
    groups = [
        _group("weights", weights, config.lr, config.weight_decay, adapt=True, batch_size=batch_size),
        _group("biases and norms", excluded, config.lr, 0.0, adapt=False, batch_size=batch_size),
    ]
    if classifier is not None:
        own = list(classifier.parameters())
        decay = config.classifier_weight_decay
        groups.append(_group("classifier", own, config.classifier_lr, decay, adapt=False, batch_size=batch_size))
    return [group for group in groups if group["params"]]


def _group(
    name: str, params: list[Tensor], lr: float, weight_decay: float, *, adapt: bool, batch_size: int
) -> dict[str, Any]:
    peak = lr * batch_size / 256
    return {
        "name": name,
        "params": params,
        "lr": peak,
        "peak_lr": peak,
        "scheduled": True,
        "weight_decay": weight_decay,
        "adapt": adapt,
    }


def build_optimizer(config: OptimizerConfig, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """The configured optimiser over groups of :func:`parameter_groups`.

    Args:
        config: the optimiser.
        groups: each with its own ``lr`` and ``weight_decay``.
    """
    if config.name == "lars":
        return LARS(
            groups,
            config.lr,
            momentum=config.momentum,
            eta=config.eta,
            clip_lr=config.clip_lr,
            nesterov=config.nesterov,
        )
    if config.name == "sgd":
        return torch.optim.SGD(groups, config.lr, momentum=config.momentum, nesterov=config.nesterov)
    optimizer = torch.optim.Adam if config.name == "adam" else torch.optim.AdamW
    return optimizer(groups, config.lr)

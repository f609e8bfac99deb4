"""The learning rate as a function of the step alone: resuming needs no state, and groups cannot interfere."""

import math
from dataclasses import dataclass, field
from typing import Literal

from torch.optim import Optimizer


@dataclass(frozen=True)
class ScheduleConfig:
    """Learning rate over the run; every parameter group has its own peak.

    Args:
        name: ``warmup_cosine``, one cosine from the peak to ``final_lr``; ``step``, multiplied by ``gamma`` at each of
            ``milestones``; ``warm_restarts``, a cosine that starts again every ``restart_epochs``; ``constant``. All of
            them warm up.
        warmup_epochs: epochs of linear warm-up to the peak, fractions allowed, 0 for none.
        warmup_start_lr: learning rate of the first step when there is a warm-up.
        final_lr: learning rate at which each cosine ends.
        milestones: epochs of ``step``, from 0.
        gamma: factor of ``step``.
        restart_epochs: period of ``warm_restarts`` in epochs.
    """

    name: Literal["warmup_cosine", "step", "warm_restarts", "constant"] = "warmup_cosine"
    warmup_epochs: float = 10.0
    warmup_start_lr: float = 3e-5
    final_lr: float = 0.0
    milestones: list[int] = field(default_factory=list)
    gamma: float = 0.1
    restart_epochs: float = 15.0

    def __post_init__(self) -> None:
        for name in ("warmup_epochs", "warmup_start_lr", "final_lr", "gamma"):
            if getattr(self, name) < 0:
                raise ValueError(f"schedule.{name} is {getattr(self, name)}: it must be at least 0")
        if self.restart_epochs <= 0:
            raise ValueError(f"schedule.restart_epochs is {self.restart_epochs}: it must be above 0")
        if any(m < 0 for m in self.milestones) or list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"schedule.milestones is {self.milestones}: epochs from 0, each later than the one before")


def learning_rate(config: ScheduleConfig, peak: float, step: int, steps_per_epoch: int, total_steps: int) -> float:
    """Learning rate of one step.

    With w = warmup_epochs * steps_per_epoch steps of warm-up, step t < w has

        warmup_start_lr + (peak - warmup_start_lr) t / w,

    which never passes the peak, whatever fraction w is. From w on a cosine runs to ``final_lr``, which it would reach
    at step ``total_steps``, one after the last:

        final_lr + (peak - final_lr) (1 + cos(pi (t - w) / (total_steps - w))) / 2.

    Args:
        config: the schedule.
        peak: learning rate of the group after warm-up.
        step: optimiser steps taken before this one, from 0.
        steps_per_epoch: optimiser steps of an epoch.
        total_steps: optimiser steps of the run.

    >>> config = ScheduleConfig(warmup_epochs=2, warmup_start_lr=0.0)
    >>> [round(learning_rate(config, 1.0, t, steps_per_epoch=2, total_steps=12), 3) for t in (0, 2, 4, 8, 12)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    warmup = config.warmup_epochs * steps_per_epoch
    if step < warmup:
        return config.warmup_start_lr + (peak - config.warmup_start_lr) * step / warmup
    if config.name == "constant":
        return peak
    if config.name == "step":
        return peak * config.gamma ** sum(step >= epoch * steps_per_epoch for epoch in config.milestones)
    if config.name == "warm_restarts":
        period = config.restart_epochs * steps_per_epoch
        return _cosine(config, peak, (step - warmup) % period / period)
    return _cosine(config, peak, min(1.0, (step - warmup) / max(1.0, total_steps - warmup)))


def _cosine(config: ScheduleConfig, peak: float, progress: float) -> float:
    return config.final_lr + (peak - config.final_lr) * (1 + math.cos(math.pi * progress)) / 2


def set_learning_rate(
    optimizer: Optimizer, config: ScheduleConfig, *, step: int, steps_per_epoch: int, total_steps: int
) -> None:
    """Write the learning rate of one step into every group; one with ``scheduled: False`` keeps its peak.

    Args:
        optimizer: with groups as :func:`solo_frossl.optim.parameter_groups` makes them.
        config: the schedule.
        step: optimiser steps taken before this one, from 0.
        steps_per_epoch: optimiser steps of an epoch.
        total_steps: optimiser steps of the run.
    """
    for group in optimizer.param_groups:
        peak = group["peak_lr"]
        scheduled = group.get("scheduled", True)
        group["lr"] = learning_rate(config, peak, step, steps_per_epoch, total_steps) if scheduled else peak

"""The learning rate as a closed form of the step: nothing to save, nothing to lose."""

import math
from dataclasses import dataclass, field
from typing import Literal

import torch


@dataclass(frozen=True)
class ScheduleConfig:
    """Learning rate over the run: a linear warm-up, then what `name` says, each parameter group from its own peak.

    Args:
        name: ``warmup_cosine`` falls along half a cosine to `final_lr` at the end of the run; ``step`` multiplies by
            `gamma` at each milestone; ``warm_restarts`` repeats the cosine every `restart_epochs`; ``constant`` stays.
        warmup_epochs: length of the warm-up in epochs, also a fraction; 0 for none.
        warmup_start_lr: learning rate of the first step of the warm-up, not scaled by the batch size.
        final_lr: learning rate that the cosines fall to, not scaled by the batch size.
        milestones: for ``step``, epochs from the start of the run after which the learning rate drops, ascending.
        gamma: for ``step``, factor at each milestone.
        restart_epochs: for ``warm_restarts``, epochs between restarts, the first counted from the end of the warm-up.

    Raises:
        ValueError: for a value out of its range.
    """

    name: Literal["warmup_cosine", "step", "warm_restarts", "constant"] = "warmup_cosine"
    warmup_epochs: float = 10.0
    warmup_start_lr: float = 3e-5
    final_lr: float = 0.0
    milestones: list[int] = field(default_factory=list)
    gamma: float = 0.1
    restart_epochs: float = 15.0

    def __post_init__(self) -> None:
        if self.name not in ("warmup_cosine", "step", "warm_restarts", "constant"):
            raise ValueError(
                f"schedule.name is {self.name!r}: it must be warmup_cosine, step, warm_restarts or constant"
            )
        for name in ("warmup_epochs", "warmup_start_lr", "final_lr", "gamma"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"schedule.{name} is {getattr(self, name)}: it must be 0 or more, and finite")
        if not 0 < self.restart_epochs < math.inf:
            raise ValueError(f"schedule.restart_epochs is {self.restart_epochs}: it must be above 0, and finite")
        if list(self.milestones) != sorted(set(self.milestones)) or any(m < 0 for m in self.milestones):
            raise ValueError(f"schedule.milestones is {self.milestones}: epochs must ascend from 0 or more")


def learning_rate(config: ScheduleConfig, peak: float, step: int, steps_per_epoch: int, total_steps: int) -> float:
    """Learning rate of one step.

    Step 0 of a warm-up has `warmup_start_lr`, and the first step at or after `warmup_epochs` is on the schedule, which
    starts at the peak. ``warmup_cosine`` reaches `final_lr` at ``total_steps``, one step after the last, so that even
    the last one learns. A peak below `warmup_start_lr` or `final_lr` takes their place.

    Args:
        config: the schedule.
        peak: the group's learning rate after warm-up, already scaled by the batch size.
        step: optimiser steps taken so far, from 0; from ``total_steps`` on, the cosine stays at its end.
        steps_per_epoch: optimiser steps in an epoch.
        total_steps: optimiser steps of the whole run.

    >>> config = ScheduleConfig(warmup_epochs=1, warmup_start_lr=0.0)
    >>> [learning_rate(config, 1.0, step, steps_per_epoch=2, total_steps=6) for step in (0, 1, 2, 4, 6)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    warmup = config.warmup_epochs * steps_per_epoch
    if step < warmup:
        return _between(min(config.warmup_start_lr, peak), peak, step / warmup)
    if config.name == "constant":
        return peak
    if config.name == "step":
        return peak * config.gamma ** sum(step >= milestone * steps_per_epoch for milestone in config.milestones)
    if config.name == "warm_restarts":
        progress = (step - warmup) / (config.restart_epochs * steps_per_epoch) % 1
    else:
        progress = min(1.0, (step - warmup) / (total_steps - warmup)) if total_steps > warmup else 1.0
    return _between(peak, min(config.final_lr, peak), (1 - math.cos(math.pi * progress)) / 2)


def set_learning_rate(
    optimizer: torch.optim.Optimizer, config: ScheduleConfig, *, step: int, steps_per_epoch: int, total_steps: int
) -> None:
    """Write the learning rate of one step into every group of :func:`~solo_frossl.optim.parameter_groups`.

    A group starts from its own ``peak_lr``; one with ``scheduled=False`` keeps it. Arguments as `learning_rate`.
    """
    for group in optimizer.param_groups:
        peak = group["peak_lr"]
        scheduled = group["scheduled"]
        group["lr"] = learning_rate(config, peak, step, steps_per_epoch, total_steps) if scheduled else peak


def _between(start: float, end: float, fraction: float) -> float:
    return start + (end - start) * fraction

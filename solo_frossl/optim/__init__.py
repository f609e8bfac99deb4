"""Optimisers, parameter groups, and the learning rate as a closed-form function of the step."""

from solo_frossl.optim.build import OptimizerConfig, build_optimizer, is_bias_or_norm, parameter_groups
from solo_frossl.optim.lars import LARS
from solo_frossl.optim.schedule import ScheduleConfig, learning_rate, set_learning_rate

__all__ = [
    "LARS",
    "OptimizerConfig",
    "ScheduleConfig",
    "build_optimizer",
    "is_bias_or_norm",
    "learning_rate",
    "parameter_groups",
    "set_learning_rate",
]

"""LARS, parameter groups, and the learning rate as a closed form of the step."""

from solo_frossl.optim.groups import (
    REFERENCE_BATCH,
    OptimizerConfig,
    build_optimizer,
    exclude_bias_and_norm,
    named_groups,
    parameter_groups,
)
from solo_frossl.optim.lars import LARS
from solo_frossl.optim.schedule import ScheduleConfig, learning_rate, set_learning_rate

__all__ = [
    "LARS",
    "REFERENCE_BATCH",
    "OptimizerConfig",
    "ScheduleConfig",
    "build_optimizer",
    "exclude_bias_and_norm",
    "learning_rate",
    "named_groups",
    "parameter_groups",
    "set_learning_rate",
]

"""Ranges of hyperparameters, checked as a method is built; what is wrong is named by its full key."""

import math


def above_zero(**values: float) -> None:
    """Refuse values that are not above 0 and finite.

    Args:
        values: by the name of the constructor's argument.

    Raises:
        ValueError: naming key, value and range.

    >>> above_zero(temperature=-0.1)
    Traceback (most recent call last):
    ValueError: model.temperature is -0.1: it must be above 0, and finite
    """
    _check(lambda value: 0 < value < math.inf, "above 0, and finite", values)


def at_least(least: int, **values: float) -> None:
    """Refuse values below `least`, and such as are not finite. Arguments and errors as for :func:`above_zero`."""
    _check(lambda value: least <= value < math.inf, f"{least} or more, and finite", values)


def below_one(**values: float) -> None:
    """Refuse values outside [0, 1). Arguments and errors as for :func:`above_zero`."""
    _check(lambda value: 0 <= value < 1, "at least 0 and below 1", values)


def up_to_one(**values: float) -> None:
    """Refuse values outside [0, 1]. Arguments and errors as for :func:`above_zero`."""
    _check(lambda value: 0 <= value <= 1, "from 0 to 1", values)


def _check(valid, expected: str, values: dict[str, float]) -> None:
    for name, value in values.items():
        if not valid(value):  # NaN is in no range
            raise ValueError(f"model.{name} is {value}: it must be {expected}")

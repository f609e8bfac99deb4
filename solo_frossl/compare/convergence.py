"""How fast a curve rises: pure functions of lists of numbers, no run needed.

A curve is a list of measurements ``values`` (percent, say) at increasing ``positions``: epochs trained, counted from 1,
or seconds of training since the start. Between two measurements it is the straight line that joins them; before the
first and after the last one nothing is known. Measurements that are not finite count as not made.
"""

import math
import statistics
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple


class Spread(NamedTuple):
    """Numbers of several seeds in two.

    Attributes:
        mean: their mean.
        deviation: their sample standard deviation (divided by n - 1); None for a single number.
        count: how many they are.
    """

    mean: float
    deviation: float | None
    count: int


def spread(values: Sequence[float]) -> Spread | None:
    """Mean and sample standard deviation of the finite ones among some numbers; None if there are none.

    >>> spread([1.0, 3.0])
    Spread(mean=2.0, deviation=1.4142135623730951, count=2)
    >>> spread([5.0, math.nan])
    Spread(mean=5.0, deviation=None, count=1)
    """
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return None
    deviation = statistics.stdev(finite) if len(finite) > 1 else None
    return Spread(statistics.fmean(finite), deviation, len(finite))


def position_to_reach(positions: Sequence[float], values: Sequence[float], target: float) -> float | None:
    """Where a curve is at or above a value for the first time.

    Args:
        positions: where it was measured, increasing; epochs trained or seconds.
        values: what was measured there.
        target: the value to reach.

    Returns:
        The position, by linear interpolation between the last measurement below the target and the first one at or
        above it; the first position if the curve starts there, which is then an upper bound; None if it never gets
        there.

    >>> position_to_reach([1, 2, 3], [10.0, 30.0, 20.0], 25.0)
    1.75
    >>> position_to_reach([1, 2, 3], [10.0, 30.0, 20.0], 31.0) is None
    True
    """
    points = _finite(positions, values)
    for (left, low), (right, high) in zip([points[0], *points] if points else [], points, strict=False):
        if high >= target:
            return right if low >= target else left + (right - left) * (target - low) / (high - low)
    return None


def mean_height(positions: Sequence[float], values: Sequence[float], start: float, end: float) -> float | None:
    """Area under a curve between two positions, divided by their distance: the curve's mean height there.

    The area is that of the straight lines between the measurements (trapezoidal rule).

    Args:
        positions: where it was measured, increasing.
        values: what was measured there.
        start: where the area begins.
        end: where it ends; with ``start`` the same, the height there is returned.

    Returns:
        The mean height, in the unit of ``values``; None where the curve was not measured from ``start`` to ``end``.

    >>> mean_height([1, 2, 4], [0.0, 10.0, 30.0], 1, 4)
    15.0
    >>> mean_height([1, 2, 4], [0.0, 10.0, 30.0], 3, 3)
    20.0
    """
    points = _finite(positions, values)
    if not points or start < points[0][0] or end > points[-1][0] or end < start:
        return None
    if start == end:
        return _height(points, start)
    inner = [(x, y) for x, y in points if start < x < end]
    corners = [(start, _height(points, start)), *inner, (end, _height(points, end))]
    area = sum((x2 - x1) * (y1 + y2) / 2 for (x1, y1), (x2, y2) in pairwise(corners))
    return area / (end - start)


def round_targets(first: float, best: float, at_most: int = 5) -> list[float]:
    """Round values that a comparison can ask for: multiples of 1, 2, 5, 10 or 20 above ``first`` and up to ``best``.

    Args:
        first: what every curve has from its first measurement on.
        best: the highest that any curve reaches.
        at_most: how many there may be; the finest step that gives no more is taken.

    >>> round_targets(18.3, 41.3)
    [20.0, 25.0, 30.0, 35.0, 40.0]
    >>> round_targets(30.0, 30.4)
    []
    """
    targets: list[float] = []
    for step in (1, 2, 5, 10, 20):
        targets = [float(step * n) for n in range(math.floor(first / step) + 1, math.floor(best / step) + 1)]
        if len(targets) <= at_most:
            break
    return targets[-at_most:]


def spread_epochs(last: int, at_most: int = 6) -> list[int]:
    """Epochs to put in a table for a training of so many: all if they are few, else about evenly spread on a
    logarithmic scale, and the last one.

    >>> spread_epochs(14)
    [1, 2, 5, 10, 14]
    >>> spread_epochs(1000)
    [3, 10, 30, 100, 300, 1000]
    """
    if last <= at_most:
        return list(range(1, last + 1))
    for digits in ((1, 2, 5), (1, 3)):
        epochs = [m * 10**d for d in range(len(str(last))) for m in digits if m * 10**d < last]
        if len(epochs) < at_most:
            break
    return [*epochs[-(at_most - 1) :], last]


def _finite(positions: Sequence[float], values: Sequence[float]) -> list[tuple[float, float]]:
    pairs = zip(positions, values, strict=True)
    return [(x, y) for x, y in pairs if math.isfinite(x) and math.isfinite(y)]


def _height(points: Sequence[tuple[float, float]], at: float) -> float:
    """Height of the line through the points, which reach from before ``at`` to behind it."""
    for (x1, y1), (x2, y2) in pairwise(points):
        if x1 <= at <= x2:
            return y1 + (y2 - y1) * (at - x1) / (x2 - x1)
    return points[0][1]

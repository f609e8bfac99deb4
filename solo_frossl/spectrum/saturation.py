"""When an eigenvalue has been learned: the step from which it stays level."""

from collections.abc import Sequence

import numpy as np


def saturation_step(
    steps: Sequence[int],
    values: Sequence[float],
    *,
    tolerance: float = 0.1,
    away: float = 0.5,
    plateau: float = 0.2,
    window: int = 5,
) -> int | None:
    """The step at which a curve saturates, as the 14th eigenvalue in FroSSL's Fig. 3, which does not say how.

    The curve's level is the median of its values in the last fifth (`plateau`) of all steps so far. The curve, smoothed
    by a running median of `window` values, saturates when it comes to within 10 % (`tolerance`) of its level and is
    never again off it by more than 50 % (`away`). It must have risen to it, from less than half: an eigenvalue that
    only fell, or never moved, has not been learned. And it must have been there for a fifth of all steps: a curve that
    grows in proportion to the steps does not saturate.

    So neither noise nor outliers move it, nor does the unit of the values. It is a function of the curve so far: while
    a run trains, it can come, move and go.

    Args:
        steps: increasing, R of them.
        values: R values, 0 or more.
        tolerance: distance from the level that is as good as there, relative to it.
        away: distance from the level that is no noise, relative to it.
        plateau: share of the steps so far.
        window: values that the running median is taken of, fewer at the ends; odd.

    Returns:
        One of `steps`; None if the curve has not saturated, or if the last fifth of the steps has fewer than `window`
        values.

    >>> saturation_step(range(0, 300, 10), [1, 2, 4, 8] + 26 * [16])
    40
    """
    curve, when = np.asarray(values, dtype=float), np.asarray(steps)
    last = when[-1] if len(when) else 0
    settled = curve[when >= (1 - plateau) * last]
    if len(settled) < window:
        return None
    level = np.median(settled)
    padded = np.pad(curve, window // 2, constant_values=np.nan)
    smooth = np.nanmedian(np.lib.stride_tricks.sliding_window_view(padded, window), axis=1)
    distance = np.abs(smooth - level)
    far = np.flatnonzero(distance > away * level)
    candidates = np.flatnonzero(distance <= tolerance * level)
    there = candidates[candidates > (far[-1] if len(far) else -1)]
    if not len(there) or last - when[there[0]] < plateau * last:
        return None
    return int(when[there[0]]) if smooth[: there[0] + 1].min() < (1 - away) * level else None

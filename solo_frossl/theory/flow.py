"""Gradient descent on real weights, and the differential equations that it follows as its steps become small."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

_FARTHEST = 1e9
"""Times its start is where a solution is taken to run away."""
Weights = tuple[Tensor, ...]
"""The matrices of a network, ``(..., rows, columns)`` float64; what stands before the last two dimensions is seeds."""


@dataclass(frozen=True)
class Trajectory:
    """Something that changes in time.

    Attributes:
        time: ``(T,)``; for gradient descent the learning rate times the steps done.
        values: ``(T, ...)``.
    """

    time: np.ndarray
    values: np.ndarray

    def at(self, time: float | np.ndarray) -> np.ndarray:
        """Values at times between the first and the last one, linear in between: ``(*time.shape, ...)``.

        Raises:
            ValueError: a time outside.
        """
        time = np.asarray(time, dtype=np.float64)
        if time.size and (time.min() < self.time[0] - 1e-12 or time.max() > self.time[-1] * (1 + 1e-12) + 1e-12):
            raise ValueError(
                f"times {time.min():g} to {time.max():g} are asked for, and {self.time[0]:g} to {self.time[-1]:g} known"
            )
        flat = self.values.reshape(len(self.time), -1)
        columns = [np.interp(time, self.time, column) for column in flat.T]
        return np.stack(columns, axis=-1).reshape(*time.shape, *self.values.shape[1:])


def descend(
    loss: Callable[..., Tensor],
    weights: Sequence[Tensor],
    *,
    learning_rate: float,
    steps: int,
    observe: Callable[..., Tensor],
    every: int = 1,
    retract: Callable[[Weights, Weights, float], Weights] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Trajectory:
    """Plain full-batch gradient descent, all seeds at once.

    Args:
        loss: ``loss(*weights)``: ``(...)`` losses, one a seed.
        weights: what to start from; they are not changed.
        learning_rate: above 0.
        steps: 0 or more.
        observe: ``observe(*weights)``: what to keep of a moment; before the first step, every `every` steps, and after
            the last one.
        every: steps between two observations.
        retract: ``retract(weights, gradients, learning_rate)``: the next weights, for those that are constrained; by
            default ``weights - learning_rate * gradients``.
        progress: told of every step done.

    Returns:
        What was observed, at times ``learning_rate * step``.

    Raises:
        ValueError: the learning rate, steps or every are out of range, or the weights have become infinite or NaN.
    """
    if not learning_rate > 0:
        raise ValueError(f"learning_rate is {learning_rate}: it must be above 0")
    if steps < 0 or every < 1:
        raise ValueError(f"steps is {steps} and every {every}: they must be at least 0 and 1")
    now = tuple(w.detach().clone().double() for w in weights)
    times, seen = [], []
    for step in range(steps + 1):
        if step % every == 0 or step == steps:
            if not all(bool(torch.isfinite(w).all()) for w in now):
                raise ValueError(
                    f"gradient descent has diverged by step {step}: take a learning rate below {learning_rate:g}"
                )
            times.append(learning_rate * step)
            seen.append(observe(*now).detach().cpu().numpy())
        if step == steps:
            break
        leaves = [w.requires_grad_() for w in now]
        gradients = torch.autograd.grad(loss(*leaves).sum(), leaves)
        with torch.no_grad():
            if retract is None:
                now = tuple(w.detach() - learning_rate * g for w, g in zip(leaves, gradients, strict=True))
            else:
                now = retract(tuple(w.detach() for w in leaves), gradients, learning_rate)
        if progress is not None:
            progress(1)
    return Trajectory(np.array(times), np.stack(seen))


def integrate(
    rate: Callable[[np.ndarray], np.ndarray], start: np.ndarray, times: Sequence[float] | np.ndarray
) -> Trajectory:
    """Solve dy/dt = rate(y) from time 0 by SciPy's LSODA, to a relative error of about 1e-9.

    Args:
        rate: from ``start``'s shape to the same shape.
        start: ``(...)`` values at time 0.
        times: increasing, 0 or more; when the solution is wanted.

    Raises:
        ValueError: the times do not increase from 0 or later, or the solution runs away before the last of them.
    """
    start, times = np.asarray(start, dtype=np.float64), np.asarray(times, dtype=np.float64)
    if times.ndim != 1 or not len(times) or times[0] < 0 or (np.diff(times) <= 0).any():
        raise ValueError(f"times must increase and begin at 0 or later, got {times}")
    if times[-1] == 0:
        return Trajectory(times, start[None].copy())
    farthest = _FARTHEST * max(1.0, np.abs(start).max())

    def runs_away(_: float, y: np.ndarray) -> float:
        return np.abs(y).max() - farthest

    runs_away.terminal = True
    solution = solve_ivp(
        lambda _, y: rate(y.reshape(start.shape)).ravel(),
        (0.0, float(times[-1])),
        start.ravel(),
        method="LSODA",
        t_eval=times,
        events=runs_away,
        rtol=1e-9,
        atol=1e-12,
    )
    if len(solution.t) < len(times) or not np.isfinite(solution.y).all():
        reached = solution.t[-1] if len(solution.t) else 0.0
        raise ValueError(f"the differential equation cannot be followed beyond time {reached:g}: {solution.message}")
    return Trajectory(times, solution.y.T.reshape(len(times), *start.shape))

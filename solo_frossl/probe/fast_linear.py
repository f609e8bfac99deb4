"""The linear probe in seconds: a classifier fitted on features extracted once, its L2 penalty chosen by a sweep.

Both objectives are convex, so their solution is a function of features and penalty alone; no learning rate and no
number of epochs has a part in it. Where :func:`~solo_frossl.probe.linear_probe` differs, its training has not ended:
features of small variance, as those of an untrained network, learn little in 100 epochs at its learning rate.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import minimize
from torch import Tensor, nn

from solo_frossl.data.splits import stratified_sample
from solo_frossl.probe.features import Features
from solo_frossl.probe.linear import LinearResult, evaluate_linear
from solo_frossl.seeding import generator

_CHUNK = 16384
"""Rows whose scores are computed at a time."""
_EQUAL = 1.001
"""Held-out losses that differ by less than this factor are taken to be equal; then the strongest penalty is chosen."""
_PATIENCE = 2
"""Penalties in a row, each weaker than the one before, without a lower held-out loss, after which `lbfgs` ends."""


@dataclass(frozen=True)
class FastLinearConfig:
    """The linear probe on features extracted once.

    Args:
        solver: ``lbfgs`` (multinomial logistic regression) or ``ridge`` (least squares on one-hot targets, in closed
            form; quickest, and often a few points lower).
        penalty: weight of the L2 penalty, above 0; none given: the best of ``penalties``.
        penalty_range: least and most penalty that are tried.
        penalties: how many are tried, evenly spread on a logarithmic scale.
        held_out: part of the labelled training images on which the penalty is chosen, every class keeping its share.
        tolerance: ``lbfgs`` ends when no entry of the gradient is larger; ten times as large in the sweep.
        max_iterations: most iterations of ``lbfgs`` for a penalty.
        precision: of all arithmetic; float32 halves the memory, which is up to three copies of the features in it.

    Raises:
        ValueError: for a value out of its range.
    """

    solver: Literal["lbfgs", "ridge"] = "lbfgs"
    penalty: float | None = None
    penalty_range: tuple[float, float] = (1e-6, 10.0)
    penalties: int = 15
    held_out: float = 0.2
    tolerance: float = 1e-5
    max_iterations: int = 1000
    precision: Literal["float64", "float32"] = "float64"

    def __post_init__(self) -> None:
        if self.solver not in ("lbfgs", "ridge"):
            raise ValueError(f"fast.solver is {self.solver!r}: it must be lbfgs or ridge")
        if self.penalty is not None and not 0 < self.penalty < math.inf:
            raise ValueError(f"fast.penalty is {self.penalty}: it must be above 0, and finite")
        least, most = self.penalty_range
        if not 0 < least < most < math.inf:
            raise ValueError(f"fast.penalty_range is {self.penalty_range}: it must be least < most, both above 0")
        if self.penalties < 2:
            raise ValueError(f"fast.penalties is {self.penalties}: it must be at least 2; fast.penalty tries only one")
        if not 0 < self.held_out < 1:
            raise ValueError(f"fast.held_out is {self.held_out}: it must be above 0 and below 1")
        if not self.tolerance > 0:
            raise ValueError(f"fast.tolerance is {self.tolerance}: it must be above 0")
        if self.max_iterations < 1:
            raise ValueError(f"fast.max_iterations is {self.max_iterations}: it must be at least 1")
        if self.precision not in ("float64", "float32"):
            raise ValueError(f"fast.precision is {self.precision!r}: it must be float64 or float32")

    def grid(self) -> list[float]:
        """The penalties that are tried, the strongest first.

        >>> FastLinearConfig(penalty_range=(0.01, 100.0), penalties=3).grid()
        [100.0, 1.0, 0.01]
        """
        least, most = (math.log10(end) for end in self.penalty_range)
        return [float(f"{10**x:.4g}") for x in np.linspace(most, least, self.penalties)]


@dataclass(frozen=True)
class Trial:
    """What one penalty of a sweep reached.

    Args:
        penalty: weight of the L2 penalty.
        top1: percent of the held-out training images.
        loss: mean loss of the held-out images without the penalty, by which the penalty is chosen.
        iterations: of ``lbfgs``; 0 for ``ridge``.
        converged: whether ``lbfgs`` met its tolerance.
    """

    penalty: float
    top1: float
    loss: float
    iterations: int
    converged: bool


@dataclass(frozen=True)
class FastLinearResult(LinearResult):
    """A :class:`~solo_frossl.probe.LinearResult`, with the penalty and how it was chosen.

    Args:
        protocol: ``lbfgs`` or ``ridge``.
        penalty: weight of the L2 penalty that the classifier was fitted with on all training images.
        num_held_out: training images that the penalty was chosen on; 0 where it was given.
        sweep: the penalties tried, the strongest first; empty where it was given.
        warning: what to know before believing the numbers, such as a penalty at the end of the range; None for nothing.
    """

    protocol: str
    penalty: float
    num_held_out: int
    sweep: list[Trial]
    warning: str | None


class Fit(NamedTuple):
    """A fitted classifier.

    Attributes:
        classifier: features as they come ``(N, F)`` to scores ``(N, C)``; float64, or the precision asked for.
        iterations: of ``lbfgs``; 0 for ``ridge``.
        converged: whether ``lbfgs`` met its tolerance.
    """

    classifier: nn.Linear
    iterations: int = 0
    converged: bool = True


class _Prepared:
    """Features centred, divided by one scale with which their mean variance is 1, and turned to principal components.

    One scale for all features, not one each: weak features stay weak, as they are for the probe by SGD. Turning changes
    neither objective, and both solvers need the principal components.

    Attributes:
        x: ``(N, F)`` in the precision asked for.
        variances: ``(F,)`` float64, of the columns of x.
        label: ``(N,)``.
    """

    def __init__(self, train: Features, num_classes: int, dtype: torch.dtype) -> None:
        train = train.labelled()
        if not len(train.label):
            raise ValueError("the linear probe needs labelled training images, and there are none")
        if int(train.label.max()) >= num_classes:
            raise ValueError(f"there is a label {int(train.label.max())}, and there are only {num_classes} classes")
        if not train.features.isfinite().all():
            raise ValueError("the features are not finite: the backbone has diverged")
        self.mean = train.features.to(dtype).mean(0)
        centred = train.features - self.mean
        self.scale = float(centred.square().mean().sqrt()) or 1.0
        centred /= self.scale
        variances, axes = torch.linalg.eigh((centred.T @ centred).double() / len(centred))
        self.variances, self.axes = variances.clamp(min=0), axes.to(dtype)
        self.x = centred @ self.axes
        self.label, self.num_classes = train.label, num_classes

    def chunks(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Rows and their labels, not too many at a time."""
        return zip(self.x.split(_CHUNK), self.label.split(_CHUNK), strict=True)

    def classifier(self, weight: Tensor, bias: Tensor) -> nn.Linear:
        """For features as they come, of a weight ``(C, F)`` and bias ``(C,)`` for x."""
        classes, features = weight.shape
        linear = nn.Linear(features, classes, device=self.x.device, dtype=self.x.dtype).requires_grad_(False)
        linear.weight.copy_(weight.to(self.x) @ self.axes.T / self.scale)
        linear.bias.copy_(bias.to(self.x) - linear.weight @ self.mean)
        return linear


def fit_logistic(
    train: Features,
    num_classes: int,
    penalties: Sequence[float],
    *,
    tolerance: float = 1e-5,
    max_iterations: int = 1000,
    dtype: torch.dtype = torch.float64,
) -> Iterator[Fit]:
    """Multinomial logistic regression by L-BFGS, for each penalty from the solution of the one before.

    With s the features, centred and divided by the root of their mean variance, and N rows,

        min over W, b of  1/N sum_i CE(W s_i + b, y_i) + penalty / 2 ||W||^2

    Features of self-supervised networks have variances over many orders of magnitude. So L-BFGS sees W in principal
    components, each divided by the root of its curvature, which is about h times its variance plus the penalty, where
    h is the mean of p (1 - p) over rows and classes.

    Args:
        train: features of the training images; rows without a label are left out.
        num_classes: number of classes C.
        penalties: in this order; descending is quickest.
        tolerance: largest entry of the gradient at the end, in principal components.
        max_iterations: most iterations for a penalty.
        dtype: precision of the data and the scores; the optimiser works in float64.

    Yields:
        A :class:`Fit` for each penalty, when it is asked for.

    Raises:
        ValueError: no row is labelled, a label is out of range, or a feature is not finite.
    """
    data = _Prepared(train, num_classes, dtype)
    parameters = np.zeros((num_classes, data.x.shape[1] + 1))
    spread = (1 - 1 / num_classes) / num_classes
    for penalty in penalties:
        curvature = spread * np.append(data.variances.cpu().numpy(), 1.0) + np.append(
            np.full(data.x.shape[1], penalty), 1e-12
        )
        root = np.sqrt(curvature)
        solved = minimize(
            _loss_and_gradient,
            (parameters * root).ravel(),
            (data, penalty, root),
            method="L-BFGS-B",
            jac=True,
            options={
                "gtol": tolerance / max(1.0, root.max()),
                "ftol": 0.0,
                "maxiter": max_iterations,
                "maxfun": 2 * max_iterations,
            },
        )
        parameters = solved.x.reshape(parameters.shape) / root
        spread = _mean_spread(parameters, data)
        gradient = solved.jac.reshape(parameters.shape) * root
        whole = torch.from_numpy(parameters)
        yield Fit(
            data.classifier(whole[:, :-1], whole[:, -1]), int(solved.nit), bool(np.abs(gradient).max() <= tolerance)
        )


@torch.no_grad()
def _loss_and_gradient(flat: np.ndarray, data: _Prepared, penalty: float, root: np.ndarray) -> tuple[float, np.ndarray]:
    parameters = torch.from_numpy(flat.reshape(-1, len(root)) / root).to(data.x)
    weight, bias = parameters[:, :-1], parameters[:, -1]
    loss, gradient = 0.0, torch.zeros_like(parameters)
    for x, label in data.chunks():
        log_p = torch.addmm(bias, x, weight.T).log_softmax(1)
        own = label[:, None]
        loss -= float(log_p.gather(1, own).sum(dtype=torch.float64))
        slope = log_p.exp_()  # softmax minus one-hot
        slope.scatter_add_(1, own, -torch.ones_like(own, dtype=slope.dtype))
        gradient[:, :-1] += slope.T @ x
        gradient[:, -1] += slope.sum(0)
    gradient /= len(data.label)
    gradient[:, :-1] += penalty * weight
    loss = loss / len(data.label) + penalty / 2 * float(weight.square().sum(dtype=torch.float64))
    return loss, (gradient.double().cpu().numpy() / root).ravel()


@torch.no_grad()
def _mean_spread(parameters: np.ndarray, data: _Prepared) -> float:
    """The mean of p (1 - p) over rows and classes."""
    whole = torch.from_numpy(parameters).to(data.x)
    squares = sum(
        float(torch.addmm(whole[:, -1], x, whole[:, :-1].T).softmax(1).square().sum()) for x, _ in data.chunks()
    )
    return max(0.0, 1 - squares / len(data.label)) / len(parameters)


@torch.no_grad()
def fit_ridge(
    train: Features, num_classes: int, penalties: Sequence[float], *, dtype: torch.dtype = torch.float64
) -> list[Fit]:
    """Least squares on centred one-hot targets, for all penalties by one eigendecomposition ``(F, F)``.

    With s the features, scaled as in :func:`fit_logistic`, Y the targets and S^T S / N = U diag(l) U^T,

        W^T = argmin 1/N ||S W^T - Y||^2 + penalty ||W||^2 = U diag(1 / (l + penalty)) U^T S^T Y / N

    Args:
        train: as for :func:`fit_logistic`, as are all that follow.
        num_classes: number of classes C.
        penalties: in any order.
        dtype: precision of the data; eigendecomposition and solution are float64.

    Returns:
        A :class:`Fit` for each penalty.

    Raises:
        ValueError: as :func:`fit_logistic`.
    """
    data = _Prepared(train, num_classes, dtype)
    mean = torch.bincount(data.label, minlength=num_classes).double() / len(data.label)
    cross = torch.zeros(num_classes, data.x.shape[1], dtype=torch.float64, device=data.x.device)
    for x, label in data.chunks():
        cross += (F.one_hot(label, num_classes) - mean).to(x).T @ x
    cross /= len(data.label)
    return [Fit(data.classifier(cross / (data.variances + penalty), mean)) for penalty in penalties]


def fast_linear_probe(
    train: Features,
    validation: Features,
    class_names: Sequence[str],
    config: FastLinearConfig = FastLinearConfig(),
    *,
    seed: int = 0,
) -> FastLinearResult:
    """Fit a linear classifier on all training features with the penalty that suits a part of them best; evaluate it.

    The penalty is chosen on training images alone: a stratified part, drawn by the seed, is held out, and the penalty
    with the lowest mean loss there wins, or the strongest one within a thousandth of it; the loss is less noisy than
    the accuracy of so few images. With ``lbfgs`` the sweep goes from strong to weak and ends two penalties after its
    lowest loss. The validation images are evaluated once.

    Args:
        train: clean training features; rows without a label are left out.
        validation: validation features.
        class_names: the classes.
        config: solver and penalties.
        seed: the run's seed, by which images are held out.

    Raises:
        ValueError: no row is labelled, a feature is not finite, or too few rows are labelled to hold any out.
    """
    train = train.labelled()
    if not len(train.label):
        raise ValueError("the linear probe needs labelled training images, and there are none")
    trials, held_out, warnings = [], 0, []
    penalty = config.penalty
    if penalty is None:
        kept, held = _hold_out(train, config.held_out, seed)
        held_out = len(held.label)
        trials = _sweep(kept, held, len(class_names), config)
        lowest = min(trial.loss for trial in trials)
        best = next(trial for trial in trials if trial.loss <= _EQUAL * lowest)
        penalty = best.penalty
        warnings += _remarks(best, config, held_out, len(class_names))
    fit = next(iter(_fits(train, len(class_names), [penalty], config)))
    if not fit.converged:
        remedy = (
            "raise fast.max_iterations or the tolerance"
            if fit.iterations >= config.max_iterations
            else "that is as far as the precision reaches: raise the tolerance, or take fast.precision float64"
        )
        warnings.append(
            f"L-BFGS stopped after {fit.iterations} iterations short of fast.tolerance {config.tolerance:g}: {remedy}"
        )
    result = evaluate_linear(fit.classifier.float(), train, validation, class_names)
    return FastLinearResult(
        **vars(result),
        protocol=config.solver,
        penalty=penalty,
        num_held_out=held_out,
        sweep=trials,
        warning="; ".join(warnings) or None,
    )


def _fits(train: Features, num_classes: int, penalties: Sequence[float], config: FastLinearConfig) -> Iterator[Fit]:
    dtype = getattr(torch, config.precision)
    if config.solver == "ridge":
        return iter(fit_ridge(train, num_classes, penalties, dtype=dtype))
    return fit_logistic(
        train,
        num_classes,
        penalties,
        tolerance=config.tolerance,
        max_iterations=config.max_iterations,
        dtype=dtype,
    )


def _hold_out(train: Features, fraction: float, seed: int) -> tuple[Features, Features]:
    """The rows to fit and those to choose on; every class keeps at least one row to fit."""
    count = round(fraction * len(train.label))
    chosen = stratified_sample(train.label.cpu(), count, generator(seed, "held_out"))
    held = torch.zeros(len(train.label), dtype=torch.bool, device=train.label.device)
    held[chosen.to(held.device)] = True
    for label in train.label.unique():
        if held[train.label == label].all():
            held &= train.label != label
    if not held.any():
        raise ValueError(
            f"{len(train.label)} labelled training images of {len(train.label.unique())} classes are too few to hold"
            f" some out and choose the penalty on them (fast.held_out {fraction:g}): give fast.penalty, or more labels"
        )
    return tuple(Features(*(part[rows] for part in train)) for rows in (~held, held))


@torch.no_grad()
def _sweep(kept: Features, held: Features, num_classes: int, config: FastLinearConfig) -> list[Trial]:
    trials: list[Trial] = []
    grid = config.grid()
    rough = replace(config, tolerance=10 * config.tolerance)
    for penalty, fit in zip(grid, _fits(kept, num_classes, grid, rough), strict=False):
        scores = fit.classifier(held.features.to(fit.classifier.weight.dtype))
        if config.solver == "lbfgs":
            loss = F.cross_entropy(scores, held.label)
        else:
            loss = F.mse_loss(scores, F.one_hot(held.label, num_classes).to(scores))
        top1 = 100 * float((scores.argmax(1) == held.label).double().mean())
        trials.append(Trial(penalty, top1, float(loss), fit.iterations, fit.converged))
        best = min(range(len(trials)), key=lambda i: trials[i].loss)
        if config.solver == "lbfgs" and len(trials) - 1 - best >= _PATIENCE:
            break
    return trials


def _remarks(best: Trial, config: FastLinearConfig, held_out: int, classes: int) -> list[str]:
    remarks = []
    strongest, *_, weakest = config.grid()
    if best.penalty in (strongest, weakest):
        end = "strongest" if best.penalty == strongest else "weakest"
        remarks.append(
            f"the chosen penalty {best.penalty:g} is the {end} that was tried: widen fast.penalty_range"
            f" {config.penalty_range}"
        )
    if held_out < classes:
        remarks.append(
            f"the penalty was chosen on {held_out} images of {classes} classes: give more labels, or fast.penalty"
        )
    return remarks

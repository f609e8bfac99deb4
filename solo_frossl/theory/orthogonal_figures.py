"""Figs. 1 to 6 of "Representation Learning Dynamics of Self-Supervised Models" (Esser et al. 2024), as numbers.

Each function computes one figure and takes well below a minute on two cores as it stands. Losses are means over
samples, where the paper has sums, so that learning rates do not depend on the number of samples; time is the learning
rate times steps. ``progress`` is told of steps as they are done.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.svm import LinearSVC
from torch import Tensor

from solo_frossl.seeding import generator
from solo_frossl.theory.flow import Weights, descend
from solo_frossl.theory.orthogonal import (
    ACTIVATIONS,
    GRASSMANN,
    Activation,
    Flow,
    Pairs,
    TraceMatrix,
    draw_pairs,
    evolve,
    expected_relative_difference,
    grassmann_qr,
    layers_at,
    network,
    output_difference,
    outputs_at_eigenvectors,
    pair_loss,
    projected_flow,
    projected_polar,
    projection_norms,
    random_layers,
    squared_norms,
    trace_loss,
    trace_of,
    trace_rate,
)

Progress = Callable[[int], None]

PRINTED_EQ_11 = Flow(2.0, 1.0, 1.0)
"""Eq. 11 as printed, without the factor 2 of Eq. 8: half as fast."""


# ----------------------------------------------------------------------------------------------------------------- data


def half_moons(
    samples: int, random: torch.Generator, *, height: float = 0.5, noise_variance: float = 0.005
) -> tuple[Tensor, Tensor]:
    """Two half moons lifted to R^3, one above the other, centred (Fig. 1a; the paper does not say how it lifts them).

    Args:
        samples: N, 2 or more.
        random: draws them.
        height: between the planes of the two moons.
        noise_variance: in each of the three coordinates.

    Returns:
        Points ``(N, 3)`` float64 and labels ``(N,)``, 0 and 1 in turn.
    """
    if samples < 2:
        raise ValueError(f"samples is {samples}: two moons need at least 2")
    labels = torch.arange(samples) % 2
    angle = math.pi * torch.rand(samples, generator=random, dtype=torch.float64)
    sign, moved = 1.0 - 2.0 * labels, labels.double()
    points = torch.stack([sign * angle.cos() + moved, sign * angle.sin() + moved / 2, height * moved], 1)
    points += noise_variance**0.5 * torch.randn(samples, 3, generator=random, dtype=torch.float64)
    return points - points.mean(0), labels


def two_digits(classes: tuple[int, int] = (3, 8), *, most: int = 200) -> tuple[Tensor, Tensor]:
    """Images of two of scikit-learn's digits; there are about 180 of each.

    Args:
        classes: which two.
        most: images of a class.

    Returns:
        Images ``(N, 64)`` float64 in [0, 1] and labels ``(N,)``, 0 and 1.
    """
    digits = load_digits()
    chosen = [torch.from_numpy(digits.data[digits.target == c][:most] / 16) for c in classes]
    if len(set(classes)) != 2 or not all(map(len, chosen)):
        raise ValueError(f"classes are {classes}: name two different digits")
    return torch.cat(chosen), torch.repeat_interleave(torch.arange(2), torch.tensor([len(c) for c in chosen]))


def _moon_pairs(samples: int, seed: int) -> tuple[Tensor, Tensor, Pairs, TraceMatrix, torch.Generator]:
    """Points, labels, pairs, C as a mean over samples, and the generator to go on with."""
    random = generator(seed, "theory")
    points, labels = half_moons(samples, random)
    pairs = draw_pairs(points, random)
    return points, labels, pairs, _mean_trace(pairs), random


def _mean_trace(pairs: Pairs) -> TraceMatrix:
    return TraceMatrix(pairs.trace_matrix.matrix / len(pairs.anchors))


def _mean_pair_loss(*weights: Tensor, pairs: Pairs, activation: Activation) -> Tensor:
    return pair_loss(*weights, pairs=pairs, activation=activation) / len(pairs.anchors)


# -------------------------------------------------------------------------------------------------- Fig. 1: collapse


@dataclass(frozen=True)
class Collapse:
    """Fig. 1: half moons embedded into R^2 by a tanh network, with and without a constraint.

    Attributes:
        points: ``(N, 3)``.
        labels: ``(N,)``.
        time: name to ``(T,)`` learning rate times steps.
        loss: name to ``(S, T)``, Eq. 1 over N (``scaled``: the scaled one), by initialisation.
        flatness: name to ``(S, T)`` second singular value over the first of the centred embedding; 0 is collapse.
        embeddings: name to ``(N, 2)`` of the first initialisation at the end; ``start`` is before training.

    The names are ``unconstrained``, ``orthogonal`` (projected with the polar factor) and ``scaled`` (the loss divided
    by the squared operator norms, Proposition 3's first problem, which is what the paper trains here).
    """

    points: np.ndarray
    labels: np.ndarray
    time: dict[str, np.ndarray]
    loss: dict[str, np.ndarray]
    flatness: dict[str, np.ndarray]
    embeddings: dict[str, np.ndarray]


def figure1(
    *,
    samples: int = 60,
    width: int = 20,
    initialisations: int = 100,
    learning_rate: float = 0.1,
    unconstrained_steps: int = 30,
    constrained_steps: int = 500,
    seed: int = 0,
    progress: Progress | None = None,
) -> Collapse:
    """Dimension collapse (Example 1). Unconstrained the loss falls without bound and the embedding becomes a line."""
    points, labels, pairs, _, random = _moon_pairs(samples, seed)
    start = random_layers(3, width, 2, random, seeds=(initialisations,))
    tanh = ACTIVATIONS["tanh"]
    loss = partial(_mean_pair_loss, pairs=pairs, activation=tanh)
    runs = {
        "unconstrained": (loss, None, unconstrained_steps),
        "orthogonal": (loss, projected_polar, constrained_steps),
        "scaled": (lambda *w: loss(*w) / squared_norms(*w), None, constrained_steps),
    }
    before = network(points, *(w[0] for w in start), activation=tanh).numpy()
    collapse = Collapse(points.numpy(), labels.numpy(), {}, {}, {}, {"start": before})

    def observe(*weights: Tensor, objective: Callable[..., Tensor]) -> Tensor:
        u = network(points, *weights, activation=tanh)
        spread = torch.linalg.svdvals(u - u.mean(-2, keepdim=True))
        last = u[0].flatten().expand(initialisations, -1)
        return torch.cat([objective(*weights)[:, None], (spread[:, 1] / spread[:, 0])[:, None], last], 1)

    for name, (objective, retract, steps) in runs.items():
        seen = descend(
            objective,
            start,
            learning_rate=learning_rate,
            steps=steps,
            observe=partial(observe, objective=objective),
            every=max(1, steps // 50),
            retract=retract,
            progress=progress,
        )
        collapse.time[name] = seen.time
        collapse.loss[name], collapse.flatness[name] = seen.values[..., 0].T, seen.values[..., 1].T
        collapse.embeddings[name] = seen.values[-1, 0, 2:].reshape(samples, 2)
    return collapse


# ------------------------------------------------------------------------------------------- Fig. 2: width, Theorem 1


@dataclass(frozen=True)
class WidthDifference:
    """Fig. 2: how far networks are from linear ones, by width, while both train from the same layers.

    Attributes:
        widths: ``(H,)``.
        time: ``(T,)`` learning rate times steps.
        absolute: activation to ``(H, T)``: median over initialisations of the root mean square over samples of
            ||u_phi - u_linear||. A mean would be that of one start near the saddle, where the two leave at other times.
        relative: activation to ``(H, T)``: median of that over the same of ||u_linear||.
        expected: activation to ``(H,)``: what Theorem 1's setting gives for the relative difference at the start.
    """

    widths: np.ndarray
    time: np.ndarray
    absolute: dict[str, np.ndarray]
    relative: dict[str, np.ndarray]
    expected: dict[str, np.ndarray]


def figure2(
    *,
    widths: Sequence[int] = (10, 32, 100, 316, 1000),
    activations: Sequence[str] = ("tanh", "relu", "sigmoid"),
    samples: int = 40,
    initialisations: int = 10,
    learning_rate: float = 0.1,
    steps: int = 100,
    seed: int = 0,
    progress: Progress | None = None,
) -> WidthDifference:
    """Theorem 1 and Conjecture 1. The relative difference falls as 1/h for tanh and does not fall for ReLU."""
    points, _, pairs, trace, random = _moon_pairs(samples, seed)
    norms = points.norm(dim=1).numpy()
    absolute, relative, expected = {}, {}, {}
    for name in activations:
        activation, rows = ACTIVATIONS[name], []
        for width in widths:
            start = random_layers(3, width, 2, random, seeds=(initialisations,))

            def both(w1: Tensor, w2: Tensor, l1: Tensor, l2: Tensor, activation: Activation = activation) -> Tensor:
                return _mean_pair_loss(w1, w2, pairs=pairs, activation=activation) + trace_loss(l1, l2, trace=trace)

            def apart(w1: Tensor, w2: Tensor, l1: Tensor, l2: Tensor, activation: Activation = activation) -> Tensor:
                return torch.from_numpy(np.stack(output_difference(points, (w1, w2), activation, (l1, l2))))

            seen = descend(
                both,
                (*start, *start),
                learning_rate=learning_rate,
                steps=steps,
                observe=apart,
                every=max(1, steps // 50),
                retract=projected_polar,
                progress=progress,
            )
            rows.append(seen.values)
        differences = np.stack(rows)
        absolute[name] = np.median(differences[:, :, 0], -1)
        relative[name] = np.median(differences[:, :, 0] / differences[:, :, 1], -1)
        expected[name] = np.array([_expected_over(norms, activation, width) for width in widths])
    return WidthDifference(np.array(widths), seen.time, absolute, relative, expected)


def _expected_over(norms: np.ndarray, activation: Activation, width: int) -> float:
    """The expected relative difference for several samples: both outputs grow with the sample's norm."""
    differences = [norm * expected_relative_difference(activation, norm, width) for norm in norms]
    return float(np.sqrt(np.square(differences).mean() / np.square(norms).mean()))


# ----------------------------------------------------------------- Figs. 3 and 6: gradient descent against the equation


@dataclass(frozen=True)
class DescentAndFlow:
    """Fig. 3 by width, or Fig. 6 by depth: gradient descent on the layers against differential equations.

    Attributes:
        settings: ``(K,)`` widths (Fig. 3) or depths (Fig. 6).
        eigenvalues: ``(d,)`` of C, ascending.
        time: ``(T,)`` learning rate times steps.
        outputs: name to q ``(T, K, S, d, z)``, S starts.

    The names are ``Grassmann descent`` and its ``Eq. 8``, ``projected descent`` (what the paper runs) and its
    ``projected flow``, ``Eq. 11 as printed``, and in Fig. 6 ``tanh network``, projected too.
    """

    settings: np.ndarray
    eigenvalues: np.ndarray
    time: np.ndarray
    outputs: dict[str, np.ndarray]

    @property
    def loss(self) -> dict[str, np.ndarray]:
        """Name to Tr(q^T Lambda q) ``(T, K, S)``; for the tanh network that of a linear one with these outputs."""
        return {name: trace_of(q, self.eigenvalues) for name, q in self.outputs.items()}


def figure3(
    *,
    widths: Sequence[int] = (10, 100, 1000),
    outputs: int = 1,
    starts: int = 4,
    samples: int = 100,
    learning_rate: float = 0.01,
    steps: int = 500,
    seed: int = 0,
    progress: Progress | None = None,
) -> DescentAndFlow:
    """Theorems 2 and 3, two layers. All starts are random layers; for one output q goes to +v_1 or to -v_1."""
    _, _, _, trace, random = _moon_pairs(samples, seed)
    layers = [random_layers(3, width, outputs, random, seeds=(starts,)) for width in widths]
    return _descent_and_flow(
        np.array(widths),
        trace,
        layers,
        None,
        learning_rate=learning_rate,
        steps=steps,
        progress=progress,
    )


def figure6(
    *,
    depths: Sequence[int] = (2, 3, 4),
    width: int = 30,
    outputs: int = 1,
    starts: int = 4,
    samples: int = 60,
    learning_rate: float = 0.01,
    steps: int = 500,
    seed: int = 0,
    progress: Progress | None = None,
) -> DescentAndFlow:
    """Depth: one to three hidden layers, from the same q. Projected descent is the faster the deeper, Eq. 8 is not."""
    _, _, pairs, trace, random = _moon_pairs(samples, seed)
    layers = [random_layers(3, width, outputs, random, seeds=(starts,))]
    q = outputs_at_eigenvectors(*layers[0], trace=trace).numpy()
    layers = [layers_at(q, trace, width, random, depth=depth) for depth in depths]
    return _descent_and_flow(
        np.array(depths),
        trace,
        layers,
        pairs,
        learning_rate=learning_rate,
        steps=steps,
        progress=progress,
    )


def _descent_and_flow(
    settings: np.ndarray,
    trace: TraceMatrix,
    layers: Sequence[Weights],
    pairs: Pairs | None,
    *,
    learning_rate: float,
    steps: int,
    progress: Progress | None,
) -> DescentAndFlow:
    every = max(1, steps // 100)
    observe = partial(outputs_at_eigenvectors, trace=trace)
    runs = {
        "Grassmann descent": (partial(trace_loss, trace=trace), grassmann_qr, observe),
        "projected descent": (partial(trace_loss, trace=trace), projected_polar, observe),
    }
    if pairs is not None:
        tanh = ACTIVATIONS["tanh"]
        at_eigenvectors = partial(_network_at, trace.vectors.T, activation=tanh)
        runs["tanh network"] = (
            partial(_mean_pair_loss, pairs=pairs, activation=tanh),
            projected_polar,
            at_eigenvectors,
        )
    found = {}
    for name, (loss, retract, see) in runs.items():
        seen = [
            descend(
                loss,
                weights,
                learning_rate=learning_rate,
                steps=steps,
                observe=see,
                every=every,
                retract=retract,
                progress=progress,
            )
            for weights in layers
        ]
        found[name] = np.stack([s.values for s in seen], 1)
    times, start = seen[0].time, found["projected descent"][0]
    found["Eq. 8"] = evolve(start, trace.eigenvalues, times, flow=GRASSMANN).values
    flows = [projected_flow(len(weights)) for weights in layers]
    found["projected flow"] = np.stack(
        [evolve(q, trace.eigenvalues, times, flow=f).values for q, f in zip(start, flows, strict=True)], 1
    )
    found["Eq. 11 as printed"] = _euler(start, trace.eigenvalues, PRINTED_EQ_11, learning_rate, steps, every)
    return DescentAndFlow(settings, trace.eigenvalues, times, found)


def _network_at(x: Tensor, *weights: Tensor, activation: Activation) -> Tensor:
    return network(x, *weights, activation=activation)


def _euler(
    q: np.ndarray, eigenvalues: np.ndarray, flow: Flow, learning_rate: float, steps: int, every: int
) -> np.ndarray:
    seen = []
    for step in range(steps + 1):
        if step % every == 0 or step == steps:
            seen.append(q)
        q = q + learning_rate * trace_rate(q, eigenvalues, flow)
    return np.stack(seen)


# ------------------------------------------------------------------------------------------ Fig. 4: the spanned space


@dataclass(frozen=True)
class Projections:
    """Fig. 4: norms of the projections of v_1, v_2, v_3 onto the span of q's columns.

    Attributes:
        outputs: ``(Z,)`` values of z.
        eigenvalues: ``(3,)`` of C, ascending.
        time: ``(T,)`` learning rate times steps.
        norms: name to ``(Z, T, S, 3)``, S starts. Names: ``projected descent``, ``projected flow``, ``tanh network``.

    With z = 3 = d the span is everything from the start, so all norms are 1: that panel of the paper shows nothing.
    """

    outputs: np.ndarray
    eigenvalues: np.ndarray
    time: np.ndarray
    norms: dict[str, np.ndarray]


def figure4(
    *,
    outputs: Sequence[int] = (1, 2, 3),
    width: int = 100,
    starts: int = 5,
    samples: int = 60,
    learning_rate: float = 0.05,
    steps: int = 300,
    seed: int = 0,
    progress: Progress | None = None,
) -> Projections:
    """Conjecture 2: q comes to span the eigenvectors of the z least eigenvalues."""
    _, _, pairs, trace, random = _moon_pairs(samples, seed)
    norms: dict[str, list[np.ndarray]] = {"projected descent": [], "projected flow": [], "tanh network": []}
    tanh = ACTIVATIONS["tanh"]
    for z in outputs:
        start = random_layers(3, width, z, random, seeds=(starts,))
        runs = {
            "projected descent": (
                partial(trace_loss, trace=trace),
                partial(outputs_at_eigenvectors, trace=trace),
            ),
            "tanh network": (
                partial(_mean_pair_loss, pairs=pairs, activation=tanh),
                partial(_network_at, trace.vectors.T, activation=tanh),
            ),
        }
        for name, (loss, observe) in runs.items():
            seen = descend(
                loss,
                start,
                learning_rate=learning_rate,
                steps=steps,
                observe=observe,
                every=max(1, steps // 100),
                retract=projected_polar,
                progress=progress,
            )
            norms[name].append(projection_norms(seen.values))
            if name == "projected descent":
                flow = evolve(seen.values[0], trace.eigenvalues, seen.time, flow=projected_flow()).values
                norms["projected flow"].append(projection_norms(flow))
    stacked = {name: np.stack(values) for name, values in norms.items()}
    return Projections(np.array(outputs), trace.eigenvalues, seen.time, stacked)


# -------------------------------------------------------------------------------- Fig. 5: downstream, and a step's time


@dataclass(frozen=True)
class Downstream:
    """Fig. 5: a linear SVM on embeddings of two classes of images; and how long a step takes.

    Attributes:
        widths: ``(H,)``.
        accuracy: name to ``(H, S)`` percent of held-out images, by start. Names: ``tanh network`` and ``linear
            network`` (projected descent), ``Eq. 8`` and ``projected flow`` (the equations from the linear network's
            start), and ``start`` (the tanh network before training).
        pixels: percent, an SVM on the images themselves.
        held_out: how many images the percentages are of.
    """

    widths: np.ndarray
    accuracy: dict[str, np.ndarray]
    pixels: float
    held_out: int


def figure5(
    images: Tensor | None = None,
    labels: Tensor | None = None,
    *,
    widths: Sequence[int] = (100, 200, 400),
    outputs: int = 2,
    noise_variance: float = 0.1,
    starts: int = 3,
    learning_rate: float = 0.02,
    steps: int = 150,
    seed: int = 0,
    progress: Progress | None = None,
) -> Downstream:
    """Downstream accuracy of the equation against training networks.

    Args:
        images: ``(N, D)``, N rows of numbers of order 1; None: two of scikit-learn's digits.
        labels: ``(N,)`` of two classes.
        widths: h, at least D.
        outputs: z.
        noise_variance: of each pixel of a positive.
        starts: random starts for each width.
        learning_rate: of gradient descent.
        steps: of gradient descent.
        seed: of the split, the noise and the starts.
        progress: told of steps, 2 x widths x steps in all.
    """
    if images is None or labels is None:
        images, labels = two_digits()
    if images.ndim != 2 or labels.shape != images.shape[:1] or len(labels.unique()) != 2:
        raise ValueError(
            f"images must be (N, D) with labels (N,) of two classes, got {tuple(images.shape)}, {tuple(labels.shape)}"
            f" and {len(labels.unique())} classes"
        )
    random = generator(seed, "theory")
    order = torch.randperm(len(images), generator=random)
    images, labels = images.double()[order], labels[order]
    train, test = slice(0, len(images) // 2), slice(len(images) // 2, None)
    images = images - images[train].mean(0)
    pairs = draw_pairs(images[train], random, noise_variance=noise_variance)
    trace = _mean_trace(pairs)
    score = partial(_svm_accuracy, labels=labels.numpy(), train=train, test=test)
    accuracy: dict[str, list[list[float]]] = {
        name: [] for name in ("tanh network", "linear network", "Eq. 8", "projected flow", "start")
    }
    tanh = ACTIVATIONS["tanh"]
    for width in widths:
        start = random_layers(images.shape[1], width, outputs, random, seeds=(starts,))
        options = {"learning_rate": learning_rate, "steps": steps, "every": steps, "retract": projected_polar}
        for name, loss, activation in (
            ("tanh network", partial(_mean_pair_loss, pairs=pairs, activation=tanh), tanh),
            ("linear network", partial(trace_loss, trace=trace), ACTIVATIONS["linear"]),
        ):
            embed = partial(_network_at, images, activation=activation)
            seen = descend(loss, start, observe=embed, progress=progress, **options).values
            accuracy[name].append([score(u) for u in seen[-1]])
            if name == "tanh network":
                accuracy["start"].append([score(u) for u in seen[0]])
        q = outputs_at_eigenvectors(*start, trace=trace).numpy()
        for name, flow in (("Eq. 8", GRASSMANN), ("projected flow", projected_flow())):
            end = evolve(q, trace.eigenvalues, [0.0, learning_rate * steps], flow=flow).values[-1]
            coordinates = (images @ trace.vectors).numpy()  # u(x) = q^T V^T x
            accuracy[name].append([score(coordinates @ each) for each in end])
    return Downstream(
        np.array(widths),
        {name: np.array(values) for name, values in accuracy.items()},
        score(images.numpy()),
        len(labels[test]),
    )


def _svm_accuracy(embeddings: np.ndarray, *, labels: np.ndarray, train: slice, test: slice) -> float:
    """Percent of the test part that a linear SVM gets right, on embeddings of unit variance."""
    scale = embeddings[train].std(0)
    scaled = (embeddings - embeddings[train].mean(0)) / np.where(scale > 1e-12, scale, 1.0)
    svm = LinearSVC(dual=False, random_state=0).fit(scaled[train], labels[train])
    return 100 * float(svm.score(scaled[test], labels[test]))


@dataclass(frozen=True)
class StepTimes:
    """Fig. 5, left: seconds a step by width, of this machine at this moment; compare them within one result only.

    Attributes:
        widths: ``(H,)``.
        network: ``(H,)`` a gradient step of the tanh network with its projection.
        equation: ``(H,)`` a step of Eq. 8's Euler scheme, which does not know the width.
    """

    widths: np.ndarray
    network: np.ndarray
    equation: np.ndarray


def step_times(
    *,
    widths: Sequence[int] = (10, 32, 100, 316, 1000),
    outputs: int = 2,
    samples: int = 200,
    repeats: int = 20,
    seed: int = 0,
    progress: Progress | None = None,
) -> StepTimes:
    """Time a step of gradient descent and of the equation: the fastest of some repeats."""
    _, _, pairs, trace, random = _moon_pairs(samples, seed)
    loss = partial(_mean_pair_loss, pairs=pairs, activation=ACTIVATIONS["tanh"])
    by_network, by_equation = [], []
    for width in widths:
        weights = random_layers(3, width, outputs, random)
        q = outputs_at_eigenvectors(*weights, trace=trace).numpy()
        step = partial(
            descend, loss, weights, learning_rate=0.01, steps=1, observe=lambda *w: w[0][0], retract=projected_polar
        )
        by_network.append(_fastest(step, repeats))
        by_equation.append(_fastest(partial(trace_rate, q, trace.eigenvalues), repeats))
        if progress is not None:
            progress(1)
    return StepTimes(np.array(widths), np.array(by_network), np.array(by_equation))


def _fastest(work: Callable[[], object], repeats: int) -> float:
    best = math.inf
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - began)
    return best

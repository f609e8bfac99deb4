"""Figs. 3, 4 and 6: gradient descent on the layers against the equations of their outputs."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from solo_frossl.theory.figures.dynamics.moons import Moons, draw_moons, mean_pair_loss
from solo_frossl.theory.figures.figure import TIME, Curve, Panel, Progress, Source, TheoryFigure, at_least
from solo_frossl.theory.figures.images import Images
from solo_frossl.theory.flow import Trajectory, Weights, descend
from solo_frossl.theory.orthogonal import (
    ACTIVATIONS,
    PRINTED_EQ_11,
    euler,
    evolve,
    grassmann_qr,
    layers_at,
    network,
    outputs_at_eigenvectors,
    projected_flow,
    projected_polar,
    projection_norms,
    random_layers,
    trace_loss,
    trace_of,
)

SOURCES: dict[str, Source] = {
    "Grassmann descent": "gradient descent",
    "projected descent": "gradient descent",
    "tanh network": "measured",
    "Eq. 8": "equation",
    "projected flow": "equation",
    "Eq. 11 as printed": "guide",
}
"""Where what the figures' data name comes from."""


def _descents(
    names: Sequence[str],
    start: Weights,
    moons: Moons,
    *,
    learning_rate: float,
    steps: int,
    progress: Progress | None,
) -> dict[str, Trajectory]:
    """Gradient descent from one start, by name: q ``(T, S, d, z)``."""
    tanh = ACTIVATIONS["tanh"]
    linear = partial(trace_loss, trace=moons.trace), partial(outputs_at_eigenvectors, trace=moons.trace)
    curved = (
        partial(mean_pair_loss, pairs=moons.pairs, activation=tanh),
        partial(network, moons.trace.vectors.T, activation=tanh),
    )
    kinds = {
        "Grassmann descent": (*linear, grassmann_qr),
        "projected descent": (*linear, projected_polar),
        "tanh network": (*curved, projected_polar),
    }
    found = {}
    for name in names:
        loss, observe, retract = kinds[name]
        found[name] = descend(
            loss,
            start,
            learning_rate=learning_rate,
            steps=steps,
            observe=observe,
            every=max(1, steps // 100),
            retract=retract,
            progress=progress,
        )
    return found


# ------------------------------------------------------------------------------------- Figs. 3 and 6: width and depth


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


def descent_by_width(
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
    moons = draw_moons(samples, seed)
    layers = [random_layers(3, width, outputs, moons.random, seeds=(starts,)) for width in widths]
    names = ("Grassmann descent", "projected descent")
    return _descent_and_flow(widths, layers, names, moons, learning_rate=learning_rate, steps=steps, progress=progress)


def descent_by_depth(
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
    moons = draw_moons(samples, seed)
    start = random_layers(3, width, outputs, moons.random, seeds=(starts,))
    q = outputs_at_eigenvectors(*start, trace=moons.trace).numpy()
    layers = [layers_at(q, moons.trace, width, moons.random, depth=depth) for depth in depths]
    names = ("Grassmann descent", "projected descent", "tanh network")
    return _descent_and_flow(depths, layers, names, moons, learning_rate=learning_rate, steps=steps, progress=progress)


def _descent_and_flow(
    settings: Sequence[int],
    layers: Sequence[Weights],
    names: Sequence[str],
    moons: Moons,
    *,
    learning_rate: float,
    steps: int,
    progress: Progress | None,
) -> DescentAndFlow:
    runs = [
        _descents(names, weights, moons, learning_rate=learning_rate, steps=steps, progress=progress)
        for weights in layers
    ]
    found = {name: np.stack([run[name].values for run in runs], 1) for name in names}
    eigenvalues, time, start = moons.trace.eigenvalues, runs[0][names[0]].time, found["projected descent"][0]
    found["Eq. 8"] = evolve(start, eigenvalues, time).values
    flows = [projected_flow(len(weights)) for weights in layers]
    found["projected flow"] = np.stack(
        [evolve(q, eigenvalues, time, flow=flow).values for q, flow in zip(start, flows, strict=True)], 1
    )
    found["Eq. 11 as printed"] = euler(
        start, eigenvalues, learning_rate=learning_rate, steps=steps, every=max(1, steps // 100), flow=PRINTED_EQ_11
    ).values
    return DescentAndFlow(np.array(settings), eigenvalues, time, found)


def fig3(images: Images | None, seed: int, progress: Progress) -> TheoryFigure:
    """Gradient descent against the equation, by width."""
    found = descent_by_width(seed=seed, progress=progress)
    panels = _losses(found, [f"loss, width {width}" for width in found.settings])
    panels += [_outputs(found, k, f"output, width {width}, all starts") for k, width in enumerate(found.settings)]
    apart = {
        pair: float(np.abs(found.outputs[pair[0]] - found.outputs[pair[1]]).max())
        for pair in (("Grassmann descent", "Eq. 8"), ("projected descent", "projected flow"))
    }
    return TheoryFigure(
        "dynamics-fig3",
        "Representation dynamics, Fig. 3: gradient descent on the weights against the differential equation",
        "The equation (Eqs. 8 and 11) describes gradient descent under orthogonality at every width.",
        f"Descent with the Grassmann gradient stays within {apart['Grassmann descent', 'Eq. 8']:.3f} of Eq. 8 at widths"
        f" {', '.join(map(str, found.settings))}. What the paper says it runs, the raw gradient projected back, follows"
        f" a flow of its own, within {apart['projected descent', 'projected flow']:.3f}; the limits agree: the output"
        " at v1 comes to 1 or -1, by its sign at the start.",
        tuple(panels),
        "Eq. 10 adds the gradient where it must be subtracted; Eq. 11 lacks a factor of 2, so as printed it runs at"
        " half the speed.",
        columns=3,
    )


def _losses(found: DescentAndFlow, titles: Sequence[str]) -> list[Panel]:
    """Descent and equations from the first start, a panel a setting."""
    return [
        Panel(
            title,
            TIME,
            r"$\mathrm{Tr}(q^\top \Lambda q)$",
            tuple(Curve(_pair(name), SOURCES[name], found.time, loss[:, k, 0]) for name, loss in found.loss.items()),
        )
        for k, title in enumerate(titles)
    ]


def _outputs(found: DescentAndFlow, setting: int, title: str) -> Panel:
    """What the output at v_1 comes to, +1 or -1, from all starts."""
    starts = found.outputs["Eq. 8"].shape[2]
    curves = [
        Curve(f"start {start + 1}", SOURCES[name], found.time, found.outputs[name][:, setting, start, 0, 0])
        for name in ("Grassmann descent", "Eq. 8")
        for start in range(starts)
    ]
    return Panel(title, TIME, "$u(v_1)$, Grassmann", tuple(curves), limits=(-1.1, 1.1))


def _pair(name: str) -> str:
    """Descent and its flow have one colour."""
    return {"Grassmann descent": "Grassmann", "Eq. 8": "Grassmann", "projected descent": "projected"}.get(
        name, "projected" if name == "projected flow" else name
    )


def fig6(images: Images | None, seed: int, progress: Progress) -> TheoryFigure:
    """Depth: one to three hidden layers."""
    found = descent_by_depth(seed=seed, progress=progress)
    panels = _losses(found, [f"{depth - 1} hidden layer{'s' if depth > 2 else ''}" for depth in found.settings])
    half = {}
    for k, depth in enumerate(found.settings):
        loss = found.loss["projected descent"][:, k, 0]
        half[int(depth)] = float(found.time[np.argmax(loss <= 0.5 * (loss[0] + loss[-1]))])
    halves = ", ".join(f"{t:.2f} ({depth} layers)" for depth, t in half.items())
    return TheoryFigure(
        "dynamics-fig6",
        "Representation dynamics, Fig. 6: depth",
        "The equation is the same for any depth (Theorem 2).",
        "That holds for the Grassmann gradient. The raw gradient projected back, which the paper says it runs, is the"
        f" faster the deeper: half of the way is done at t = {halves}.",
        tuple(panels),
        columns=3,
    )


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


def projections(
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
    moons = draw_moons(samples, seed)
    eigenvalues = moons.trace.eigenvalues
    norms: dict[str, list[np.ndarray]] = {"projected descent": [], "projected flow": [], "tanh network": []}
    for z in outputs:
        start = random_layers(3, width, z, moons.random, seeds=(starts,))
        runs = _descents(
            ("projected descent", "tanh network"),
            start,
            moons,
            learning_rate=learning_rate,
            steps=steps,
            progress=progress,
        )
        descent = runs["projected descent"]
        runs["projected flow"] = evolve(descent.values[0], eigenvalues, descent.time, flow=projected_flow())
        for name, run in runs.items():
            norms[name].append(projection_norms(run.values))
    stacked = {name: np.stack(values) for name, values in norms.items()}
    return Projections(np.array(outputs), eigenvalues, descent.time, stacked)


def fig4(images: Images | None, seed: int, progress: Progress) -> TheoryFigure:
    """What q comes to span, by the number of outputs."""
    found = projections(seed=seed, progress=progress)
    panels = []
    for kind, names in (
        ("linear", ("projected descent", "projected flow")),
        ("tanh", ("tanh network",)),
    ):
        for k, z in enumerate(found.outputs):
            farthest = int(np.argmin(found.norms["projected flow"][k, 0, :, 0]))  # the start with the least of v_1
            curves = [
                Curve(f"v{i + 1}", "equation" if name == "projected flow" else "gradient descent", found.time, y)
                for name in names
                for i, y in enumerate(found.norms[name][k, :, farthest].T)
            ]
            panels.append(
                Panel(f"{kind} network, z = {z}", TIME, "projection onto span(q)", tuple(curves), limits=(-0.05, 1.05))
            )
    last, starts = found.norms["projected descent"][0, -1, :, 0].min(), found.norms["projected descent"].shape[2]
    return TheoryFigure(
        "dynamics-fig4",
        "Representation dynamics, Fig. 4: projections of v1, v2, v3 onto the span of q",
        "The outputs come to span the eigenvectors of the z least eigenvalues of C (Conjecture 2).",
        f"With one output the projection of v1 ends at {at_least(last)} or more from all {starts} starts. The"
        f" eigenvalues are {', '.join(f'{value:.2f}' for value in found.eigenvalues)}. With three outputs in three"
        " dimensions the span is everything from the start, so those panels show nothing.",
        tuple(panels),
        columns=3,
    )

"""Fig. 1: collapse without a constraint."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from solo_frossl.theory.figures.dynamics.moons import draw_moons, mean_pair_loss
from solo_frossl.theory.figures.figure import Curve, Panel, Progress, TheoryFigure
from solo_frossl.theory.figures.images import Images
from solo_frossl.theory.flow import descend
from solo_frossl.theory.orthogonal import ACTIVATIONS, network, projected_polar, random_layers, squared_norms


@dataclass(frozen=True)
class Collapse:
    """Half moons embedded into R^2 by a tanh network, with and without a constraint.

    Attributes:
        points: ``(N, 3)``.
        labels: ``(N,)``.
        step: name to ``(T,)`` steps done.
        loss: name to ``(S, T)``, Eq. 1 over N (``scaled``: the scaled one), by initialisation.
        flatness: name to ``(S, T)`` second singular value over the first of the centred embedding; 0 is collapse.
        embeddings: name to ``(N, 2)`` of the first initialisation at the end; ``start`` is before training.

    The names are ``unconstrained``, ``orthogonal`` (projected with the polar factor) and ``scaled`` (the loss divided
    by the squared operator norms, Proposition 3's first problem, which is what the paper trains here).
    """

    points: np.ndarray
    labels: np.ndarray
    step: dict[str, np.ndarray]
    loss: dict[str, np.ndarray]
    flatness: dict[str, np.ndarray]
    embeddings: dict[str, np.ndarray]


def collapse(
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
    moons = draw_moons(samples, seed)
    start = random_layers(3, width, 2, moons.random, seeds=(initialisations,))
    tanh = ACTIVATIONS["tanh"]
    loss = partial(mean_pair_loss, pairs=moons.pairs, activation=tanh)
    runs = {
        "unconstrained": (loss, None, unconstrained_steps),
        "orthogonal": (loss, projected_polar, constrained_steps),
        "scaled": (lambda *w: loss(*w) / squared_norms(*w), None, constrained_steps),
    }
    before = network(moons.points, *(w[0] for w in start), activation=tanh).numpy()
    found = Collapse(moons.points.numpy(), moons.labels.numpy(), {}, {}, {}, {"start": before})

    def observe(*weights: Tensor, objective: Callable[..., Tensor]) -> Tensor:
        u = network(moons.points, *weights, activation=tanh)
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
        found.step[name] = np.round(seen.time / learning_rate)
        found.loss[name], found.flatness[name] = seen.values[..., 0].T, seen.values[..., 1].T
        found.embeddings[name] = seen.values[-1, 0, 2:].reshape(samples, 2)
    return found


def fig1(images: Images | None, seed: int, progress: Progress) -> TheoryFigure:
    """Half moons lifted to three dimensions: collapse without a constraint, none with one."""
    found = collapse(seed=seed, progress=progress)
    names = [name for name in found.embeddings if name != "start"]
    flatness, loss = (
        {name: np.median(values[name], axis=0) for name in names} for values in (found.flatness, found.loss)
    )
    shown = (
        ("loss, median of 100 starts", "loss", {n: y for n, y in loss.items() if n != "unconstrained"}, {}),
        ("unconstrained loss", "loss", {"unconstrained": loss["unconstrained"]}, {}),
        ("flatness of the embedding", "2nd / 1st singular value", flatness, {"log_y": True}),
    )
    lines = [
        Panel(
            title,
            "step",
            y_name,
            tuple(Curve(name, "gradient descent", found.step[name], y) for name, y in curves.items()),
            **options,
        )
        for title, y_name, curves, options in shown
    ]
    panels = [_scatter("data from above, two moons", found.points[:, :2], found.labels, "x"), *lines]
    titles = {"start": "embedding before training"} | {name: f"embedding, {name}" for name in names}
    panels += [_scatter(title, found.embeddings[name], found.labels) for name, title in titles.items()]
    ends = ", ".join(f"{flatness[name][-1]:.2g} ({name})" for name in names)
    return TheoryFigure(
        "dynamics-fig1",
        "Representation dynamics, Fig. 1: half moons, unconstrained collapse against constrained weights",
        "Without a constraint a two-layer tanh network that minimises the contrastive loss learns one dimension only,"
        " and its loss falls without bound; with orthogonal weights or a scaled loss it keeps two.",
        f"The embedding's second singular value over its first ends at {ends}. The unconstrained loss ends at"
        f" {loss['unconstrained'][-1]:.2g} after {found.step['unconstrained'][-1]:.0f} steps, the constrained one at"
        f" {loss['orthogonal'][-1]:.3f} after {found.step['orthogonal'][-1]:.0f}.",
        tuple(panels),
        "The proof of Lemma 1 (Appendix A.1) loses the first layer's part of the kernel, which is as large as the last"
        " one's. Section 5 defines the non-contrastive C with the wrong sign. The paper does not say how the moons are"
        " lifted to three dimensions; here they lie in two parallel planes.",
        columns=4,
    )


def _scatter(title: str, embedding: np.ndarray, labels: np.ndarray, axis: str = "u") -> Panel:
    points = tuple(Curve(f"moon {int(label)}", "points", *embedding[labels == label].T) for label in np.unique(labels))
    return Panel(title, f"${axis}_1$", f"${axis}_2$", points, named=False)

"""Figs. 2, 4, 5 and 6 of "Implicit variance regularization in non-contrastive SSL", drawn."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch

from solo_frossl.seeding import generator
from solo_frossl.theory.figures.figure import TIME, Curve, Panel, Progress, TheoryFigure, at_least, descending, modes
from solo_frossl.theory.figures.images import Images
from solo_frossl.theory.flow import descend, integrate
from solo_frossl.theory.siamese import (
    LOSSES,
    Siamese,
    alignment,
    draw_views,
    eigenvalues,
    expected_loss,
    fresh_loss,
    mode_weights,
    rate,
    sample_loss,
    solution,
    trainable_loss,
)

INPUTS, OUTPUTS, STEPS = 15, 10, 300
SHOWN, TWO = 20, (1.2, 0.15)
"""Inputs whose outputs are shown, and the eigenvalues from which the network of two outputs starts."""
DECAY = 0.01
"""Weight decay of Fig. 4."""
EIGENVALUES = r"eigenvalues of $W W^\top$"
TITLES = {
    "plain": "as it is",
    "iso": "IsoLoss",
    "no_stop_gradient": "no stop-gradient",
    "no_predictor": "no predictor",
}
UNTIL = {
    ("euclidean", "plain"): 12.0,
    ("euclidean", "iso"): 4.0,
    ("euclidean", "no_stop_gradient"): 4.0,
    ("euclidean", "no_predictor"): 60.0,
    ("cosine", "plain"): 40.0,
    ("cosine", "iso"): 6.0,
    ("cosine", "no_stop_gradient"): 60.0,
    ("cosine", "no_predictor"): 3000.0,
}
"""How long each loss is followed, in units of its flow."""


def _start(seed: int) -> torch.Tensor:
    """Weights as of a freshly made layer, ``(M, N)``: eigenvalues of W W^T from about 0.01 to 0.8."""
    random = torch.randn(OUTPUTS, INPUTS, generator=generator(seed, "theory"), dtype=torch.float64)
    return random / 6


def _directions(random: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Singular vectors of a network of two outputs: ``(2, 2)`` and ``(N, 2)`` orthonormal columns."""
    outputs, vectors = (
        torch.linalg.qr(torch.randn(n, 2, generator=random, dtype=torch.float64))[0] for n in (2, INPUTS)
    )
    return outputs, vectors


def _representations(siamese: Siamese, seed: int, progress: Progress, *, relu: bool = False) -> Panel:
    """Outputs of ten inputs in a network of two: where they go under this loss."""
    random = generator(seed, "theory")
    outputs, vectors = _directions(random)
    x = torch.randn(SHOWN, INPUTS, generator=random, dtype=torch.float64)
    w, first = mode_weights(TWO, outputs=outputs, vectors=vectors), np.array(TWO)

    def embedded(w: torch.Tensor) -> torch.Tensor:
        z = x @ w.T
        return z.relu() if relu else z

    until, steps = _until(siamese, relu), STEPS // 2
    if siamese.similarity == "cosine" and siamese.variant != "iso":
        until /= 4  # two modes are there sooner than ten
    if relu:
        until = min(until, 12.0)  # of two neurons with a ReLU one dies soon
    loss = partial(expected_loss, siamese=siamese)
    if relu:
        view1, view2 = draw_views(1000, INPUTS, siamese.sigma, random)
        loss = partial(sample_loss, view1=view1, view2=view2, siamese=siamese, relu=True)
    seen = descend(
        loss, [w], learning_rate=until / steps, steps=steps, observe=embedded, every=2, progress=progress
    ).values
    curves = [Curve(f"input {k + 1}", "gradient descent", *seen[:, k].T) for k in range(SHOWN)]
    if not relu:  # W = U diag(sqrt(s)) V^T, and neither U nor V turns
        s = integrate(partial(rate, siamese=siamese), first, np.linspace(0, until, 51)).values.clip(min=0)
        coordinates, u = (x @ w.T @ outputs).numpy(), outputs.numpy()
        solved = (coordinates * np.sqrt(s / first)[:, None]) @ u.T
        curves += [Curve(f"input {k + 1}", "equation", *solved[:, k].T) for k in range(SHOWN)]
    curves += [Curve(f"input {k + 1}", "points", *seen[-2:, k].T) for k in range(SHOWN)]
    return Panel(f"{_title(siamese)}, M=2", "$z_1$", "$z_2$", tuple(curves), named=False, square=True)


def _title(siamese: Siamese) -> str:
    return f"{siamese.similarity.capitalize()}, {TITLES[siamese.variant]}"


def _until(siamese: Siamese, relu: bool) -> float:
    until = UNTIL[siamese.similarity, siamese.variant]
    return min(until, 60.0) if relu else until


def _in_rows(above: Sequence[Panel], below: Sequence[Panel], columns: int = 4) -> tuple[Panel, ...]:
    """A row of the one, a row of the other, and so on."""
    rows = []
    for first in range(0, len(above), columns):
        rows += [*above[first : first + columns], *below[first : first + columns]]
    return tuple(rows)


def fig2(images: Images | None, seed: int, progress: Progress) -> TheoryFigure:
    """Representations and eigenvalues under the eight losses: gradient descent on the expected loss, and equations."""
    panels, apart, last = [], {}, {}
    for siamese in LOSSES:
        key = (siamese.similarity, siamese.variant)
        w, until = _start(seed), UNTIL[key]
        seen = descend(
            partial(expected_loss, siamese=siamese),
            [w],
            learning_rate=until / STEPS,
            steps=STEPS,
            observe=eigenvalues,
            every=3,
            progress=progress,
        )
        first = eigenvalues(w).numpy()
        solved = descending(integrate(partial(rate, siamese=siamese), first, seen.time).values)
        curves = [
            *modes("eigenvalue", "gradient descent", seen.time, seen.values),
            *modes("eigenvalue", "equation", seen.time, solved),
        ]
        if siamese.similarity == "euclidean" and siamese.variant != "no_stop_gradient":
            curves += modes("eigenvalue", "closed form", seen.time, solution(seen.time, first, siamese))
        apart[key] = float(np.abs(seen.values - solved).max())
        last[key] = seen.values[-1]
        panels.append(Panel(f"{_title(siamese)}, M={OUTPUTS}", TIME, EIGENVALUES, tuple(curves)))
    gone = last["cosine", "no_stop_gradient"]
    left = int((gone > 0.1).sum())
    return TheoryFigure(
        "implicit-fig2",
        "Implicit variance regularization, Fig. 2: representations and eigenvalues under the eight losses",
        "Without stop-gradient the Euclidean loss collapses and the cosine's eigenvalues diverge; without a predictor"
        " nothing or little is learned; with both all eigenvalues become equal, with IsoLoss all at one pace.",
        f"Gradient descent on the expected loss stays within {max(apart.values()):.3f} of the equations. The cosine's"
        f" eigenvalues without stop-gradient do not diverge: their sum stays {gone.sum():.2f}, and {left} of {OUTPUTS}"
        f" are above 0.1 at t = {UNTIL['cosine', 'no_stop_gradient']:g}. Above the eigenvalues: the outputs of"
        f" {SHOWN} inputs in a network of two outputs, which end at the points.",
        _in_rows([_representations(siamese, seed, progress) for siamese in LOSSES], panels),
        "Table 1 and Appendix C.2 let the cosine's eigenvalues diverge without stop-gradient; Eq. 12 lacks sigma^2 (1 +"
        " lambda^2), Eq. 13 prints no updates where both views are noisy.",
        columns=4,
    )


def fig4(images: Images | None, seed: int, progress: Progress) -> TheoryFigure:
    """A trained linear predictor comes to share the correlation's eigenvectors."""
    random = generator(seed, "theory")
    views = draw_views(500, INPUTS, 0.1, random)
    p = 0.03 * torch.randn(OUTPUTS, OUTPUTS, generator=random, dtype=torch.float64)
    panels, least = [], {}
    for similarity in ("euclidean", "cosine"):
        seen = descend(
            lambda w, p, similarity=similarity: trainable_loss(w, p, *views, similarity=similarity, weight_decay=DECAY),
            [1.5 * _start(seed), p],
            learning_rate=0.03,
            steps=2 * STEPS,
            observe=alignment,
            every=6,
            progress=progress,
        )
        least[similarity] = float(seen.values[-1].min())
        panels.append(
            Panel(
                f"{similarity.capitalize()} loss",
                TIME,
                r"alignment $\cos(u_i, W_P u_i)$",
                tuple(modes("eigenvector", "gradient descent", seen.time, seen.values)),
                limits=(-1.05, 1.05),
            )
        )
    euclidean, cosine = (at_least(least[similarity]) for similarity in ("euclidean", "cosine"))
    return TheoryFigure(
        "implicit-fig4",
        "Implicit variance regularization, Fig. 4: alignment of a trained linear predictor",
        "A linear predictor that is trained by gradient descent comes to have the eigenvectors of the embeddings'"
        " correlation.",
        f"From a small random predictor all alignments end above {euclidean} with the Euclidean loss and"
        f" {cosine} with the cosine (weight decay {DECAY:g}; without it the difference of W W^T and P^T P"
        " is conserved).",
        tuple(panels),
    )


def fig5(images: Images | None, seed: int, progress: Progress) -> TheoryFigure:
    """Two neurons from three starts."""
    starts = np.array([[2.0, 0.1], [0.5, 0.3], [0.2, 1.5]])
    outputs, vectors = _directions(generator(seed, "theory"))
    panels, ends = [], {}
    for siamese, until in ((Siamese("euclidean"), 15.0), (Siamese("cosine"), 12.0)):
        seen = descend(
            partial(expected_loss, siamese=siamese),
            [mode_weights(starts, outputs=outputs, vectors=vectors)],
            learning_rate=until / STEPS,
            steps=STEPS,
            observe=lambda w: torch.diagonal(outputs.mT @ w @ w.mT @ outputs, dim1=-2, dim2=-1),
            every=3,
            progress=progress,
        )
        solved = integrate(partial(rate, siamese=siamese), starts, seen.time)
        curves = []
        for start, (name, values) in enumerate(zip("abc", starts, strict=True)):
            for mode in range(2):
                label = f"{name}{mode + 1}, from {values[mode]:g}"
                curves.append(Curve(label, "gradient descent", seen.time, seen.values[:, start, mode]))
                curves.append(Curve(label, "equation", seen.time, solved.values[:, start, mode]))
        ends[siamese.similarity] = seen.values[-1].mean(-1)
        panels.append(Panel(f"{siamese.similarity.capitalize()} loss", TIME, EIGENVALUES, tuple(curves)))
    words = {name: ", ".join(f"{value:.2f}" for value in values) for name, values in ends.items()}
    return TheoryFigure(
        "implicit-fig5",
        "Implicit variance regularization, Fig. 5: two neurons from three starts",
        "Under the Euclidean loss both eigenvalues always converge to 1; under the cosine they become equal at a value"
        " that the start decides.",
        f"They end at {words['euclidean']} and {words['cosine']}: with noise on both views the first limit is"
        " 1 / (1 + sigma^2), the second is the mean of the start's eigenvalues.",
        tuple(panels),
        "Eqs. 9 and 16 print the limit 1, which is that without noise.",
    )


def fig6(images: Images | None, seed: int, progress: Progress) -> TheoryFigure:
    """The eight losses with a ReLU on the embeddings."""
    panels, spread = [], {}
    for siamese in LOSSES:
        key = (siamese.similarity, siamese.variant)
        until = _until(siamese, relu=True)
        seen = descend(
            fresh_loss(siamese, samples=500, generator=generator(seed, "theory"), relu=True),
            [_start(seed)],
            learning_rate=until / STEPS,
            steps=STEPS,
            observe=lambda w: eigenvalues(w, relu=True),
            every=3,
            progress=progress,
        )
        began, spread[key] = (float(values[1] / values[-1]) for values in (seen.values[0], seen.values[-1]))
        panels.append(
            Panel(
                f"{_title(siamese)}, M={OUTPUTS}",
                TIME,
                r"eigenvalues of $E[z z^\top]$",
                tuple(modes("eigenvalue", "gradient descent", seen.time, seen.values)),
            )
        )
    return TheoryFigure(
        "implicit-fig6",
        "Implicit variance regularization, Fig. 6: the same with a ReLU on the embeddings",
        "The dynamics are qualitatively those of the linear network.",
        "The first eigenvalue is that of the mean, which a ReLU makes positive. Of the others the largest over the"
        f" smallest goes from {began:.0f} to {spread['euclidean', 'iso']:.1f} with the Euclidean IsoLoss and"
        f" {spread['cosine', 'iso']:.1f} with the cosine's; without IsoLoss the smallest modes stay behind"
        f" ({spread['euclidean', 'plain']:.0f} and {spread['cosine', 'plain']:.0f}). With two outputs the ReLU leaves"
        " some inputs at zero or nearly so, where the cosine's gradient has no bound: they move all others in jumps.",
        _in_rows([_representations(siamese, seed, progress, relu=True) for siamese in LOSSES], panels),
        columns=4,
    )

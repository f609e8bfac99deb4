"""Figs. 1 to 6 of "Representation learning dynamics of self-supervised models", drawn."""

from collections.abc import Sequence

import numpy as np

from solo_frossl.theory import orthogonal_figures as data
from solo_frossl.theory.figures.figure import Curve, Panel, Progress, Source, TheoryFigure, at_least
from solo_frossl.theory.figures.images import Images
from solo_frossl.theory.orthogonal import loglog_slope

TIME = "t = learning rate x step"
SOURCES: dict[str, Source] = {
    "Grassmann descent": "gradient descent",
    "projected descent": "gradient descent",
    "tanh network": "measured",
    "Eq. 8": "equation",
    "projected flow": "equation",
    "Eq. 11 as printed": "guide",
}
"""Where what the figures' data name comes from."""


def fig1(images: Images | None, seed: int, progress: Progress) -> TheoryFigure:
    """Half moons lifted to three dimensions: collapse without a constraint, none with one."""
    found = data.figure1(seed=seed, progress=progress)
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
            tuple(
                Curve(name, "gradient descent", np.arange(len(y)) * _every(found.time[name]), y)
                for name, y in curves.items()
            ),
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
        f" {loss['unconstrained'][-1]:.2g} after {_steps(found.time['unconstrained'])} steps, the constrained one at"
        f" {loss['orthogonal'][-1]:.3f} after {_steps(found.time['orthogonal'])}.",
        tuple(panels),
        "The proof of Lemma 1 (Appendix A.1) loses the first layer's part of the kernel, which is as large as the last"
        " one's. Section 5 defines the non-contrastive C with the wrong sign. The paper does not say how the moons are"
        " lifted to three dimensions; here they lie in two parallel planes.",
        columns=4,
    )


def _every(time: np.ndarray) -> float:
    """Steps between two observations, the learning rate of Fig. 1 being 0.1."""
    return float((time[1] - time[0]) / 0.1)


def _steps(time: np.ndarray) -> int:
    return round(float(time[-1]) / 0.1)


def _scatter(title: str, embedding: np.ndarray, labels: np.ndarray, axis: str = "u") -> Panel:
    points = tuple(Curve(f"moon {int(label)}", "points", *embedding[labels == label].T) for label in np.unique(labels))
    return Panel(title, f"${axis}_1$", f"${axis}_2$", points, named=False)


def fig2(images: Images | None, seed: int, progress: Progress) -> TheoryFigure:
    """Linear against non-linear networks by width, absolute and relative."""
    found = data.figure2(seed=seed, progress=progress)
    words = {"tanh": "tanh", "relu": "ReLU", "sigmoid": "sigmoid"}
    panels = [
        Panel(
            f"absolute, while training: {words[name]}",
            TIME,
            "difference of outputs",
            tuple(
                Curve(f"h = {width}", "measured", found.time, row)
                for width, row in zip(found.widths, rows, strict=True)
            ),
            log_y=True,
        )
        for name, rows in found.absolute.items()
    ]
    for title, values, at in (
        ("absolute, at the start", found.absolute, 0),
        ("relative, at the start", found.relative, 0),
        ("relative, after training", found.relative, -1),
    ):
        curves = [Curve(words[name], "measured", found.widths, rows[:, at]) for name, rows in values.items()]
        if values is found.relative and at == 0:
            curves += [Curve(words[name], "closed form", found.widths, y) for name, y in found.expected.items()]
        relative = "relative difference" if values is found.relative else "difference of outputs"
        panels.append(Panel(title, "width h", relative, tuple(curves), True, True))
    slopes = {a: loglog_slope(found.widths, rows[:, -1]) for a, rows in found.relative.items()}
    return TheoryFigure(
        "dynamics-fig2",
        "Representation dynamics, Fig. 2 and Theorem 1: non-linear against linear networks by width",
        "At initialisation a wide network with any smooth activation is close to its linear counterpart; training keeps"
        " it so for tanh and, more slowly, for ReLU, not for sigmoid.",
        "The linear output itself falls with width, so only the relative difference says something. After training it"
        f" goes as h to the power {slopes['tanh']:.2f} with tanh, {slopes['relu']:.2f} with ReLU and"
        f" {slopes['sigmoid']:.2f} with sigmoid: only tanh, which is odd, comes closer to its linear network.",
        tuple(panels),
        "Theorem 1's bound falls no faster than the linear output, so it does not show that the two are close.",
        columns=3,
    )


def fig3(images: Images | None, seed: int, progress: Progress) -> TheoryFigure:
    """Gradient descent against the equation, by width."""
    found = data.figure3(seed=seed, progress=progress)
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


def _losses(found: data.DescentAndFlow, titles: Sequence[str]) -> list[Panel]:
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


def _outputs(found: data.DescentAndFlow, setting: int, title: str) -> Panel:
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


def fig4(images: Images | None, seed: int, progress: Progress) -> TheoryFigure:
    """What q comes to span, by the number of outputs."""
    found = data.figure4(seed=seed, progress=progress)
    panels = []
    for network, names in (
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
                Panel(
                    f"{network} network, z = {z}", TIME, "projection onto span(q)", tuple(curves), limits=(-0.05, 1.05)
                )
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


def fig5(images: Images, seed: int, progress: Progress) -> TheoryFigure:
    """A linear SVM on embeddings of two classes, and how long a step takes."""
    found = data.figure5(images.x, images.label, seed=seed, progress=progress)
    against = " against ".join(images.classes)
    seconds = data.step_times(progress=progress)
    accuracy = tuple(
        Curve(name, "measured", found.widths, np.median(values, axis=1)) for name, values in found.accuracy.items()
    )
    flat = Curve("pixels", "guide", found.widths, np.full(len(found.widths), found.pixels))
    times = (
        Curve("tanh network", "measured", seconds.widths, 1e3 * seconds.network),
        Curve("Eq. 8", "measured", seconds.widths, 1e3 * seconds.equation),
    )
    best = {name: float(np.median(values[-1])) for name, values in found.accuracy.items()}
    return TheoryFigure(
        "dynamics-fig5",
        "Representation dynamics, Fig. 5: time of a step, and a linear SVM on what was learned",
        "Solving the equation is much faster than training the network, and its embedding is as good for a linear SVM"
        " on two classes of images.",
        f"At width {seconds.widths[-1]} a step of the tanh network takes"
        f" {seconds.network[-1] / seconds.equation[-1]:.0f} times as long as one of Eq. 8. On {found.held_out} held-out"
        f" images ({images.name}), {against}, at width {found.widths[-1]}: "
        + ", ".join(f"{name} {value:.1f} %" for name, value in best.items())
        + f", the pixels themselves {found.pixels:.1f} %.",
        (
            Panel("time of a step", "width h", "milliseconds", times, log_x=True, log_y=True),
            Panel(f"linear SVM, {_short(against)}", "width h", "accuracy, %", (*accuracy, flat)),
        ),
    )


def _short(text: str, most: int = 36) -> str:
    return text if len(text) <= most else text[: most - 3] + "..."


def fig6(images: Images | None, seed: int, progress: Progress) -> TheoryFigure:
    """Depth: one to three hidden layers."""
    found = data.figure6(seed=seed, progress=progress)
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

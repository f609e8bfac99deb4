"""FroSSL's Fig. 2, and what follows from its equations beyond the paper."""

import numpy as np
import torch
from torch import Tensor

from solo_frossl.seeding import generator
from solo_frossl.theory.figures.figure import TIME, Curve, Panel, Progress, TheoryFigure, descending, modes
from solo_frossl.theory.figures.images import Images
from solo_frossl.theory.flow import Trajectory, descend, integrate
from solo_frossl.theory.linear_regime import (
    Logistic,
    Modes,
    Moments,
    aligned_weights,
    barlow_growth,
    barlow_loss,
    barlow_rate,
    fixed_points,
    frossl_growth,
    frossl_loss,
    frossl_rate,
    mode_loss,
    spectral_contrastive_growth,
    spectral_contrastive_loss,
    spectral_contrastive_rate,
    vicreg_growth,
    vicreg_loss,
    vicreg_rate,
)

TOP = 10
"""Eigenvalues of Fig. 2, and outputs of the layers."""
NOISE = 0.35
"""Standard deviation of the noise that makes two views of an image, whose largest principal axis has 1."""
SMALL = 1e-3
"""Standard deviation of the layers' first weights."""
LOSSES = {
    "FroSSL": (frossl_loss, frossl_rate, frossl_growth),
    "Barlow Twins": (barlow_loss, barlow_rate, barlow_growth),
}


def fig2(images: Images, seed: int, progress: Progress) -> TheoryFigure:
    """Loss and top-10 eigenvalues of FroSSL's and Barlow Twins' variants on images, gradient descent and theory."""
    random = generator(seed, "theory")
    view1, view2 = (
        images.x + NOISE * torch.randn(images.x.shape, generator=random, dtype=torch.float64) for _ in range(2)
    )
    moments = Moments.of(view1, view2)
    dimensions = images.x.shape[1]
    start = tuple(SMALL * torch.randn(TOP, dimensions, generator=random, dtype=torch.float64) for _ in range(2))
    expected = noisy_modes(images.x)
    learning_rate, steps = 0.02, 1100
    panels, ends = [], {}
    for name, (loss, rate, growth) in LOSSES.items():

        def observe(w1: Tensor, w2: Tensor, loss=loss) -> Tensor:
            eigenvalues = torch.linalg.eigvalsh(w1 @ moments.first @ w1.mT).flip(-1)
            return torch.cat([loss(w1, w2, moments)[None], eigenvalues])

        seen = descend(
            lambda w1, w2, loss=loss: loss(w1, w2, moments),
            start,
            learning_rate=learning_rate,
            steps=steps,
            observe=observe,
            every=5,
            progress=progress,
        )
        first = effective_start(start, images.x)
        time = np.linspace(0, seen.time[-1], 200)
        s = integrate(lambda y, rate=rate: rate(y, expected), np.stack([first, first]), time).values[:, 0]
        closed = growth(expected).at(time, first**2)
        variance = expected.first
        theory_loss = _loss_of_modes(name, variance * s**2, expected)
        panels.append(
            (
                Panel(
                    name,
                    TIME,
                    "loss",
                    (
                        Curve("loss", "gradient descent", seen.time, seen.values[:, 0]),
                        Curve("loss", "equation", time, theory_loss),
                        Curve("loss", "closed form", time, _loss_of_modes(name, variance * closed, expected)),
                    ),
                ),
                Panel(
                    f"{name}, view 1",
                    TIME,
                    "eigenvalues of the covariance",
                    (
                        *modes("eigenvalue", "gradient descent", seen.time, seen.values[:, 1:]),
                        *modes("eigenvalue", "equation", time, descending(variance * s**2)),
                        *modes("eigenvalue", "closed form", time, descending(variance * closed)),
                    ),
                ),
            )
        )
        ends[name] = Trajectory(seen.time, seen.values[:, 1:]), descending(variance * closed), time
    measured = {name: _time_to_rise(seen.time, seen.values) for name, (seen, _, _) in ends.items()}
    predicted = {name: _time_to_rise(time, closed) for name, (_, closed, time) in ends.items()}
    return TheoryFigure(
        "frossl-fig2",
        "FroSSL, Fig. 2: loss and top-10 eigenvalues in the linear regime",
        "The FroSSL variant converges much quicker than the Barlow Twins variant when two linear layers are trained by"
        " full-batch gradient descent on 1024 real images.",
        f"On {len(images.x)} images ({images.name}), seen with noise of {NOISE:g}, the tenth eigenvalue is half-way to"
        f" its end at t = {measured['FroSSL']:.2f} with FroSSL and {measured['Barlow Twins']:.2f} with Barlow Twins;"
        f" the closed forms, which know the images' principal axes and the noise only, say {predicted['FroSSL']:.2f}"
        f" and {predicted['Barlow Twins']:.2f}.",
        tuple(panel for row in zip(*panels, strict=True) for panel in row),
        "Eqs. 12, 13, 28 and 29 have a wrong sign and a wrong factor; Eqs. 18 and 30 to 34 follow from them and"
        " describe singular values that decay to 0.",
    )


def noisy_modes(x: Tensor, count: int = TOP, noise: float = NOISE) -> Modes:
    """Modes of images of which both views have independent noise: lambda = g + sigma^2, kappa = g.

    Args:
        x: ``(N, D)`` images, centred.
        count: K, the largest.
        noise: sigma.
    """
    g = np.linalg.eigvalsh((x.T @ x / len(x)).numpy())[::-1][:count]
    return Modes(g + noise**2, g + noise**2, g)


def effective_start(weights: tuple[Tensor, Tensor], x: Tensor) -> np.ndarray:
    """Singular values from which aligned layers would grow as these small random ones do (FroSSL, Prop. D.2).

    While layers are small, the mean of the two grows in every principal axis v_k by itself, as (W1 + W2) v_k / 2. The
    axes saturate one after the other, and each can use only the outputs that those before it have left: so what counts
    is the part of its vector that is orthogonal to theirs, the k-th diagonal entry of a QR factorisation.

    Args:
        weights: W1 and W2, ``(M, D)``.
        x: ``(N, D)`` images, centred.

    Returns:
        ``(M,)``, above 0.
    """
    outputs = len(weights[0])
    axes = torch.linalg.eigh(x.T @ x / len(x))[1].flip(1)[:, :outputs]
    return torch.linalg.qr((weights[0] + weights[1]) @ axes / 2)[1].diagonal().abs().numpy()


def _loss_of_modes(name: str, y: np.ndarray, expected: Modes) -> np.ndarray:
    """The loss with eigenvalues ``(T, K)`` of both views."""
    if name == "FroSSL":
        return mode_loss(np.sqrt(y), np.sqrt(y), expected.rho).sum(1)
    return ((expected.rho * y - 1) ** 2).sum(1)


def _time_to_rise(time: np.ndarray, eigenvalues: np.ndarray) -> float:
    """When the last eigenvalue is half as large as at the end."""
    return float(time[np.argmax(eigenvalues[:, -1] >= 0.5 * eigenvalues[-1, -1])])


def speed_up(images: Images | None, seed: int, progress: Progress) -> TheoryFigure:
    """How much sooner FroSSL is at 99 % of its limit, by correlation and by the size of a mode."""
    rho, some_rho = np.linspace(0.1, 1, 91), np.array([0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
    size, some_sizes = np.geomspace(0.05, 1, 60), np.array([0.05, 0.2, 1.0])
    first, share = 1e-2, 1e-4
    by_rho, by_size = [], []
    for name, start in (("s = 0.01", first), ("the same share of the limit", None)):
        closed = _ratio(Modes.correlated(rho, np.ones(len(rho))), start, share)
        by_rho.append(Curve(f"from {name}", "closed form", rho, closed))
        found = [_measured_ratio(float(r), 1.0, start, share, progress) for r in some_rho]
        by_rho.append(Curve(f"from {name}", "measured", some_rho, np.array(found)))
    for r in (0.2, 0.3, 0.5, 0.9):
        name = f"rho = {r:g}"
        by_size.append(Curve(name, "closed form", size, _ratio(Modes.correlated(r, size), first, share)))
        found = [_measured_ratio(r, float(one), first, share, progress) for one in some_sizes]
        by_size.append(Curve(name, "measured", some_sizes, np.array(found)))
    at = {r: float(_ratio(Modes.correlated(r, np.ones(1)), first, share)[0]) for r in (1.0, 0.9, 0.6, 0.3)}
    times = ", ".join(f"{ratio:.2f} (rho {r:g})" for r, ratio in at.items())
    apart = max(
        float(np.abs(np.interp(found.x, closed.x, closed.y) / found.y - 1).max())
        for closed, found in zip((by_rho + by_size)[::2], (by_rho + by_size)[1::2], strict=True)
    )
    return TheoryFigure(
        "frossl-speedup",
        "Beyond the papers: how much faster FroSSL learns a mode than Barlow Twins, by the views' correlation",
        "The paper sees FroSSL converge faster and does not say by how much or when.",
        "In the linear regime its rate is 1 + 1/rho times that of Barlow Twins, and so is the ratio of times from the"
        f" same share of the own limit ({share:g}) to 99 % of it. From s = {first:g} Barlow Twins takes {times} times"
        " as long at lambda = 1, and the mode's size hardly matters. Gradient descent (points) is within"
        f" {100 * apart:.1f} % of that. At rho = 1 the factor of 2 is that of a learning rate; below, FroSSL has an"
        " advantage of its own.",
        (
            Panel(
                "time to 99 %, by correlation",
                "correlation rho of the views",
                "Barlow Twins / FroSSL",
                (*by_rho, Curve("1 + 1/rho", "guide", rho, 1 + 1 / rho)),
                limits=(1.5, 8),
            ),
            Panel(
                "time to 99 %, by size",
                "lambda of the mode",
                "Barlow Twins / FroSSL",
                tuple(by_size),
                True,
                limits=(1.5, 8),
            ),
        ),
    )


def _starts(all_modes: Modes, first: float | None, share: float) -> dict[str, np.ndarray]:
    """y0 of both losses: s^2, or the share of each one's own limit."""
    shape = all_modes.first.shape
    return {
        name: np.full(shape, first**2) if first is not None else share * growth(all_modes).limit
        for name, (_, _, growth) in LOSSES.items()
    }


def _ratio(all_modes: Modes, first: float | None, share: float) -> np.ndarray:
    starts = _starts(all_modes, first, share)
    times = {name: growth(all_modes).time_to_reach(0.99, starts[name]) for name, (_, _, growth) in LOSSES.items()}
    return times["Barlow Twins"] / times["FroSSL"]


def _measured_ratio(rho: float, size: float, first: float | None, share: float, progress: Progress) -> float:
    """The same by gradient descent on 1 x 1 layers."""
    mode = Modes.correlated(rho, np.array([size]))
    moments, times, steps = Moments.aligned(mode), {}, 400
    starts, one = _starts(mode, first, share), torch.ones(1, 1, dtype=torch.float64)
    for name, (loss, _, growth) in LOSSES.items():
        expected = growth(mode)
        s = np.sqrt(starts[name])
        seen = descend(
            lambda w1, w2, loss=loss: loss(w1, w2, moments),
            aligned_weights(s, s, outputs=one, vectors=one),
            learning_rate=1.2 * float(expected.time_to_reach(0.99, starts[name])[0]) / steps,
            steps=steps,
            observe=lambda w1, w2: w1[0, 0].square(),
        )
        goal = 0.99 * expected.limit[0]
        k = int(np.argmax(seen.values >= goal))
        low, high = seen.values[k - 1], seen.values[k]
        times[name] = seen.time[k - 1] + (goal - low) / (high - low) * (seen.time[k] - seen.time[k - 1])
    progress(1)
    return float(times["Barlow Twins"] / times["FroSSL"])


def spurious_minimum(images: Images | None, seed: int, progress: Progress) -> TheoryFigure:
    """The local minimum a = -b below a correlation of one half: its loss, and how often descent ends there."""
    rho = np.linspace(0, 1, 101)
    opposite = np.sqrt((1 - rho) / 2)
    same = np.sqrt((1 + rho) / 2)
    tried = np.linspace(0.05, 0.95, 19)
    starts = torch.randn(400, 2, generator=generator(seed, "theory"), dtype=torch.float64)
    shares = {}
    for scale in (0.01, 1.0):
        ended = []
        for r in tried:
            mode = Modes.correlated(float(r), np.ones(1))
            moments = Moments.aligned(mode)
            end = descend(
                lambda w1, w2, moments=moments: frossl_loss(w1, w2, moments),
                tuple(scale * starts[:, v, None, None] for v in range(2)),
                learning_rate=0.05,
                steps=600 if scale < 0.1 else 320,
                observe=lambda w1, w2: torch.cat([w1, w2], -1),
                every=10_000,
            ).values[-1]
            ended.append(float((end[:, 0, 0] * end[:, 0, 1] < -1e-3).mean()))
            progress(1)
        shares[scale] = np.array(ended)
    below = tried < 0.5
    kinds = [
        next(p.kind for p in fixed_points(float(r)) if p.a > 0 > p.b and abs(p.a + p.b) < 1e-9) for r in (0.3, 0.7)
    ]
    return TheoryFigure(
        "frossl-spurious-minimum",
        "Beyond the papers: below a correlation of one half FroSSL's linear variant has a spurious minimum",
        "The paper's closed form has one limit, whatever the start.",
        "A mode whose layers point to opposite sides, a = -b, rests where it is: it is a"
        f" {kinds[0]} at rho = 0.3 and a {kinds[1]} at 0.7. Of 400 starts of standard deviation 0.01,"
        f" {100 * shares[0.01][below].mean():.0f} % on average end there below rho = 0.5, of starts of 1"
        f" {100 * shares[1.0][below].mean():.0f} %; above it {100 * shares[0.01][~below].max():.0f} and"
        f" {100 * shares[1.0][~below].max():.0f} % at most.",
        (
            Panel(
                "loss of a mode",
                "correlation rho of the views",
                "loss",
                (
                    Curve("a = b, the minimum", "closed form", rho, mode_loss(same, same, rho)),
                    Curve("a = -b", "closed form", rho, mode_loss(opposite, -opposite, rho)),
                    Curve("rho = 1/2", "guide", np.array([0.5, 0.5]), np.array([0.0, 2.2])),
                ),
            ),
            Panel(
                "how often descent ends at a = -b",
                "correlation rho of the views",
                "share of 400 starts",
                (
                    Curve("starts of 0.01", "gradient descent", tried, shares[0.01]),
                    Curve("starts of 1", "gradient descent", tried, shares[1.0]),
                    Curve("rho = 1/2", "guide", np.array([0.5, 0.5]), np.array([0.0, 0.6])),
                ),
            ),
        ),
    )


def kin(images: Images | None, seed: int, progress: Progress) -> TheoryFigure:
    """Modes of four objectives in the linear regime, side by side."""
    shown = Modes.correlated(np.array([0.9, 0.7, 0.5, 0.3]), np.array([1.0, 0.5, 0.25, 0.125]))
    eye = torch.eye(4, dtype=torch.float64)
    moments, first = Moments.aligned(shown), np.full(4, 0.03)
    one = {"variance_weight": 1.0, "invariance_weight": 1.0}
    cases = {
        "FroSSL": (frossl_loss, frossl_rate, frossl_growth, 40.0, {}),
        "Barlow Twins": (barlow_loss, barlow_rate, barlow_growth, 40.0, {}),
        "SimCLR (spectral contrastive)": (
            spectral_contrastive_loss,
            spectral_contrastive_rate,
            spectral_contrastive_growth,
            40.0,
            {},
        ),
        "VICReg (an output a mode)": (vicreg_loss, vicreg_rate, None, 40.0, one),
    }
    panels = []
    for name, (loss, rate, growth, end, weights) in cases.items():
        steps = 1500 if growth else 3000  # of the hinge, finer ones
        seen = descend(
            lambda w1, w2, loss=loss, weights=weights: loss(w1, w2, moments, **weights),
            aligned_weights(first, first, outputs=eye, vectors=eye),
            learning_rate=end / steps,
            steps=steps,
            observe=lambda w1, w2: w1.diagonal().square() * torch.as_tensor(shown.first),
            every=steps // 300,
            progress=progress,
        )
        time = np.linspace(0, end, 200)
        if growth is None:  # its right side jumps, which stops a solver of high order: the solution is the closed form
            closed = vicreg_growth(time, first, shown, **one) ** 2
            solved = []
        else:
            logistic: Logistic = growth(shown)
            closed = logistic.at(time, first**2)
            s = integrate(lambda y, rate=rate: rate(y, shown), np.stack([first, first]), time).values[:, 0]
            solved = modes("mode", "equation", time, shown.first * s**2)
        panels.append(
            Panel(
                name,
                TIME,
                "eigenvalue of the covariance",
                (
                    *modes("mode", "gradient descent", seen.time, seen.values),
                    *solved,
                    *modes("mode", "closed form", time, shown.first * closed),
                ),
            )
        )
    return TheoryFigure(
        "frossl-kin",
        "Beyond the papers: four objectives' linear regime; modes of lambda 1, 1/2, 1/4, 1/8, rho .9, .7, .5, .3",
        "The paper treats FroSSL and Barlow Twins.",
        "The spectral contrastive loss, SimCLR to second order, grows each mode as Barlow Twins does, at a rate of"
        " 4 kappa, but to kappa / lambda^2: uncorrelated modes stay small. VICReg's hinge pushes a mode's standard"
        " deviation up at a rate that does not depend on how small it is, so nothing waits, where each output has a"
        " mode to itself; with rotated outputs its modes have no equations, since the hinge goes by single outputs."
        " Where the hinge ends, at 1, descent steps to and fro over it, by less the smaller its steps.",
        tuple(panels),
    )

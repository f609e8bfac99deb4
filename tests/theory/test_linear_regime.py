"""The linear regime: every closed form against its equation, every equation against gradient descent."""

import itertools

import numpy as np
import pytest
import torch

from solo_frossl.theory.flow import descend, integrate
from solo_frossl.theory.linear_regime import (
    Modes,
    Moments,
    aligned_weights,
    barlow_growth,
    barlow_loss,
    barlow_rate,
    fixed_points,
    frossl_gradient,
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

OUTPUTS, INPUTS, SEEDS = 4, 6, 3
SYMMETRIC = Modes.correlated(np.array([0.9, 0.6, 0.3]), np.array([1.0, 0.5, 0.2]))
ASYMMETRIC = Modes.correlated(np.array([0.9, -0.5, 0.3]), np.array([1.0, 0.5, 0.2]), np.array([0.7, 0.9, 0.4]))
FLOWS = {
    "frossl": (frossl_loss, frossl_rate),
    "barlow": (barlow_loss, barlow_rate),
    "spectral contrastive": (spectral_contrastive_loss, spectral_contrastive_rate),
}
GROWTHS = {"frossl": frossl_growth, "barlow": barlow_growth, "spectral contrastive": spectral_contrastive_growth}


def orthonormal(rows, columns, seed=0):
    return torch.linalg.qr(torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)).double())[0]


def layers(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(*shape, OUTPUTS, INPUTS, generator=generator, dtype=torch.float64) / 3 for _ in range(2))


def views(samples=40, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(samples, INPUTS, generator=generator, dtype=torch.float64)
    return x, 0.7 * x + 0.5 * torch.randn(samples, INPUTS, generator=generator, dtype=torch.float64)


def gradient_descent(loss, modes, start, learning_rate, time, *, outputs=None, vectors=None, **options):
    """s1 and s2 by mode, from layers aligned with the moments: ``(T, 2, K)``."""
    vectors = orthonormal(INPUTS, len(modes.first)) if vectors is None else vectors
    outputs = orthonormal(OUTPUTS, len(modes.first), 1) if outputs is None else outputs
    moments = Moments.aligned(modes, vectors)
    trajectory = descend(
        lambda w1, w2: loss(w1, w2, moments, **options),
        aligned_weights(start[0], start[1], outputs=outputs, vectors=vectors),
        learning_rate=learning_rate,
        steps=round(time / learning_rate),
        observe=lambda w1, w2: torch.stack([outputs.mT @ w @ vectors for w in (w1, w2)]),
    )
    aligned = np.diagonal(trajectory.values, axis1=-2, axis2=-1)
    off = trajectory.values - aligned[..., None] * np.eye(len(modes.first))
    assert np.abs(off).max() < 1e-9  # what is aligned stays so
    return trajectory.time, aligned


class TestLosses:
    def test_are_those_of_the_embeddings(self):
        x1, x2 = views()
        w1, w2 = layers()
        z1, z2, eye = x1 @ w1.T, x2 @ w2.T, torch.eye(OUTPUTS)
        n = len(x1)
        moments = Moments.of(x1, x2)
        frossl = sum((z.T @ z / n - eye).square().sum() for z in (z1, z2)) + (z1 - z2).square().sum() / n
        assert float(frossl_loss(w1, w2, moments)) == pytest.approx(float(frossl), rel=1e-12)
        barlow = (z1.T @ z2 / n - eye).square().sum()
        assert float(barlow_loss(w1, w2, moments)) == pytest.approx(float(barlow), rel=1e-12)
        pairs = z1 @ z2.T
        contrastive = pairs.square().mean() - 2 * pairs.diagonal().mean()
        assert float(spectral_contrastive_loss(w1, w2, moments)) == pytest.approx(float(contrastive), rel=1e-12)
        vicreg = 25 * (z1 - z2).square().sum() / n
        for z in (z1, z2):
            c = z.T @ z / n
            vicreg += 25 * (1 - c.diagonal().sqrt()).clamp(min=0).sum() + (c - c.diagonal().diag()).square().sum()
        assert float(vicreg_loss(w1, w2, moments)) == pytest.approx(float(vicreg), rel=1e-12)

    @pytest.mark.parametrize("loss", [frossl_loss, barlow_loss, spectral_contrastive_loss, vicreg_loss])
    def test_seeds_are_apart(self, loss):
        moments = Moments.of(*views())
        w1, w2 = layers(SEEDS)
        together = loss(w1, w2, moments)
        assert together.shape == (SEEDS,)
        for seed in range(SEEDS):
            assert float(together[seed]) == pytest.approx(float(loss(w1[seed], w2[seed], moments)), rel=1e-12)

    def test_with_one_layer_for_equal_views_frossl_is_twice_barlow(self):
        x, _ = views()
        w, _ = layers(SEEDS)
        moments = Moments.of(x, x)
        torch.testing.assert_close(frossl_loss(w, w, moments), 2 * barlow_loss(w, w, moments), rtol=1e-12, atol=0)

    def test_the_gradient_is_autograds_and_not_the_printed_one(self):
        """FroSSL, Eqs. 12, 13, 28, 29: printed dW/dt = -2 (W G + 2 W2 X2^T X1 + 2 W G W^T W G)."""
        moments = Moments.of(*views())
        w1, w2 = (w.requires_grad_() for w in layers())
        expected = torch.autograd.grad(frossl_loss(w1, w2, moments), (w1, w2))
        for ours, autograds in zip(frossl_gradient(w1, w2, moments), expected, strict=True):
            torch.testing.assert_close(ours, autograds, rtol=1e-12, atol=1e-13)
        g = moments.first
        printed = 2 * (w1 @ g + 2 * w2 @ moments.cross.T + 2 * w1 @ g @ w1.T @ w1 @ g)
        assert float((printed - expected[0]).detach().norm() / expected[0].norm()) > 0.5


class TestModes:
    @pytest.mark.slow
    @pytest.mark.parametrize("name", FLOWS)
    @pytest.mark.parametrize("modes", [SYMMETRIC, ASYMMETRIC], ids=["symmetric", "asymmetric"])
    def test_gradient_descent_follows_the_equations_the_better_the_smaller_its_steps(self, name, modes):
        loss, rate = FLOWS[name]
        start = np.stack([np.full(len(modes.first), 0.2), np.array([0.25, 0.1, 0.15])])
        errors = []
        for learning_rate in (2e-3, 1e-3):
            time, s = gradient_descent(loss, modes, start, learning_rate, 1.5)
            expected = integrate(lambda y: rate(y, modes), start, time).values
            errors.append(np.abs(s - expected).max())
        assert errors[1] < 5e-3
        assert errors[0] / errors[1] == pytest.approx(2, rel=0.05)

    def test_different_left_factors_have_no_equations_of_the_modes(self):
        """FroSSL's Prop. D.1 lets U1 and U2 differ: then the singular vectors rotate, and modes do not stay apart."""
        vectors = orthonormal(INPUTS, 3)
        moments = Moments.aligned(SYMMETRIC, vectors)
        first, second = orthonormal(OUTPUTS, 3, 1), orthonormal(OUTPUTS, 3, 2)
        start = np.full(3, 0.3)
        weights = (
            aligned_weights(start, start, outputs=first, vectors=vectors)[0],
            aligned_weights(start, start, outputs=second, vectors=vectors)[1],
        )
        end = descend(
            lambda w1, w2: frossl_loss(w1, w2, moments),
            weights,
            learning_rate=1e-3,
            steps=300,
            observe=lambda w1, w2: first.mT @ w1 @ vectors,
            every=300,
        ).values[-1]
        assert np.abs(end - np.diag(np.diag(end))).max() > 1e-2

    @pytest.mark.parametrize("rate", [barlow_rate, spectral_contrastive_rate])
    def test_the_difference_of_squares_is_conserved(self, rate):
        start = np.array([[0.5, 0.2, 0.1], [0.1, 0.4, 0.3]])
        s = integrate(lambda y: rate(y, ASYMMETRIC), start, np.linspace(0, 5, 20)).values
        kept = s[:, 0] ** 2 - s[:, 1] ** 2
        np.testing.assert_allclose(kept, np.broadcast_to(kept[0], kept.shape), atol=1e-7)
        assert np.abs(s[-1] - s[0]).max() > 0.1

    def test_frossl_does_not_conserve_it(self):
        start = np.array([[0.5, 0.2, 0.1], [0.1, 0.4, 0.3]])
        s = integrate(lambda y: frossl_rate(y, ASYMMETRIC), start, [0.0, 1.0]).values
        assert np.abs(np.diff(s[:, 0] ** 2 - s[:, 1] ** 2, axis=0)).max() > 0.01

    def test_the_printed_equation_does_not_fit(self):
        """FroSSL, Eqs. 30 to 32: lambda - 2 sqrt(lambda gamma) in place of lambda + sqrt(lambda gamma), at rho = 1."""
        modes = Modes.correlated(1.0, np.array([1.0, 0.5]))
        start = np.full((2, 2), 0.1)
        time, s = gradient_descent(frossl_loss, modes, start, 1e-3, 1.0)
        root = np.sqrt(modes.first * modes.second)
        printed = integrate(lambda y: 2 * y * (modes.first - 2 * root - 2 * y**2 * modes.first**2), start, time).values
        assert s[-1].min() > 0.3  # it grows
        assert printed[-1].max() < 0.1  # printed, it decays

    @pytest.mark.parametrize("ratio", [1.01, 1.5, 4.0])
    def test_taking_both_layers_for_equal_is_an_approximation_where_variances_differ(self, ratio):
        """The paper sets s2 = s1 for lambda != gamma too (Eq. 33)."""
        modes = Modes.correlated(0.9, np.array([1.0]), np.array([ratio]))
        start = np.full((2, 1), 0.05)
        exact = integrate(lambda y: frossl_rate(y, modes), start, np.linspace(0, 4, 200)).values[:, 0, 0] ** 2
        mixed = modes.first + modes.cross
        simple = mixed / (2 * modes.first**2)
        approximate = simple / (1 + (simple / start[0] ** 2 - 1) * np.exp(-4 * mixed * np.linspace(0, 4, 200)[:, None]))
        error = np.abs(approximate[:, 0] / exact - 1).max()
        least, most = {1.01: (1e-3, 0.02), 1.5: (0.05, 0.5), 4.0: (0.2, 2.0)}[ratio]
        assert least < error < most


class TestClosedForms:
    @pytest.mark.parametrize("name", GROWTHS)
    def test_is_the_solution_of_the_equation(self, name):
        growth, rate = GROWTHS[name](SYMMETRIC), FLOWS[name][1]
        time = np.linspace(0, 8, 50)
        expected = integrate(lambda y: rate(y, SYMMETRIC), np.full((2, 3), 0.1), time).values[:, 0] ** 2
        np.testing.assert_allclose(growth.at(time, 0.01), expected, rtol=1e-6)

    @pytest.mark.parametrize("name", GROWTHS)
    def test_comes_to_its_limit_where_the_loss_is_least(self, name):
        growth, loss = GROWTHS[name](SYMMETRIC), FLOWS[name][0]
        assert growth.at(np.array([1e3]), 0.01)[0] == pytest.approx(growth.limit, rel=1e-9)
        eye = torch.eye(3, dtype=torch.float64)
        moments = Moments.aligned(SYMMETRIC)

        def at(squared):
            s = np.sqrt(squared)
            return float(loss(*aligned_weights(s, s, outputs=eye, vectors=eye), moments))

        for sign, mode in itertools.product((-1, 1), range(3)):
            moved = growth.limit.copy()
            moved[mode] *= 1 + sign * 1e-3
            assert at(moved) > at(growth.limit)

    @pytest.mark.parametrize("name", GROWTHS)
    @pytest.mark.parametrize("fraction", [0.5, 0.99])
    def test_the_time_to_reach_a_fraction_is_when_it_is_reached(self, name, fraction):
        growth = GROWTHS[name](SYMMETRIC)
        time = growth.time_to_reach(fraction, 1e-4)
        reached = np.diagonal(growth.at(time, 1e-4))
        np.testing.assert_allclose(reached, fraction * growth.limit, rtol=1e-12)

    def test_frossl_is_faster_by_one_plus_the_inverse_correlation(self):
        ratio = frossl_growth(SYMMETRIC).rate / barlow_growth(SYMMETRIC).rate
        np.testing.assert_allclose(ratio, 1 + 1 / SYMMETRIC.rho, rtol=1e-12)

    @pytest.mark.slow
    @pytest.mark.parametrize(("rho", "expected"), [(1.0, 2.00), (0.9, 2.14), (0.6, 2.84), (0.3, 4.95)])
    def test_time_to_99_percent_of_the_own_limit(self, rho, expected):
        """Barlow's time over FroSSL's from s0 = 1e-2 and lambda = 1, by formula and by gradient descent."""
        modes = Modes.correlated(rho, np.array([1.0]))
        times = {}
        for name, growth in GROWTHS.items():
            own = growth(modes)
            times[name] = float(own.time_to_reach(0.99, 1e-4)[0])
            if name == "spectral contrastive":
                continue
            time, s = gradient_descent(FLOWS[name][0], modes, np.full((2, 1), 1e-2), 2e-3, 1.2 * times[name])
            crossed = time[np.argmax(s[:, 0, 0] ** 2 >= 0.99 * own.limit[0])]
            assert crossed == pytest.approx(times[name], rel=0.02)
        assert times["barlow"] / times["frossl"] == pytest.approx(expected, rel=0.03)

    def test_the_printed_form_decays(self):
        """FroSSL, Eq. 18 (and 33, 34), at rho = 1 and lambda = gamma: it goes to 0 where the layers grow."""
        modes = Modes.correlated(1.0, np.array([1.0, 0.5]))
        time, s0 = np.linspace(0, 9, 50)[:, None], 0.1
        root = np.sqrt(modes.first * modes.second)
        apart = 2 * root - modes.first
        printed = apart / (
            (2 * modes.first**2 + apart / s0**2) * np.exp(8 * time * root - 4 * modes.first * time) - 2 * modes.first**2
        )
        right = frossl_growth(modes).at(time[:, 0], s0**2)
        np.testing.assert_allclose(printed[0], right[0])
        assert (np.diff(printed, axis=0) < 0).all()
        assert printed[-1].max() < 1e-6
        assert (np.diff(right, axis=0) >= 0).all()
        np.testing.assert_allclose(right[-1], 1 / modes.first, rtol=1e-3)


class TestVICReg:
    @pytest.mark.slow
    def test_gradient_descent_follows_the_equations_and_the_closed_form(self):
        """With one mode an output; weights of 1 keep the corner at a standard deviation of 1 within reach."""
        options = {"variance_weight": 1.0, "invariance_weight": 1.0}
        modes = Modes.correlated(np.array([0.9, 0.2, 0.0]), np.array([1.0, 0.5, 0.2]))
        start = np.full((2, 3), 0.1)
        eye = torch.eye(3, dtype=torch.float64)
        errors = []
        for learning_rate in (4e-3, 2e-3):
            time, s = gradient_descent(
                vicreg_loss, modes, start, learning_rate, 5.0, outputs=eye, vectors=eye, **options
            )
            closed = vicreg_growth(time, 0.1, modes, **options)
            errors.append(np.abs(s[:, 0] - closed).max())
        assert errors[1] < 5e-3
        assert errors[0] / errors[1] == pytest.approx(2, rel=0.15)
        deviation = np.sqrt(modes.first) * s[-1, 0]
        assert deviation[0] == pytest.approx(1, abs=0.01)  # correlated views are held by the hinge
        expected = integrate(lambda y: vicreg_rate(y, modes, **options), start, [0.0, 1.0]).values[1, 0]
        np.testing.assert_allclose(vicreg_growth(np.array([1.0]), 0.1, modes, **options)[0], expected, rtol=1e-6)

    def test_its_limit_without_the_hinge(self):
        modes = Modes.correlated(np.array([0.0, -0.5]), np.array([1.0, 2.0]))
        s = vicreg_growth(np.array([1e3]), 0.01, modes, variance_weight=1.0, invariance_weight=1.0)[0]
        np.testing.assert_allclose(np.sqrt(modes.first) * s, 1 / (2 * (1 - modes.rho)), rtol=1e-12)

    def test_rotated_outputs_have_no_equations_of_the_modes(self):
        options = {"variance_weight": 1.0, "invariance_weight": 1.0}
        with pytest.raises(AssertionError):
            gradient_descent(vicreg_loss, SYMMETRIC, np.full((2, 3), 0.1), 1e-3, 1.0, **options)


class TestFixedPoints:
    @pytest.mark.parametrize("rho", [-0.7, -0.2, 0.0, 0.3, 0.49, 0.6, 0.95, 1.0])
    def test_nothing_moves_there(self, rho):
        modes = Modes.correlated(rho, np.array([1.3]), np.array([0.4]))
        for point in fixed_points(rho):
            s = np.array([[point.a / np.sqrt(1.3)], [point.b / np.sqrt(0.4)]])
            np.testing.assert_allclose(frossl_rate(s, modes), 0, atol=1e-12)
            assert point.loss == pytest.approx(float(mode_loss(point.a, point.b, rho)))

    @pytest.mark.parametrize("rho", [-0.7, -0.2, 0.3, 0.4, 0.6, 0.95])
    def test_there_are_no_others_and_each_is_what_it_is_said_to_be(self, rho):
        """From anywhere the flow goes to one of the minima; from beside a saddle it goes away, from a minimum back."""
        modes = Modes.correlated(rho, np.array([1.0]))
        points = fixed_points(rho)
        minima = [p for p in points if "minimum" in p.kind]
        grid = np.stack(np.meshgrid(np.linspace(-1.5, 1.5, 14), np.linspace(-1.4, 1.6, 14))).reshape(2, -1)
        flow = Modes.correlated(rho, np.ones(grid.shape[1]))
        ends = integrate(lambda y: frossl_rate(y, flow), grid, [0.0, 60.0]).values[-1]
        places = np.array([[p.a, p.b] for p in minima])
        distances = np.abs(ends.T[:, None] - places).max(-1)
        assert distances.min(1).max() < 1e-2
        assert (distances.min(0) < 1e-2).all()  # and every minimum is some start's end
        for point in points:
            place = np.array([[point.a], [point.b]])
            angles = np.linspace(0, 2 * np.pi, 8, endpoint=False)
            starts = place + 1e-3 * np.stack([np.cos(angles), np.sin(angles)])
            around = Modes.correlated(rho, np.ones(8))
            later = integrate(lambda y, around=around: frossl_rate(y, around), starts, [0.0, 20.0]).values[-1]
            away = np.linalg.norm(later - place, axis=0)
            if "minimum" in point.kind:
                assert away.max() < 1e-3, point
            else:
                assert away.max() > 0.05, point
        assert modes.rho[0] == pytest.approx(rho)

    @pytest.mark.parametrize(("rho", "kind"), [(0.3, "spurious minimum"), (0.5, "degenerate"), (0.7, "saddle")])
    def test_opposite_signs_hold_below_a_correlation_of_one_half(self, rho, kind):
        opposite = next(p for p in fixed_points(rho) if p.a > 0 > p.b and abs(p.a + p.b) < 1e-12)
        assert opposite.kind == kind

    def test_the_least_loss(self):
        for rho in (0.2, 0.8):
            least = min(point.loss for point in fixed_points(rho))
            assert least == pytest.approx(2 * (1 - ((1 + rho) / 2) ** 2), rel=1e-12)
            a, b = np.meshgrid(np.linspace(-2, 2, 201), np.linspace(-2, 2, 201))
            assert mode_loss(a, b, rho).min() >= least - 1e-12


class TestRefused:
    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda: Modes(np.ones(2), np.ones(2), np.array([0.5, 1.5])), "rho in mode 1 is 1.5: it must lie in"),
            (lambda: Modes.correlated(-1.2, np.ones(1)), "rho in mode 0 is -1.2"),
            (lambda: Modes(np.array([1.0, 0.0]), np.ones(2), np.zeros(2)), "eigenvalue 1 of the first view is 0"),
            (lambda: Modes(np.ones(2), np.array([1.0, -2.0]), np.zeros(2)), "eigenvalue 1 of the second view is -2"),
            (lambda: Modes(np.ones(2), np.ones(3), np.ones(2)), "as many, got shapes"),
            (
                lambda: Moments(torch.eye(2), torch.eye(2), 1.5 * torch.eye(2)),
                "has the eigenvalue -0.5",
            ),
            (lambda: Moments(torch.tensor([[1.0, 1.0], [0.0, 1.0]]), torch.eye(2), torch.eye(2)), "not symmetric"),
            (lambda: Moments(torch.eye(2), torch.eye(3), torch.eye(2)), "three square matrices of one size"),
            (lambda: Moments.of(torch.ones(3, 2), torch.ones(2, 2)), "of one shape"),
            (lambda: fixed_points(1.2), "rho is 1.2: a correlation lies in"),
            (lambda: frossl_growth(ASYMMETRIC), "eigenvalues differ"),
            (lambda: barlow_growth(Modes.correlated(-0.1, np.ones(1))), "does not grow"),
            (lambda: frossl_growth(SYMMETRIC).at(np.ones(1), 0.0), "start is 0"),
            (lambda: frossl_growth(SYMMETRIC).time_to_reach(1.0, 0.1), "never reached"),
            (lambda: frossl_growth(SYMMETRIC).time_to_reach(0.5, 99.0), "below 0.5 of the limit"),
            (lambda: vicreg_growth(np.ones(1), 5.0, SYMMETRIC), "at most 1"),
        ],
    )
    def test_with_the_thing_and_the_remedy(self, make, message):
        with pytest.raises(ValueError, match=message.replace("[", r"\[")):
            make()

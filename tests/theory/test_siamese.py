"""The eight Siamese losses: identities, equations against gradient descent, closed forms, invariants, errata.

Gradient descent here takes exact expectations over inputs and noise (``expected_loss``), so that what differs from the
equations is its step alone. Only what is said to be drawn is.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

from solo_frossl.losses.closed_form import (
    asymmetric_cosine_loss,
    asymmetric_euclidean_loss,
    iso_cosine_loss,
    iso_euclidean_loss,
)
from solo_frossl.theory.flow import descend, integrate
from solo_frossl.theory.siamese import (
    LOSSES,
    Siamese,
    alignment,
    balanced_views,
    common_eigenvalue,
    conserved,
    correlation,
    draw_views,
    eigenvalues,
    equalisation_rate,
    expected_loss,
    fixed_points,
    fresh_loss,
    imbalance,
    mode_weights,
    predictor,
    predictor_eigenvalues,
    rate,
    sample_loss,
    solution,
    time_to_reach,
    trainable_loss,
)

OUTPUTS, INPUTS, SEEDS = 3, 4, 2
EUCLIDEAN, COSINE = LOSSES[:4], LOSSES[4:]
PLAIN, ISO, NO_STOP_GRADIENT, NO_PREDICTOR = EUCLIDEAN
START = np.array([0.424, 0.243, 0.099, 0.072])
"""Eigenvalues that half times are given for."""


def name(siamese):
    options = [f"alpha {siamese.alpha}"] if siamese.alpha != 1 else []
    options += [option for option in ("normalize", "noisy_correlation") if getattr(siamese, option)]
    return " ".join([siamese.similarity, siamese.variant, *options])


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def weights(*seeds, seed=0):
    """Any: what gradient descent starts from has nothing to be aligned with."""
    return 0.4 * random(*seeds, OUTPUTS, INPUTS, seed=seed)


def orthonormal(rows, columns, seed=0):
    return torch.linalg.qr(random(rows, columns, seed=seed))[0]


def gradient(loss, *tensors):
    leaves = [t.detach().clone().requires_grad_() for t in tensors]
    return torch.autograd.grad(loss(*leaves).sum(), leaves)


def descended(siamese, w, learning_rate, time):
    return descend(
        lambda w: expected_loss(w, siamese),
        [w],
        learning_rate=learning_rate,
        steps=round(time / learning_rate),
        observe=eigenvalues,
    )


def flow(siamese, start, times):
    return integrate(lambda s: rate(s, siamese), start, times).values


# --------------------------------------------------------------------------------------------------------------- views


class TestViews:
    def test_balanced_ones_have_exactly_the_moments(self):
        view1, view2 = balanced_views(5, 0.3)
        count, eye = len(view1), torch.eye(5, dtype=torch.float64)
        assert count == 30
        for view in (view1, view2):
            torch.testing.assert_close(view.T @ view / count, 1.09 * eye, rtol=1e-12, atol=1e-12)
            assert float(view.mean(0).abs().max()) < 1e-12
        torch.testing.assert_close(view1.T @ view2 / count, eye, rtol=1e-12, atol=1e-12)

    def test_drawn_ones_have_them_nearly_and_every_seed_its_own(self):
        generator = torch.Generator().manual_seed(0)
        view1, view2 = draw_views(20_000, 3, 0.5, generator, (2,))
        assert view1.shape == view2.shape == (2, 20_000, 3)
        assert not torch.equal(view1[0], view1[1])
        eye = torch.eye(3, dtype=torch.float64).expand(2, 3, 3)
        torch.testing.assert_close(view1.mT @ view1 / 20_000, 1.25 * eye, rtol=0, atol=0.05)
        torch.testing.assert_close(view1.mT @ view2 / 20_000, eye, rtol=0, atol=0.05)


class TestCorrelation:
    @pytest.mark.parametrize("relu", [False, True])
    @pytest.mark.parametrize("noisy", [False, True])
    def test_is_that_of_samples(self, relu, noisy):
        siamese = Siamese("euclidean", sigma=0.5, noisy_correlation=noisy)
        w = weights(SEEDS)
        w[1, 0] = 0  # an output that is always 0
        view, _ = draw_views(200_000, INPUTS, 0.5 if noisy else 0.0, torch.Generator().manual_seed(1))
        z = view @ w.mT
        z = z.relu() if relu else z
        torch.testing.assert_close(
            correlation(w, siamese, relu=relu), z.mT @ z / len(view), rtol=0.02, atol=0.003, check_stride=False
        )
        expected = torch.linalg.eigvalsh(correlation(w, replace(siamese, noisy_correlation=False), relu=relu)).flip(-1)
        torch.testing.assert_close(eigenvalues(w, relu=relu), expected)

    def test_weights_have_the_eigenvalues_they_are_made_of(self):
        s = np.array([[3.0, 1.0, 0.5], [2.0, 0.2, 0.0]])
        w = mode_weights(s, outputs=orthonormal(4, 3), vectors=orthonormal(5, 3, 1))
        assert w.shape == (2, 4, 5)
        np.testing.assert_allclose(eigenvalues(w)[:, :3], s, atol=1e-12)

    @pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
    @pytest.mark.parametrize("normalize", [False, True])
    @pytest.mark.parametrize("noisy", [False, True])
    def test_the_predictor_has_its_eigenvectors_and_a_power_of_its_eigenvalues(self, alpha, normalize, noisy):
        siamese = Siamese("cosine", alpha=alpha, normalize=normalize, noisy_correlation=noisy)
        w = weights(SEEDS)
        w_p, c = predictor(w, siamese), w @ w.mT
        torch.testing.assert_close(w_p @ c, c @ w_p)
        s = eigenvalues(w).numpy()
        expected = (s / s.max(-1, keepdims=True) if normalize else s * (1.01 if noisy else 1)) ** alpha
        np.testing.assert_allclose(torch.linalg.eigvalsh(w_p).flip(-1), expected, rtol=1e-9)
        np.testing.assert_allclose(predictor_eigenvalues(s, siamese), expected, rtol=1e-12)
        assert predictor(w, NO_PREDICTOR) is None


# -------------------------------------------------------------------------------------------------------------- losses


class TestSampleLosses:
    @pytest.mark.parametrize("siamese", LOSSES, ids=name)
    def test_are_the_equations_in_the_predictors_eigenspace(self, siamese):
        """Lemma 1 and Appendix C, mode by mode."""
        siamese = replace(siamese, alpha=0.5)
        view1, view2 = draw_views(7, INPUTS, 0.5, torch.Generator().manual_seed(1))
        w = weights()
        s, u = (x.numpy() for x in torch.linalg.eigh(w @ w.T))
        lam = np.ones(OUTPUTS) if siamese.variant == "no_predictor" else s**0.5
        a, b = ((view @ w.T).numpy() @ u for view in (view1, view2))
        predicted = a * lam
        long, short = np.linalg.norm(predicted, axis=1), np.linalg.norm(b, axis=1)
        along = (predicted * b).sum(1)
        if siamese.similarity == "euclidean":
            expected = ((predicted - b) ** 2).sum(1) / 2
        elif siamese.variant == "iso":
            expected = -(a * b).sum(1) / (long * short) + along / (long**3 * short) * (lam * a * a).sum(1) / 2
        else:
            expected = -along / (long * short)
        assert float(sample_loss(w, view1, view2, siamese)) == pytest.approx(expected.mean(), rel=1e-10)

    @pytest.mark.parametrize("siamese", LOSSES, ids=name)
    def test_and_their_gradients_are_the_products(self, siamese):
        function = {
            "euclidean": (asymmetric_euclidean_loss, iso_euclidean_loss),
            "cosine": (asymmetric_cosine_loss, iso_cosine_loss),
        }[siamese.similarity][siamese.variant == "iso"]
        options = {"stop_gradient": False} if siamese.variant == "no_stop_gradient" else {}
        view1, view2 = draw_views(7, INPUTS, 0.5, torch.Generator().manual_seed(1))
        c = weights() @ weights().T
        w_p = None if siamese.variant == "no_predictor" else c
        expected = gradient(lambda w: function(view1 @ w.T, view2 @ w.T, w_p, **options), weights())
        torch.testing.assert_close(gradient(lambda w: sample_loss(w, view1, view2, siamese), weights()), expected)

    @pytest.mark.parametrize("relu", [False, True])
    @pytest.mark.parametrize("siamese", LOSSES, ids=name)
    def test_seeds_are_apart(self, siamese, relu):
        w = weights(SEEDS, 1)
        shared = draw_views(9, INPUTS, 0.5, torch.Generator().manual_seed(1))
        own = draw_views(9, INPUTS, 0.5, torch.Generator().manual_seed(1), (SEEDS, 1))
        for views in (shared, own):
            together = sample_loss(w, *views, siamese, relu=relu)
            assert together.shape == (SEEDS, 1)
            for i in range(SEEDS):
                alone = sample_loss(w[i, 0], *(v if v.ndim == 2 else v[i, 0] for v in views), siamese, relu=relu)
                assert float(together[i, 0]) == pytest.approx(float(alone), rel=1e-12)

    @pytest.mark.parametrize("alpha", [0.5, 1.0])
    def test_euclidean_isoloss_has_the_value_of_the_plain_one_and_its_gradient_but_for_the_predictor(self, alpha):
        """Eqs. 15 and 3: equal values, W_P grad_iso = grad."""
        views, w = draw_views(7, INPUTS, 0.5, torch.Generator().manual_seed(1)), weights()
        plain, iso = (replace(siamese, alpha=alpha) for siamese in (PLAIN, ISO))
        assert float(sample_loss(w, *views, iso)) == pytest.approx(float(sample_loss(w, *views, plain)), rel=1e-12)
        (grad,), (iso_grad,) = (gradient(lambda w, s=s: sample_loss(w, *views, s), w) for s in (plain, iso))
        torch.testing.assert_close(predictor(w, plain) @ iso_grad, grad, rtol=1e-10, atol=1e-14)
        assert float((grad - iso_grad).norm() / grad.norm()) > 0.1

    @pytest.mark.parametrize("alpha", [0.5, 1.0])
    def test_cosine_isoloss_has_its_gradient_but_for_the_predictor_and_another_value(self, alpha):
        """Eqs. 17 and 4."""
        views, w = draw_views(7, INPUTS, 0.5, torch.Generator().manual_seed(1)), weights()
        plain, iso = (replace(siamese, alpha=alpha) for siamese in COSINE[:2])
        (grad,), (iso_grad,) = (gradient(lambda w, s=s: sample_loss(w, *views, s), w) for s in (plain, iso))
        torch.testing.assert_close(predictor(w, plain) @ iso_grad, grad, rtol=1e-10, atol=1e-14)
        assert abs(float(sample_loss(w, *views, iso) - sample_loss(w, *views, plain))) > 0.1

    def test_fresh_samples_are_new_at_each_call_and_right_on_average(self):
        siamese, w = PLAIN, weights(SEEDS)
        loss = fresh_loss(siamese, samples=4000, generator=torch.Generator().manual_seed(2))
        first, second = loss(w), loss(w)
        assert first.shape == (SEEDS,)
        assert (first != second).all()
        torch.testing.assert_close(first, expected_loss(w, siamese), rtol=0.1, atol=0)
        alike = loss(w[:1].expand(2, -1, -1))
        assert alike[0] != alike[1]


class TestExpectedLosses:
    def test_the_euclidean_one_is_known(self):
        """E ||W_P z_1 - z_2||^2 / 2 = (k tr W_P C W_P - 2 tr W_P C + k tr C) / 2."""
        w = weights()
        c = w @ w.T
        expected = (1.01 * torch.trace(c @ c @ c) - 2 * torch.trace(c @ c) + 1.01 * torch.trace(c)) / 2
        for siamese in EUCLIDEAN[:3]:
            assert float(expected_loss(w, siamese)) == pytest.approx(float(expected), rel=1e-12)
        assert float(expected_loss(w, NO_PREDICTOR)) == pytest.approx(0.01 * float(torch.trace(c)), rel=1e-12)

    @pytest.mark.parametrize("siamese", COSINE, ids=name)
    def test_the_cosines_are_the_means_of_samples(self, siamese):
        siamese, w = replace(siamese, sigma=1.0, alpha=0.5), weights(seed=3)
        batches = [draw_views(20_000, INPUTS, 1.0, torch.Generator().manual_seed(i)) for i in range(8)]
        drawn = torch.stack([sample_loss(w, *views, siamese) for views in batches])
        error = float(drawn.std()) / len(batches) ** 0.5
        assert abs(float(drawn.mean() - expected_loss(w, siamese))) < 5 * error
        assert error < 2e-3

    @pytest.mark.parametrize("siamese", LOSSES, ids=name)
    def test_seeds_are_apart(self, siamese):
        w = weights(SEEDS)
        w[1] *= torch.tensor([1.0, 0.1, 0.01], dtype=torch.float64)[:, None]
        together = expected_loss(w, siamese)
        assert together.shape == (SEEDS,)
        for i in range(SEEDS):
            assert float(together[i]) == pytest.approx(float(expected_loss(w[i], siamese)), rel=1e-7)

    def test_without_noise_and_predictor_the_cosine_is_one(self):
        assert float(expected_loss(weights(), Siamese("cosine", "no_predictor", sigma=0.0))) == pytest.approx(-1)

    def test_one_output_knows_only_signs(self):
        """E[sign x_1 sign x_2] = (2 / pi) arcsin(1 / k)."""
        loss = expected_loss(torch.ones(1, 1, dtype=torch.float64), Siamese("cosine", sigma=1.0))
        assert float(loss) == pytest.approx(-1 / 3, abs=1e-6)

    @pytest.mark.parametrize("siamese", COSINE, ids=name)
    @pytest.mark.parametrize("least", [1e-8, 1e-12])
    def test_without_noise_eigenvalues_may_be_far_apart(self, siamese, least):
        """There the covariance of both views together has rank M: nothing that is inverted may cancel."""
        siamese, s = replace(siamese, sigma=0.0), np.array([1.0, 0.5, least, least**2])
        u, v = (torch.linalg.qr(random(n, 4))[0] for n in (4, 6))
        w = mode_weights(s, outputs=u, vectors=v)
        (grad,) = gradient(lambda w: expected_loss(w, siamese), w)
        found = -2 * torch.diagonal(u.T @ grad @ w.T @ u)
        np.testing.assert_allclose(found, rate(s, siamese), atol=1e-8)


# ----------------------------------------------------------------------------------------------------------- equations


class TestEquations:
    @pytest.mark.parametrize("siamese", LOSSES, ids=name)
    def test_the_gradient_turns_no_singular_vectors(self, siamese):
        """U^T grad V is diagonal, and its diagonal is what the equations say: ds/dt = -2 sqrt(s) grad."""
        siamese = replace(siamese, alpha=0.7, sigma=0.4)
        w = weights(SEEDS)
        u, roots, vt = torch.linalg.svd(w)
        (grad,) = gradient(lambda w: expected_loss(w, siamese), w)
        inside = u.mT @ grad @ vt.mT
        diagonal = torch.diagonal(inside, dim1=-2, dim2=-1)
        beside = inside.clone()
        torch.diagonal(beside, dim1=-2, dim2=-1).zero_()
        assert float(beside.abs().max()) < 1e-10
        expected = rate((roots**2).numpy(), siamese)
        np.testing.assert_allclose(-2 * roots * diagonal, expected, rtol=0, atol=1e-9)
        assert np.abs(expected).max() > 1e-3

    @pytest.mark.parametrize(
        "siamese", [*LOSSES, *(replace(siamese, alpha=0.5) for siamese in (PLAIN, ISO, NO_STOP_GRADIENT))], ids=name
    )
    def test_gradient_descent_follows_them_the_better_the_smaller_its_steps(self, siamese):
        """From any weights: every W is aligned with its own singular vectors."""
        w = weights(seed=3)
        time, learning_rate = (3.0, 0.5) if siamese.variant == "no_predictor" else (0.4, 0.1)
        errors = []
        for rate_ in (learning_rate, learning_rate / 2):
            seen = descended(siamese, w, rate_, time)
            expected = flow(siamese, seen.values[0], seen.time)
            errors.append(np.abs(seen.values - expected).max())
        moved = np.abs(expected[-1] - expected[0]).max()
        assert moved > 5e-3
        assert errors[1] < 0.05 * moved
        assert errors[0] / errors[1] == pytest.approx(2, rel=0.06)

    @pytest.mark.parametrize("options", [{"normalize": True}, {"noisy_correlation": True}, {"sigma": 0.0}], ids=str)
    @pytest.mark.parametrize("siamese", [PLAIN, ISO, NO_STOP_GRADIENT, COSINE[1]], ids=name)
    def test_with_every_option(self, siamese, options):
        siamese = replace(siamese, **({"sigma": 0.5} | options))
        w = torch.stack([weights(seed=3), weights(seed=5)])
        seen = descended(siamese, w, 0.01, 0.06)
        expected = flow(siamese, seen.values[0], seen.time)
        assert np.abs(seen.values - expected).max() < 0.03 * np.abs(expected[-1] - expected[0]).max()

    @pytest.mark.parametrize("siamese", COSINE, ids=name)
    def test_the_cosines_expectations_are_the_means_of_samples(self, siamese):
        """Ten modes over two decades, p and q drawn: no use is made of how the integrals are done."""
        siamese = replace(siamese, alpha=0.5, sigma=0.5)
        s = np.geomspace(1.0, 0.02, 10)
        random = np.random.default_rng(0)
        lam = np.ones(10) if siamese.variant == "no_predictor" else s**0.5
        samples = []
        for _ in range(6):
            x, n1, n2 = random.standard_normal((3, 20_000, 10))
            p, q = lam * np.sqrt(s) * (x + 0.5 * n1), np.sqrt(s) * (x + 0.5 * n2)
            p, q = (y / np.linalg.norm(y, axis=1, keepdims=True) for y in (p, q))
            c = (p * q).sum(1, keepdims=True)
            pull = p * q - c * p**2
            if siamese.variant == "no_stop_gradient":
                pull = pull + p * q - c * q**2
            samples.append(2 * (pull / (lam if siamese.variant == "iso" else 1)).mean(0))
        error = np.std(samples, axis=0, ddof=1) / 6**0.5
        expected = rate(s, siamese)
        assert np.abs((np.mean(samples, axis=0) - expected) / error).max() < 6
        assert error.max() < 0.07 * np.abs(expected).max()

    def test_spectra_apart_and_together(self):
        """Leading dimensions, modes that are 0, and rounding below 0."""
        s = np.array([[1.0, 0.3, 0.0], [1e-4, 0.2, -1e-15]])
        for siamese in LOSSES:
            together = rate(s, siamese)
            assert np.isfinite(together).all()
            assert np.abs(together[:, 2]).max() < 1e-14
            for i in range(2):
                np.testing.assert_allclose(together[i], rate(s[i], siamese), rtol=1e-6, atol=1e-12)
            np.testing.assert_array_equal(rate(np.zeros(3), siamese), 0)

    def test_the_cosine_does_not_see_the_predictors_scale_and_its_isoloss_goes_as_the_inverse(self):
        s = np.array([2.0, 0.7, 0.1])
        for siamese in COSINE:
            scaled, unscaled = rate(s, replace(siamese, normalize=True)), rate(s, siamese)
            np.testing.assert_allclose(scaled, unscaled * (2.0 if siamese.variant == "iso" else 1.0), rtol=1e-9)


# -------------------------------------------------------------------------------------------------- Euclidean solutions


class TestClosedForms:
    @pytest.mark.parametrize("alpha", [1.0, 0.5])
    @pytest.mark.parametrize("siamese", [PLAIN, ISO, NO_PREDICTOR], ids=name)
    @pytest.mark.parametrize("noisy", [False, True])
    def test_is_the_solution_of_the_equation(self, siamese, alpha, noisy):
        siamese = replace(siamese, alpha=alpha, sigma=0.5, noisy_correlation=noisy)
        start = np.array([1e-3, 0.1, 0.424, 1.0, 7.0])
        time = np.linspace(0, 20, 40)
        np.testing.assert_allclose(solution(time, start, siamese), flow(siamese, start, time), rtol=1e-6)
        np.testing.assert_allclose(solution(time, 0.1, siamese), solution(time, start, siamese)[:, 1], rtol=1e-12)

    @pytest.mark.parametrize("siamese", [PLAIN, ISO], ids=name)
    def test_begins_at_the_start_and_comes_to_one_over_k(self, siamese):
        start = np.array([1e-6, 0.2, 1 / 1.01, 30.0])
        np.testing.assert_allclose(solution(np.zeros(1), start, siamese)[0], start, rtol=1e-9)
        np.testing.assert_allclose(solution(np.array([1e7]), start, siamese)[0], 1 / 1.01, rtol=1e-9)

    @pytest.mark.parametrize("alpha", [1.0, 0.5])
    @pytest.mark.parametrize("sigma", [0.5, 1e-3, 0.0])
    @pytest.mark.parametrize("siamese", EUCLIDEAN, ids=name)
    def test_the_time_to_reach_an_eigenvalue_is_when_it_is_reached(self, siamese, alpha, sigma):
        if siamese.variant == "no_predictor":
            sigma = max(sigma, 0.1)  # or nothing moves
        siamese = replace(siamese, alpha=alpha, sigma=sigma)
        for start in (0.1, 1.9):
            times = np.array([0.1, 1.0, 4.0])
            reached = flow(siamese, np.array([start]), times)[:, 0]
            np.testing.assert_allclose(time_to_reach(reached, start, siamese), times, rtol=1e-5)

    def test_the_equation_of_the_plain_loss_is_that_of_the_predictors_eigenvalue(self):
        """dl/dt = 2 l^2 (1 - k l), and for any alpha the same in lambda, alpha times as fast."""
        for alpha in (0.5, 1.0, 2.0):
            siamese = replace(PLAIN, alpha=alpha)
            lam = START**alpha
            power = alpha * START ** (alpha - 1)
            np.testing.assert_allclose(power * rate(START, siamese), 2 * alpha * lam**2 * (1 - 1.01 * lam), rtol=1e-12)

    @pytest.mark.parametrize(
        ("siamese", "tenths"), [(PLAIN, [0.4, 1.7, 5.2, 7.3]), (ISO, [0.2, 0.6, 1.2, 1.3])], ids=["plain", "iso"]
    )
    def test_half_times(self, siamese, tenths):
        """When l is 1/2, rounded up to a tenth; by formula and by gradient descent."""
        times = time_to_reach(0.5, START, siamese)
        np.testing.assert_allclose(np.ceil(10 * times) / 10, tenths, rtol=1e-12)
        w = mode_weights(START, outputs=orthonormal(4, 4), vectors=orthonormal(5, 4, 1))
        seen = descended(siamese, w, 0.02, times.max() + 0.1)
        reached = seen.time[np.argmax(seen.values >= 0.5, axis=0)]
        np.testing.assert_allclose(reached, times, atol=0.06)

    def test_isoloss_brings_small_eigenvalues_up_sooner(self):
        small = np.array([1e-2, 1e-3, 1e-4])
        slow, fast = (time_to_reach(0.5, small, siamese) for siamese in (PLAIN, ISO))
        np.testing.assert_allclose(slow[1:] / slow[:-1], 10, rtol=0.1)  # as 1 / l0
        np.testing.assert_allclose(np.diff(fast), np.log(10) / 2, rtol=0.02)  # as log(1 / l0)

    def test_printed_limits_are_those_without_noise(self):
        """Eqs. 9 and 16 let lambda come to 1; with noise on both views it comes to 1 / (1 + sigma^2)."""
        for siamese in (PLAIN, ISO):
            noisy, clean = replace(siamese, sigma=0.5), replace(siamese, sigma=0.0)
            end = descended(noisy, weights(), 0.2, 30.0).values[-1]
            np.testing.assert_allclose(end[:2], 0.8, rtol=1e-5)
            np.testing.assert_allclose(solution(np.array([200.0]), 0.1, clean), 1, rtol=1e-6)

    def test_without_predictor_the_printed_equation_does_not_fit(self):
        """Eq. 13 prints no updates; with noise on both views s goes as e^(-2 sigma^2 t): .5488 at t = 30."""
        seen = descended(NO_PREDICTOR, weights(), 0.1, 30.0)
        np.testing.assert_allclose(seen.values[-1] / seen.values[0], np.exp(-0.6), rtol=2e-3)
        assert np.exp(-0.6) == pytest.approx(0.5488, abs=5e-5)
        view, _ = balanced_views(INPUTS, 0.1)
        clean, _ = balanced_views(INPUTS, 0.0)
        (still,) = gradient(lambda w: sample_loss(w, clean, view, NO_PREDICTOR), weights())  # as printed
        assert float(still.abs().max()) < 1e-12

    def test_without_stop_gradient_the_printed_equation_does_not_fit(self):
        """Eq. 12 prints -(1 - lambda)^2, which rests at 1; sigma^2 (1 + lambda^2) is missing."""
        siamese = replace(NO_STOP_GRADIENT, sigma=0.3)
        start = np.array([2.0, 1.2, 0.5])
        w = mode_weights(start, outputs=orthonormal(3, 3), vectors=orthonormal(4, 3, 1))
        seen = descended(siamese, w, 0.01, 3.0)
        right = flow(siamese, start, seen.time)
        printed = integrate(lambda s: -2 * (1 - s) ** 2 * s, start, seen.time).values
        assert np.abs(seen.values - right).max() < 0.05
        assert printed[-1, :2].min() > 1  # it cannot pass
        assert right[-1, :2].max() < 0.9
        assert np.abs(seen.values - printed).max() > 0.2

    @pytest.mark.parametrize("sigma", [0.01, 0.03])
    def test_without_stop_gradient_an_eigenvalue_waits_at_one(self, sigma):
        """Where there was a fixed point without noise: for pi / (2 sqrt(2) alpha sigma)."""
        siamese = Siamese("euclidean", "no_stop_gradient", alpha=0.5, sigma=sigma)
        time = float(time_to_reach(0.5**2, 1.5**2, siamese))
        assert time == pytest.approx(np.pi / (2 * 2**0.5 * 0.5 * sigma), rel=6 * sigma)


class TestFixedPoints:
    @pytest.mark.parametrize("alpha", [1.0, 0.5])
    @pytest.mark.parametrize("sigma", [0.0, 0.5])
    @pytest.mark.parametrize("siamese", EUCLIDEAN, ids=name)
    def test_are_where_nothing_moves_and_are_what_they_are_said_to_be(self, siamese, alpha, sigma):
        """In lambda: the derivative of dlambda/dt is the exponent; and where one that is moved a little goes."""
        siamese = replace(siamese, alpha=alpha, sigma=sigma)
        power = 1.0 if siamese.variant == "no_predictor" else alpha

        def speed(lam):
            s = np.array([lam ** (1 / power)])
            return float(power * s[0] ** (power - 1) * rate(s, siamese)[0])

        for point in fixed_points(siamese):
            here = point.predictor
            assert here == 0 or speed(here) == pytest.approx(0, abs=1e-12)
            step = 1e-5
            slope = (speed(here + step) - (speed(here - step) if here else 0)) / (step * (2 if here else 1))
            assert slope == pytest.approx(point.exponent, abs=1e-3)
            above, below = speed(here + 1e-3), speed(here - 1e-3) if here else None
            if point.kind == "stable":
                assert above < 0
                assert below is None or below > 0
            elif point.kind == "unstable":
                assert above > 0
            elif point.kind == "half-stable":
                assert above < 0
                assert below < 0
            else:
                assert above == 0

    @pytest.mark.parametrize("sigma", [0.0, 0.5])
    @pytest.mark.parametrize("siamese", EUCLIDEAN[:3], ids=name)
    def test_there_are_no_others(self, siamese, sigma):
        siamese = replace(siamese, sigma=sigma)
        known = [point.predictor for point in fixed_points(siamese)]
        s = np.geomspace(1e-3, 50, 4001)
        still = np.abs(rate(s, siamese) / s) < 1e-4
        assert all(min(abs(value - k) for k in known) < 0.02 for value in s[still])

    def test_where_they_are(self):
        assert [p.kind for p in fixed_points(PLAIN)] == ["unstable", "stable"]
        assert [p.predictor for p in fixed_points(ISO)] == pytest.approx([0, 1 / 1.01])
        assert [p.kind for p in fixed_points(NO_STOP_GRADIENT)] == ["stable"]
        assert [p.predictor for p in fixed_points(replace(NO_STOP_GRADIENT, sigma=0.0))] == [0, 1]
        assert [p.kind for p in fixed_points(replace(NO_PREDICTOR, sigma=0.0))] == ["neutral"]


class TestNormalisedPredictor:
    """Eigenvalues divided by the largest, as in the authors' code."""

    @pytest.mark.parametrize("siamese", [PLAIN, ISO], ids=name)
    def test_all_become_equal_at_a_scale_set_by_the_start(self, siamese):
        """The largest goes as e^(-2 sigma^2 t), wherever it is: without noise it stays. The fixed point is not 1."""
        siamese = replace(siamese, normalize=True)
        for scale in (0.3, 1.0, 20.0):
            start = scale * np.array([1.0, 0.5, 0.2])
            end = flow(siamese, start, [0.0, 12.0])[-1]
            assert end[0] == pytest.approx(scale * np.exp(-0.02 * 12), rel=1e-6)
            np.testing.assert_allclose(end, end[0], rtol=2e-3)
            still = flow(replace(siamese, sigma=0.0), start, [0.0, 12.0])[-1]
            assert still[0] == pytest.approx(scale, rel=1e-9)

    def test_the_ratios_follow_an_equation_of_their_own(self):
        """r = lambda: r' = 2 alpha r (1 - r) (k r + sigma^2), and for IsoLoss 2 alpha k r (1 - r)."""
        for siamese, expected in (
            (PLAIN, lambda r: 1.0 * r * (1 - r) * (1.25 * r + 0.25)),
            (ISO, lambda r: 1.25 * r * (1 - r)),
        ):
            siamese = replace(siamese, normalize=True, sigma=0.5, alpha=0.5)
            s = np.array([3.0, 1.0, 0.1])
            r, speed = predictor_eigenvalues(s, siamese), rate(s, siamese)
            np.testing.assert_allclose(0.5 * r * (speed / s - speed[0] / s[0]), expected(r), atol=1e-12)

    @pytest.mark.parametrize("alpha", [0.5, 1.0])
    def test_isoloss_has_a_closed_form(self, alpha):
        siamese = replace(ISO, normalize=True, sigma=0.5, alpha=alpha)
        start, time = np.array([2.0, 0.5, 1e-3]), np.linspace(0, 6, 20)
        np.testing.assert_allclose(solution(time, start, siamese), flow(siamese, start, time), rtol=1e-6)
        assert solution(time, 2.0, siamese)[-1] == pytest.approx(2 * np.exp(-3.0))

    def test_gradient_descent_does_not_come_to_one_over_k(self):
        end = descended(replace(ISO, normalize=True), 2 * weights(), 0.1, 10.0).values[-1]
        largest = float(eigenvalues(2 * weights())[0])
        np.testing.assert_allclose(end[:2], largest * np.exp(-0.2), rtol=0.01)
        assert abs(end[0] - 1 / 1.01) > 0.5


# -------------------------------------------------------------------------------------------------------- cosine limits


SPREAD = np.array([1.84, 1.36, 1.18, 0.91, 0.74, 0.56, 0.31, 0.2, 0.06, 0.05])


class TestInvariants:
    @pytest.mark.parametrize("alpha", [1.0, 0.5])
    @pytest.mark.parametrize("siamese", COSINE, ids=name)
    def test_are_conserved_by_the_equations(self, siamese, alpha):
        siamese = replace(siamese, alpha=alpha)
        s = flow(siamese, SPREAD, [0.0, 1.0, 40.0 if siamese.variant == "no_predictor" else 4.0])
        np.testing.assert_allclose(conserved(s, siamese), conserved(SPREAD, siamese), rtol=1e-7)
        assert np.abs(s[-1] - s[0]).max() > 0.01

    def test_are_each_losss_own(self):
        """The sum of eigenvalues is not IsoLoss's, nor the sum of their powers the plain loss's."""
        plain, iso = COSINE[:2]
        assert np.ptp(conserved(flow(plain, SPREAD, [0.0, 20.0]), iso)) > 0.1
        assert np.ptp(conserved(flow(iso, SPREAD, [0.0, 20.0]), plain)) > 0.1

    @pytest.mark.parametrize("siamese", COSINE, ids=name)
    def test_gradient_descent_conserves_them_the_better_the_smaller_its_steps(self, siamese):
        time, learning_rate = (2.0, 0.5) if siamese.variant == "no_predictor" else (0.3, 0.1)
        drifts = []
        for rate_ in (learning_rate, learning_rate / 2):
            kept = conserved(descended(siamese, weights(seed=3), rate_, time).values, siamese)
            drifts.append(kept[-1] - kept[0])
        assert 0 < drifts[1] < 0.05  # a gradient at right angles to the weights makes them longer
        assert drifts[0] / drifts[1] == pytest.approx(2, rel=0.15)

    @pytest.mark.parametrize("siamese", [COSINE[0], COSINE[1], COSINE[3]], ids=name)
    def test_all_eigenvalues_become_equal_at_the_value_that_they_conserve(self, siamese):
        siamese = replace(siamese, alpha=0.5)
        start = SPREAD[::3]
        limit = common_eigenvalue(start, siamese)
        time = 15_000.0 if siamese.variant == "no_predictor" else 150.0
        end = flow(siamese, start, [0.0, time])[-1]
        np.testing.assert_allclose(end, limit, rtol=1e-3)
        power = 1.5 if siamese.variant == "iso" else 1.0
        assert limit == pytest.approx(np.mean(start**power) ** (1 / power))

    def test_without_predictor_that_takes_thousands(self):
        """Still apart by a fifth at t = 1000, where the plain loss takes 150 from modes as near as these."""
        slow = flow(COSINE[3], SPREAD, [0.0, 1000.0, 20_000.0])
        assert np.ptp(slow[1]) / slow[1].mean() > 0.2
        np.testing.assert_allclose(slow[2], SPREAD.mean(), rtol=5e-3)

    def test_without_stop_gradient_few_modes_survive_and_none_diverges(self):
        """Table 1 and Appendix C.2 say that all eigenvalues diverge: their sum is conserved, and most go to 0."""
        siamese = COSINE[2]
        end = flow(siamese, SPREAD, [0.0, 50.0])[-1]
        assert end.sum() == pytest.approx(SPREAD.sum(), rel=1e-6)
        assert (end > 1).sum() == 3
        assert end[3:].max() < 1e-4

    def test_without_stop_gradient_nearly_equal_modes_stay_together(self):
        """So what is lost depends on how unequal the modes are to begin with; Appendix C.2 has them diverge here."""
        siamese = replace(COSINE[2], sigma=0.5)
        deviation = np.array([0.03, -0.01, 0.02, -0.04])
        end = flow(siamese, 1 + deviation, [0.0, 40.0])[-1]
        assert np.abs(end - 1).max() < 0.5 * np.abs(deviation).max()

    def test_without_stop_gradient_a_mode_of_zero_is_stable_and_with_it_is_not(self):
        small = np.array([1.0, 0.8, 1e-4])
        for siamese in COSINE:
            growth = rate(small, siamese)[2] / 1e-4
            assert (growth < -1) if siamese.variant == "no_stop_gradient" else (growth > 0)


class TestEqualisation:
    @pytest.mark.parametrize("options", [{}, {"alpha": 0.5, "noisy_correlation": True}, {"normalize": True}], ids=str)
    @pytest.mark.parametrize("sigma", [0.1, 1.0])
    @pytest.mark.parametrize("modes", [2, 3, 10])
    @pytest.mark.parametrize("siamese", COSINE, ids=name)
    def test_is_the_derivative_of_the_equations_where_all_are_equal(self, siamese, modes, sigma, options):
        siamese, s = replace(siamese, sigma=sigma, **options), 0.7
        direction = np.linspace(-1, 1, modes) ** 3 + 0.1
        direction -= direction.mean()
        step = 1e-4
        slope = (rate(s + step * direction, siamese) - rate(s - step * direction, siamese)) / (2 * step)
        expected = -equalisation_rate(s, modes, siamese) * direction
        np.testing.assert_allclose(slope, expected, rtol=3e-4, atol=3e-5 * np.abs(direction).max())
        np.testing.assert_allclose(rate(np.full(modes, s), siamese), 0, atol=1e-7)

    def test_known_values(self):
        """Without noise 2 alpha / ((M + 2) s); without predictor and with sigma = .1 about 1 / 2000 for M = 10."""
        assert equalisation_rate(0.5, 4, Siamese("cosine", alpha=0.5, sigma=0.0)) == pytest.approx(1 / 3)
        assert equalisation_rate(0.5, 4, Siamese("cosine", "no_predictor", sigma=0.0)) == 0
        assert 1 / equalisation_rate(0.78, 10, COSINE[3]) == pytest.approx(1947, rel=1e-3)

    def test_deviations_decay_so(self):
        siamese = COSINE[0]
        deviation = np.array([0.01, -0.004, -0.006])
        end = flow(siamese, 0.8 + deviation, [0.0, 3.0])[-1] - 0.8
        np.testing.assert_allclose(end, deviation * np.exp(-3 * equalisation_rate(0.8, 3, siamese)), rtol=0.02)

    def test_isoloss_equalises_alike_what_the_plain_loss_does_not(self):
        """A mode a hundred times smaller: the plain loss leaves it behind, IsoLoss brings it along."""
        start = np.array([1.0, 1.0, 1.0, 0.01])
        plain, iso = (flow(siamese, start, [0.0, 4.0])[-1] for siamese in COSINE[:2])
        assert plain[3] < 0.02
        assert iso[3] > 0.3

    def test_equation_11_is_three_times_too_fast(self):
        """It puts z_m^2 where Eq. 10 has z_k^2, and E[z_m^4] = 3 E[z_m^2 z_k^2]; drawn, without noise."""
        s = 1 + np.array([0.02, -0.01, 0.015, -0.025])
        z = np.random.default_rng(0).standard_normal((200_000, 4)) * np.sqrt(s)
        lengths = np.linalg.norm(s * z, axis=1) ** 3 * np.linalg.norm(z, axis=1)
        strength = (z**4 / lengths[:, None]).mean(0)
        printed = 2 * s * strength * ((s**2).sum() - s * s.sum())
        np.testing.assert_allclose(printed / rate(s, Siamese("cosine", sigma=0.0)), 3, rtol=0.03)


def test_the_printed_gradient_without_stop_gradient_is_wrong():
    """Appendix C.2: |D z_1|^3 |z_2| divides all, so the second view's part has the wrong lengths and powers.

    A cosine's gradient is at right angles to both views together: sum_m z_m dL/dz_m = 0, from which the sum of
    eigenvalues is conserved. The printed one's is not.
    """
    random = np.random.default_rng(0)
    z1, lam = random.standard_normal(4), np.array([1.2, 0.8, 0.4, 0.3])
    z2 = z1 + 0.1 * random.standard_normal(4)

    def total(a, b):  # dL/dz_1 + dL/dz_2 of one sample
        p = torch.tensor(lam) * a
        return -(p @ b) / (p.norm() * b.norm())

    grads = gradient(total, torch.tensor(z1), torch.tensor(z2))
    right = sum(g.numpy() for g in grads)
    printed = np.empty(4)
    for m in range(4):
        bracket = sum(
            lam[k] ** 2 * z1[k] ** 2 * z2[m]
            - lam[m] * lam[k] * z1[m] * z1[k] * z2[k]
            + lam[k] ** 2 * lam[m] * z1[k] ** 3
            - lam[k] * z2[m] * z2[k] * z1[k]
            for k in range(4)
            if k != m
        )
        bracket += lam[m] ** 3 * z1[m] ** 3 - lam[m] * z2[m] ** 2 * z1[m]
        printed[m] = -lam[m] * bracket / (np.linalg.norm(lam * z1) ** 3 * np.linalg.norm(z2))
    assert np.linalg.norm(printed - right) / np.linalg.norm(right) > 0.5
    radial = float(grads[0] @ torch.tensor(z1) + grads[1] @ torch.tensor(z2))
    assert abs(radial) < 1e-12
    assert abs(printed @ z1) > 0.01


# --------------------------------------------------------------------------------------------- a predictor that learns


class TestTrainablePredictor:
    def test_is_the_loss_of_samples(self):
        w, p = weights(), random(OUTPUTS, OUTPUTS, seed=5)
        view1, view2 = draw_views(7, INPUTS, 0.5, torch.Generator().manual_seed(1))
        z1, z2 = view1 @ w.T, view2 @ w.T
        decay = 0.05 * (w.square().sum() + p.square().sum()) / 2
        expected = {
            "euclidean": (z1 @ p.T - z2).square().sum(1).mean() / 2 + decay,
            "cosine": -torch.cosine_similarity(z1 @ p.T, z2).mean() + decay,
        }
        for similarity, value in expected.items():
            loss = trainable_loss(w, p, view1, view2, similarity=similarity, weight_decay=0.05)
            assert float(loss) == pytest.approx(float(value), rel=1e-12)
            _, grad = gradient(lambda w, p, s=similarity: trainable_loss(w, p, view1, view2, similarity=s), w, p)
            assert float(grad.abs().max()) > 1e-3  # the predictor learns

    def test_with_the_closed_form_it_is_the_closed_forms_loss(self):
        w = weights(SEEDS)
        views = draw_views(7, INPUTS, 0.5, torch.Generator().manual_seed(1))
        for siamese in (PLAIN, COSINE[0]):
            loss = trainable_loss(w, predictor(w, siamese), *views, similarity=siamese.similarity)
            torch.testing.assert_close(loss, sample_loss(w, *views, siamese))

    @pytest.mark.parametrize("weight_decay", [0.0, 0.1])
    @pytest.mark.parametrize("similarity", ["euclidean", "cosine"])
    def test_what_it_conserves_without_weight_decay_dies_out_with_it(self, similarity, weight_decay):
        """On any samples, whatever the distance: W W^T - P^T P goes as e^(-2 weight_decay t)."""
        views = draw_views(30, INPUTS, 0.5, torch.Generator().manual_seed(1))
        w, p = weights(), 0.3 * random(OUTPUTS, OUTPUTS, seed=5)
        before = imbalance(w, p).numpy()
        errors = []
        for learning_rate in (0.04, 0.02):
            seen = descend(
                lambda w, p: trainable_loss(w, p, *views, similarity=similarity, weight_decay=weight_decay),
                [w, p],
                learning_rate=learning_rate,
                steps=round(1.0 / learning_rate),
                observe=imbalance,
            )
            expected = before * np.exp(-2 * weight_decay * seen.time)[:, None, None]
            errors.append(np.abs(seen.values - expected).max())
        assert errors[1] < 0.03
        assert errors[0] / errors[1] == pytest.approx(2, rel=0.1)

    def test_rests_where_it_is_aligned(self):
        w, decay = weights(), 0.1
        c = w @ w.T
        p = c @ torch.linalg.inv(1.01 * c + decay * torch.eye(OUTPUTS, dtype=torch.float64))
        views = balanced_views(INPUTS, 0.1)
        _, grad = gradient(lambda w, p: trainable_loss(w, p, *views, similarity="euclidean", weight_decay=decay), w, p)
        assert float(grad.abs().max()) < 1e-12
        np.testing.assert_allclose(alignment(w, p), 1, rtol=1e-12)

    @pytest.mark.parametrize("similarity", ["euclidean", "cosine"])
    def test_gradient_descent_aligns_it(self, similarity):
        """Fig. 4: a linear network with weight decay, from half the identity and some noise; samples drawn once."""
        views = draw_views(200, INPUTS, 0.1, torch.Generator().manual_seed(1))
        w, p = weights(SEEDS), 0.5 * torch.eye(OUTPUTS) + 0.2 * random(SEEDS, OUTPUTS, OUTPUTS, seed=5)
        seen = descend(
            lambda w, p: trainable_loss(w, p, *views, similarity=similarity, weight_decay=0.03),
            [w, p],
            learning_rate=0.3,
            steps=200,
            observe=alignment,
            every=200,
        ).values
        assert seen.shape == (2, SEEDS, OUTPUTS)
        assert seen[0].min() < 0.8
        assert seen[-1].min() > 0.97


# ------------------------------------------------------------------------------------------------------- other figures


class TestFigures:
    def test_two_neurons_come_to_one_over_k_or_to_each_other(self):
        """Fig. 5, all starts at once: a fixed value for the Euclidean loss, for the cosine what each start gives."""
        starts = np.array([[2.0, 0.1], [0.5, 0.3], [0.2, 1.5]])
        euclidean, cosine = (flow(siamese, starts, [0.0, 60.0])[-1] for siamese in (PLAIN, COSINE[0]))
        np.testing.assert_allclose(euclidean, 1 / 1.01, rtol=1e-4)
        np.testing.assert_allclose(cosine, starts.mean(1, keepdims=True) * np.ones(2), rtol=1e-3)
        w = mode_weights(starts, outputs=orthonormal(2, 2), vectors=orthonormal(INPUTS, 2, 1))
        end = descended(PLAIN, w, 0.2, 20.0).values[-1]
        np.testing.assert_allclose(end, 1 / 1.01, rtol=1e-2)

    @pytest.mark.parametrize(
        ("siamese", "learning_rate"),
        [(ISO, 0.1), (NO_STOP_GRADIENT, 0.1), (COSINE[1], 0.04)],
        ids=["iso", "no", "cosine"],
    )
    def test_a_relu_network_behaves_alike(self, siamese, learning_rate):
        """Fig. 6: eigenvalues of E[z z^T] with z = max(W x, 0), samples drawn at each step."""
        generator = torch.Generator().manual_seed(0)
        w = weights(seed=1)
        seen = descend(
            fresh_loss(siamese, samples=200, generator=generator, relu=True),
            [w],
            learning_rate=learning_rate,
            steps=150,
            observe=lambda w: eigenvalues(w, relu=True),
            every=150,
        ).values
        first, last = seen[0] / seen[0].max(), seen[-1] / seen[-1].max()
        if siamese.variant == "no_stop_gradient":
            assert seen[-1].max() < 0.2 * seen[0].max()
        else:
            assert last[1] > 1.5 * first[1]
            assert last[2] > 1.5 * first[2]


# -------------------------------------------------------------------------------------------------------------- refused


class TestRefused:
    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda: Siamese("manhattan"), "similarity is 'manhattan': it must be one of euclidean, cosine"),
            (lambda: Siamese("cosine", "iso_loss"), "variant is 'iso_loss': it must be one of plain, iso"),
            (lambda: Siamese("cosine", alpha=0.0), "alpha is 0.0: it must be above 0"),
            (lambda: Siamese("cosine", sigma=-0.1), "sigma is -0.1"),
            (lambda: Siamese("cosine", sigma=float("nan")), "sigma is nan"),
            (lambda: balanced_views(0, 0.1), "inputs is 0"),
            (lambda: balanced_views(2, -1.0), "sigma is -1.0"),
            (lambda: draw_views(0, 3, 0.1, torch.Generator()), "samples is 0"),
            (lambda: mode_weights([-1.0], outputs=torch.eye(1), vectors=torch.eye(1)), "eigenvalue is .* 0 or more"),
            (lambda: sample_loss(weights(), *balanced_views(7, 0.1), PLAIN), "take 4 inputs, and the views have 7"),
            (lambda: expected_loss(0 * weights(), COSINE[0]), "weights of zeros have no cosine"),
            (
                lambda: trainable_loss(weights(), weights(), *balanced_views(4, 0.1), similarity="cos"),
                "similarity is 'cos'",
            ),
            (
                lambda: trainable_loss(
                    weights(), weights(), *balanced_views(4, 0.1), similarity="cosine", weight_decay=-1
                ),
                "weight_decay is -1",
            ),
            (lambda: conserved(START, PLAIN), "similarity is euclidean, which conserves nothing"),
            (lambda: common_eigenvalue(START, ISO), "similarity is euclidean"),
            (lambda: common_eigenvalue(START, COSINE[2]), "do not all become equal"),
            (lambda: common_eigenvalue(np.array([1.0, 0.0]), COSINE[0]), "must be above 0"),
            (lambda: equalisation_rate(0.5, 1, COSINE[0]), "modes is 1"),
            (lambda: equalisation_rate(0.0, 3, COSINE[0]), "eigenvalue is 0.0"),
            (lambda: equalisation_rate(0.5, 3, PLAIN), "see fixed_points"),
            (lambda: fixed_points(COSINE[0]), "similarity is cosine: it rests wherever"),
            (lambda: fixed_points(replace(PLAIN, normalize=True)), "normalize couples"),
            (lambda: solution(np.ones(1), 0.5, COSINE[0]), "similarity is cosine: its modes are coupled"),
            (lambda: solution(np.ones(1), 0.5, NO_STOP_GRADIENT), "time_to_reach has t"),
            (lambda: solution(np.ones(1), 0.5, replace(PLAIN, normalize=True)), "integrate rate"),
            (lambda: solution(-np.ones(1), 0.5, PLAIN), "time goes down to -1"),
            (lambda: solution(np.ones(1), 0.0, PLAIN), "start is 0.0"),
            (lambda: time_to_reach(1.2, 0.5, PLAIN), "an eigenvalue of 0.5 never becomes 1.2"),
            (lambda: time_to_reach(1 / 1.01, 0.5, ISO), "never becomes 0.990"),
            (lambda: time_to_reach([0.6, 0.4], 0.5, ISO), "never becomes 0.4"),
            (lambda: time_to_reach(0.5, 1.5, replace(NO_STOP_GRADIENT, sigma=0.0)), "never becomes 0.5"),
            (lambda: time_to_reach(0.5, 0.7, replace(NO_PREDICTOR, sigma=0.0)), "never becomes 0.5"),
            (lambda: time_to_reach(0.5, 0.7, COSINE[0]), "similarity is cosine"),
            (lambda: time_to_reach(0.5, 0.2, replace(ISO, normalize=True)), "normalize couples"),
        ],
    )
    def test_with_the_thing_and_the_remedy(self, make, message):
        with pytest.raises(ValueError, match=message):
            make()

    def test_what_is_there_already_takes_no_time(self):
        assert time_to_reach(1 / 1.01, 1 / 1.01, PLAIN) == 0

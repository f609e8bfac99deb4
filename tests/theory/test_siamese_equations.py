"""The equations of the eigenvalues against gradient descent, what they conserve, and what they come to.

Gradient descent here takes exact expectations over inputs and noise (``expected_loss``), so that what differs from the
equations is its step alone. Only what is said to be drawn is.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from siamese_networks import (
    COSINE,
    INPUTS,
    ISO,
    NO_STOP_GRADIENT,
    PLAIN,
    SEEDS,
    descended,
    flow,
    gradient,
    name,
    orthonormal,
    weights,
)

from solo_frossl.theory.siamese import (
    LOSSES,
    Siamese,
    common_eigenvalue,
    conserved,
    equalisation_rate,
    expected_loss,
    mode_weights,
    rate,
)

SPREAD = np.array([1.84, 1.36, 1.18, 0.91, 0.74, 0.56, 0.31, 0.2, 0.06, 0.05])


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


def test_two_neurons_come_to_one_over_k_or_to_each_other():
    """Fig. 5, all starts at once: a fixed value for the Euclidean loss, for the cosine what each start gives."""
    starts = np.array([[2.0, 0.1], [0.5, 0.3], [0.2, 1.5]])
    euclidean, cosine = (flow(siamese, starts, [0.0, 60.0])[-1] for siamese in (PLAIN, COSINE[0]))
    np.testing.assert_allclose(euclidean, 1 / 1.01, rtol=1e-4)
    np.testing.assert_allclose(cosine, starts.mean(1, keepdims=True) * np.ones(2), rtol=1e-3)
    w = mode_weights(starts, outputs=orthonormal(2, 2), vectors=orthonormal(INPUTS, 2, 1))
    end = descended(PLAIN, w, 0.2, 20.0).values[-1]
    np.testing.assert_allclose(end, 1 / 1.01, rtol=1e-2)


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


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: conserved(SPREAD, PLAIN), "similarity is euclidean, which conserves nothing"),
        (lambda: common_eigenvalue(SPREAD, ISO), "similarity is euclidean"),
        (lambda: common_eigenvalue(SPREAD, COSINE[2]), "do not all become equal"),
        (lambda: common_eigenvalue(np.array([1.0, 0.0]), COSINE[0]), "must be above 0"),
        (lambda: equalisation_rate(0.5, 1, COSINE[0]), "modes is 1"),
        (lambda: equalisation_rate(0.0, 3, COSINE[0]), "eigenvalue is 0.0"),
        (lambda: equalisation_rate(0.5, 3, PLAIN), "see fixed_points"),
    ],
)
def test_refused_with_the_thing_and_the_remedy(make, message):
    with pytest.raises(ValueError, match=message):
        make()

"""Where the Euclidean losses' equations have a solution and rest, and the errata of those printed."""

from dataclasses import replace

import numpy as np
import pytest
from siamese_networks import (
    COSINE,
    EUCLIDEAN,
    INPUTS,
    ISO,
    NO_PREDICTOR,
    NO_STOP_GRADIENT,
    PLAIN,
    descended,
    flow,
    gradient,
    name,
    orthonormal,
    weights,
)

from solo_frossl.theory.flow import integrate
from solo_frossl.theory.siamese import (
    Siamese,
    balanced_views,
    eigenvalues,
    fixed_points,
    mode_weights,
    predictor_eigenvalues,
    rate,
    sample_loss,
    solution,
    time_to_reach,
)

START = np.array([0.424, 0.243, 0.099, 0.072])
"""Eigenvalues that half times are given for."""


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


@pytest.mark.parametrize(
    ("make", "message"),
    [
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
def test_refused_with_the_thing_and_the_remedy(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_what_is_there_already_takes_no_time():
    assert time_to_reach(1 / 1.01, 1 / 1.01, PLAIN) == 0

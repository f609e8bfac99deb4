"""What descent under the constraint follows, and what that comes to: Theorems 2 and 3, Conjecture 2."""

from functools import partial

import numpy as np
import pytest
from orthogonal_networks import (
    FLOWS,
    INPUTS,
    MIXED,
    OUTPUTS,
    SEEDS,
    SPECTRA,
    WIDTH,
    descent,
    random,
    rotated,
    start,
)

from solo_frossl.theory.flow import integrate
from solo_frossl.theory.orthogonal import (
    GRASSMANN,
    PRINTED_EQ_11,
    TraceMatrix,
    euler,
    evolve,
    fixed_points,
    grassmann_polar,
    grassmann_qr,
    layers_at,
    least_loss,
    limit,
    limit_singular_values,
    path,
    product,
    projected_flow,
    projected_polar,
    projected_qr,
    projected_qr_rate,
    projection_norms,
    trace_of,
    trace_rate,
)

each_flow = pytest.mark.parametrize("flow", FLOWS.values(), ids=FLOWS)
each_spectrum = pytest.mark.parametrize("eigenvalues", SPECTRA.values(), ids=SPECTRA)


class TestFlows:
    @pytest.mark.parametrize("depth", [2, 3, 4])
    @pytest.mark.parametrize("retract", [grassmann_qr, grassmann_polar, projected_polar])
    def test_gradient_descent_follows_the_equation_the_better_the_smaller_its_steps(self, retract, depth):
        trace = rotated(MIXED)
        flow = projected_flow(depth) if retract is projected_polar else GRASSMANN
        weights = layers_at(
            np.stack([start(INPUTS, OUTPUTS, k) for k in range(SEEDS)]), trace, WIDTH, random(), depth=depth
        )
        errors = []
        for learning_rate in (1e-2, 5e-3):
            seen = descent(trace, weights, retract, learning_rate, 1.0)
            expected = evolve(seen.values[0], trace.eigenvalues, seen.time, flow=flow).values
            errors.append(np.abs(seen.values - expected).max())
        assert errors[1] < 0.01
        assert errors[0] / errors[1] == pytest.approx(2, rel=0.1)

    @pytest.mark.parametrize("depth", [2, 3])
    def test_the_projection_that_the_paper_runs_does_not_follow_eq_8(self, depth):
        trace = rotated(MIXED)
        weights = layers_at(start(INPUTS, OUTPUTS), trace, WIDTH, random(), depth=depth)
        errors = []
        for learning_rate in (1e-2, 5e-3):
            seen = descent(trace, weights, projected_polar, learning_rate, 1.0)
            errors.append(np.abs(seen.values - evolve(seen.values[0], trace.eigenvalues, seen.time).values).max())
        assert errors[0] / errors[1] == pytest.approx(1, rel=0.1)
        assert errors[1] > 0.03

    def test_on_the_grassmannian_width_and_depth_do_not_matter_and_square_layers_rest(self):
        trace = rotated(MIXED)
        q, ends = start(INPUTS, OUTPUTS), []
        for width, depth in ((5, 2), (20, 2), (6, 4)):
            weights = layers_at(q, trace, width, random(width), depth=depth)
            ends.append(descent(trace, weights, grassmann_qr, 0.02, 1.0).values[-1])
            middle = descent(trace, weights, grassmann_qr, 0.02, 0.2, observe=lambda *w: w[1]).values
            if depth > 2:
                np.testing.assert_allclose(middle[-1], middle[0], atol=1e-12)
        np.testing.assert_allclose(ends[1:], [ends[0]] * 2, atol=1e-10)
        assert np.abs(ends[0] - q).max() > 0.1

    def test_the_printed_euler_step_is_half_as_fast(self):
        """Eq. 11 prints -eta [..] for -2 eta [..]."""
        q = start(INPUTS, OUTPUTS)
        expected = evolve(q, MIXED, [0.0, 0.5, 1.0]).values
        printed = euler(q, MIXED, learning_rate=1e-3, steps=1000, every=400, flow=PRINTED_EQ_11)
        assert printed.time.tolist() == [0, 0.4, 0.8, 1.0]
        np.testing.assert_allclose(printed.values[-1], expected[1], atol=2e-3)
        assert np.abs(printed.values[-1] - expected[2]).max() > 0.1
        right = euler(q, MIXED, learning_rate=1e-3, steps=1000)
        np.testing.assert_allclose(right.values[500:1001:500], expected[1:], atol=4e-3)

    @each_flow
    def test_conserves_ranks_and_ties_the_determinant_to_the_loss(self, flow):
        """d/dt ln det(I - q^T q) = 2 linear Tr(q^T Lambda q)."""
        q = start(4, 2)
        times = np.linspace(0, 2, 2001)
        values = evolve(q, SPECTRA["two negative"], times, flow=flow).values
        loss = trace_of(values, SPECTRA["two negative"])
        determinant = np.linalg.slogdet(np.eye(2) - values.swapaxes(1, 2) @ values)[1]
        integral = np.trapezoid(loss, times)
        assert determinant[-1] - determinant[0] == pytest.approx(2 * flow.linear * integral, rel=1e-5)
        assert abs(integral) > 0.5
        assert (np.diff(loss) < 0).all()
        # one output is a copy of the other: rank 1 stays
        copied = np.stack([q[:, 0], -0.5 * q[:, 0]], 1)
        singular = np.linalg.svd(evolve(copied, SPECTRA["two negative"], [0.0, 3.0], flow=flow).values[1])[1]
        assert singular[0] > 0.9
        assert singular[1] < 1e-7
        # singular values of 1 and below: the one stays, the other stays below
        u, _, vh = np.linalg.svd(q, full_matrices=False)
        forced = evolve(u * [1.0, 0.4] @ vh, SPECTRA["two negative"], [0.0, 1.0], flow=flow).values[1]
        singular = np.linalg.svd(forced)[1]
        assert singular[0] == pytest.approx(1, abs=1e-6)
        assert 0.4 < singular[1] < 0.999

    def test_the_raw_gradient_with_qr_follows_its_own_equation(self):
        trace = rotated(MIXED)
        weights = layers_at(start(INPUTS, OUTPUTS), trace, WIDTH, random())
        errors = []
        for learning_rate in (1e-2, 5e-3):
            seen = descent(trace, weights, projected_qr, learning_rate, 1.0, observe=product)
            rate = partial(projected_qr_rate, matrix=trace.matrix.numpy())
            errors.append(np.abs(seen.values - integrate(rate, seen.values[0], seen.time).values).max())
        assert errors[1] < 0.01
        assert errors[0] / errors[1] == pytest.approx(2, rel=0.1)

    @pytest.mark.parametrize("outputs", [1, 2])
    def test_the_raw_gradient_with_qr_stalls_unless_the_eigenvectors_are_axes(self, outputs):
        ends = {}
        for name, trace in (("rotated", rotated(MIXED)), ("axes", TraceMatrix.of_eigenvalues(MIXED))):
            weights = layers_at(start(INPUTS, outputs), trace, WIDTH, random())
            for retract in (projected_qr, projected_polar, grassmann_qr):
                q = descent(trace, weights, retract, 0.1, 14.0).values
                ends[name, retract] = float(trace_of(q[-1], trace.eigenvalues))
                before = float(trace_of(q[-2], trace.eigenvalues))
                assert ends[name, retract] == pytest.approx(before, abs=1e-3)  # it has come to rest
        best = MIXED[:outputs].sum()
        stalled = ends.pop(("rotated", projected_qr))
        assert stalled > best + 0.02
        assert all(end == pytest.approx(best, abs=1e-3) for end in ends.values())


class TestOneOutput:
    def test_eq_9_is_eq_8(self):
        q = start(4, 1)[:, 0]
        lam = np.diag(SPECTRA["two negative"])
        eq9 = 2 * (-(1 - q @ q) * lam @ q - (np.eye(4) - np.outer(q, q)) @ lam @ q)
        np.testing.assert_allclose(trace_rate(q[:, None], np.diag(lam))[:, 0], eq9, atol=1e-14)
        assert 2 * q @ eq9 == pytest.approx(-8 * (1 - q @ q) * (q @ lam @ q), rel=1e-12)  # d|q|^2/dt

    @each_flow
    @each_spectrum
    def test_the_closed_form_is_the_solution(self, eigenvalues, flow):
        q = start(4, 1, size=0.8)[:, 0]
        closed = path(q, eigenvalues, 4.0, flow=flow)
        assert closed.time[-1] >= 4
        some = np.arange(0, len(closed.time), 100)
        expected = evolve(q[:, None], eigenvalues, closed.time[some], flow=flow).values[..., 0]
        np.testing.assert_allclose(closed.values[some], expected, atol=1e-7)

    def test_the_closed_forms_time_error_falls_with_the_fourth_power(self):
        q = start(4, 1, size=0.8)[:, 0]
        exact, *coarse = (path(q, SPECTRA["two negative"], 4.0, points=k).time[-1] for k in (8001, 201, 401))
        assert (coarse[0] - exact) / (coarse[1] - exact) == pytest.approx(16, rel=0.15)

    def test_the_squared_norm_of_eq_8_solves_a_quadratic(self):
        q = start(4, 1, size=0.8)[:, 0]
        closed = path(q, SPECTRA["two negative"], 2.0, points=11)
        turned = np.exp(-SPECTRA["two negative"] * np.linspace(0, 8, 11)[:, None]) * q
        a = (turned**2).sum(1) ** 2 / (1 - q @ q)
        np.testing.assert_allclose((closed.values**2).sum(1), (np.sqrt(a**2 + 4 * a) - a) / 2, rtol=1e-6)

    @each_flow
    @each_spectrum
    def test_fixed_points_rest_and_their_rates_are_the_jacobian(self, eigenvalues, flow):
        points = fixed_points(eigenvalues, flow=flow)
        assert len(points) == 2 * len(eigenvalues) + 1
        for point in points:
            np.testing.assert_allclose(trace_rate(point.q[:, None], eigenvalues, flow), 0, atol=1e-12)
            step = 1e-6 * np.eye(4)[:, :, None]
            jacobian = (
                trace_rate(point.q[:, None] + step, eigenvalues, flow)
                - trace_rate(point.q[:, None] - step, eigenvalues, flow)
            )[..., 0] / 2e-6
            np.testing.assert_allclose(jacobian, np.diag(point.rates), atol=1e-7)
        stable = [point.q for point in points if point.kind == "stable"]
        if eigenvalues[0] > 0:
            np.testing.assert_array_equal(stable, np.zeros((1, 4)))
        else:
            np.testing.assert_array_equal(stable, [np.eye(4)[0], -np.eye(4)[0]])
        kinds = {"two negative": "saddle", "all negative": "unstable", "all positive": "stable"}
        assert points[0].kind == next(kinds[name] for name, value in SPECTRA.items() if value is eigenvalues)

    @each_flow
    @each_spectrum
    def test_every_start_comes_to_the_limit(self, eigenvalues, flow):
        """Theorem 3: 0, or the least eigenvector with the sign of v_1 . q_0; so there are no other stable points."""
        generator = np.random.default_rng(0)
        starts = generator.normal(size=(20, 4))
        starts *= generator.uniform(0.05, 0.99, size=(20, 1)) / np.linalg.norm(starts, axis=1, keepdims=True)
        starts = starts[np.abs(starts[:, 0]) > 0.02]
        ends = evolve(starts[..., None], eigenvalues, [0.0, 20.0], flow=flow).values[1, ..., 0]
        expected = np.stack([limit(q, eigenvalues, flow=flow) for q in starts])
        np.testing.assert_allclose(ends, expected, atol=0.02)
        if eigenvalues[0] < 0:
            np.testing.assert_array_equal(expected, np.sign(starts[:, :1]) * np.eye(4)[0])
            assert len(np.unique(expected[:, 0])) == 2
        else:
            assert not expected.any()

    def test_a_start_without_the_least_eigenvector_comes_to_the_next(self):
        """Theorem 3 says v_1 whatever the start."""
        q = np.array([0.0, -0.3, 0.2, 0.1])
        np.testing.assert_array_equal(limit(q, SPECTRA["two negative"]), [0, -1, 0, 0])
        np.testing.assert_allclose(path(q, SPECTRA["two negative"], 40.0).values[-1], [0, -1, 0, 0], atol=1e-9)
        np.testing.assert_array_equal(limit(np.array([0, 0, 0.3, 0.4]), SPECTRA["two negative"]), np.zeros(4))
        np.testing.assert_array_equal(limit(np.zeros(4), SPECTRA["two negative"]), np.zeros(4))
        np.testing.assert_array_equal(path(np.zeros(4), SPECTRA["two negative"], 1.0).values, np.zeros((2001, 4)))

    @each_flow
    def test_equal_and_zero_eigenvalues(self, flow):
        q = np.array([0.3, -0.4, 0.5])
        twice = np.array([-0.7, -0.7, 0.2])
        np.testing.assert_allclose(limit(q, twice, flow=flow), [0.6, -0.8, 0], atol=1e-12)
        np.testing.assert_allclose(path(q, twice, 30.0, flow=flow).values[-1], [0.6, -0.8, 0], atol=1e-8)
        flat = np.array([0.0, 0.5, 0.9])
        between = limit(q, flat, flow=flow)
        assert 0.3 < between[0] < 1
        np.testing.assert_allclose(evolve(q[:, None], flat, [0.0, 30.0], flow=flow).values[1, :, 0], between, atol=1e-6)
        assert {p.kind for p in fixed_points(flat, flow=flow)} == {"degenerate", "saddle", "unstable"}

    @each_flow
    def test_the_sphere_is_never_left_or_reached(self, flow):
        """Why |q_0| < 1 is needed: from the sphere q comes to v_1 even where all eigenvalues are positive."""
        positive = SPECTRA["all positive"]
        on = start(4, 1, size=1.0)
        rate = trace_rate(on, positive, flow)
        assert float(on[:, 0] @ rate[:, 0]) == pytest.approx(0, abs=1e-14)
        # the sphere repels here, so rounding leaves it in the end: look along it only as long as it does not
        later = evolve(on, positive, [0.0, 1.0], flow=flow).values[1]
        assert np.linalg.norm(later) == pytest.approx(1, abs=1e-4)
        assert abs(later[0, 0]) > abs(on[0, 0])
        inside = path(0.999 * on[:, 0], SPECTRA["two negative"], 3.0, flow=flow).values
        assert (np.linalg.norm(inside, axis=1)[:200] < 1).all()

    def test_gradient_descent_on_the_layers_comes_to_it_too(self):
        trace = rotated(SPECTRA["two negative"])
        q = np.stack([start(4, 1, k) for k in range(4)])
        for retract in (grassmann_qr, projected_polar):
            ends = descent(trace, layers_at(q, trace, 8, random()), retract, 0.05, 12.0, parts=1).values[-1]
            np.testing.assert_allclose(ends[..., 0], [limit(v[:, 0], trace.eigenvalues) for v in q], atol=1e-3)
        positive = rotated(SPECTRA["all positive"])
        ends = descent(positive, layers_at(q, positive, 8, random()), grassmann_qr, 0.05, 15.0, parts=1).values[-1]
        np.testing.assert_allclose(ends, 0, atol=1e-3)


class TestManyOutputs:
    FOUR_NEGATIVE = np.array([-1.0, -0.8, -0.55, -0.3, 0.2, 0.6])
    TWO_NEGATIVE = np.array([-1.0, -0.6, 0.2, 0.3, 0.5, 0.9])

    @each_flow
    @pytest.mark.parametrize("outputs", [2, 3, 4])
    def test_spans_the_least_eigenvectors(self, outputs, flow):
        """Conjecture 2."""
        q = np.stack([start(6, outputs, seed) for seed in range(4)])
        end = evolve(q, self.FOUR_NEGATIVE, [0.0, 40.0], flow=flow).values[1]
        expected = (np.arange(6) < outputs).astype(float)
        np.testing.assert_allclose(projection_norms(end), np.broadcast_to(expected, (4, 6)), atol=1e-3)
        assert projection_norms(q).max() < 0.999
        singular = np.linalg.svd(end)[1]
        np.testing.assert_allclose(singular, 1, atol=1e-6)
        assert limit_singular_values(self.FOUR_NEGATIVE, outputs).tolist() == [1] * outputs

    @each_flow
    def test_two_negative_eigenvalues_leave_two_of_four_outputs(self, flow):
        end = evolve(start(6, 4), self.TWO_NEGATIVE, [0.0, 40.0], flow=flow).values[1]
        singular = np.linalg.svd(end)[1]
        np.testing.assert_allclose(singular, [1, 1, 0, 0], atol=1e-6)
        np.testing.assert_array_equal(limit_singular_values(self.TWO_NEGATIVE, 4), [1, 1, 0, 0])
        np.testing.assert_allclose(projection_norms(end, tolerance=1e-3), [1, 1, 0, 0, 0, 0], atol=1e-5)

    @pytest.mark.parametrize("retract", [grassmann_polar, projected_polar])
    def test_gradient_descent_on_the_layers_does_the_same(self, retract):
        trace = rotated(self.TWO_NEGATIVE)
        weights = layers_at(start(6, 3), trace, 10, random())
        end = descent(trace, weights, retract, 0.1, 30.0, parts=1).values[-1]
        np.testing.assert_allclose(np.linalg.svd(end)[1], [1, 1, 0], atol=1e-3)
        assert float(trace_of(end, trace.eigenvalues)) == pytest.approx(least_loss(trace, 3), abs=1e-3)

    def test_projections(self):
        q = np.array([[0.3, 0.3], [0.4, 0.4], [0.0, 0.0]])
        np.testing.assert_allclose(projection_norms(q), [0.6, 0.8, 0], atol=1e-12)
        np.testing.assert_allclose(projection_norms(np.eye(3) * 1e-3), 1)
        np.testing.assert_allclose(projection_norms(np.zeros((3, 1))), 0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: projected_flow(1), "depth is 1: "),
        (lambda: evolve(start(3, 2, size=1.01), MIXED, [0.0, 1.0]), "a singular value of q is 1.01"),
        (lambda: evolve(start(4, 2), MIXED, [0.0, 1.0]), "q must be (..., 3, z)"),
        (lambda: limit(np.array([0.6, 0.8, 0.0]), MIXED), "|q_0| is 1: Theorem 3 needs it below 1"),
        (lambda: limit(np.array([2.0, 0.0, 0.0]), MIXED), "|q_0| is 2: "),
        (lambda: limit(np.array([0.1, 0.2]), MIXED), "must both be (d,)"),
        (lambda: path(np.array([0.0, 1.0, 0.0]), MIXED, 1.0), "|q_0| is 1: "),
        (lambda: path(np.array([0.0, 0.1, 0.0]), MIXED, 0.0), "until is 0"),
    ],
)
def test_refused_with_the_thing_and_the_remedy(make, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        make()
    assert message in str(error.value)

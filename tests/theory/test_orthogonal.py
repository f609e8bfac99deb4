"""The trace problem with orthogonal layers: closed forms, equations, descent, limits, and networks beside it."""

from functools import partial

import numpy as np
import pytest
import torch

from solo_frossl.theory.flow import descend, integrate
from solo_frossl.theory.orthogonal import (
    ACTIVATIONS,
    GRASSMANN,
    Flow,
    Pairs,
    TraceMatrix,
    best_layers,
    draw_pairs,
    evolve,
    expected_relative_difference,
    fixed_points,
    frobenius_best_layers,
    frobenius_least_loss,
    grassmann_polar,
    grassmann_qr,
    layers_at,
    least_loss,
    limit,
    limit_singular_values,
    loglog_slope,
    network,
    output_difference,
    outputs_at_eigenvectors,
    pair_loss,
    path,
    product,
    projected_flow,
    projected_polar,
    projected_qr,
    projected_qr_rate,
    projection_norms,
    random_layers,
    random_orthonormal,
    required_width,
    squared_norms,
    trace_loss,
    trace_of,
    trace_rate,
    unconstrained,
    within_frobenius_norms,
    within_operator_norms,
)

INPUTS, OUTPUTS, WIDTH, SEEDS = 3, 2, 7, 2
MIXED = np.array([-1.0, -0.5, 0.8])
SPECTRA = {
    "two negative": np.array([-1.0, -0.4, 0.3, 0.8]),
    "all negative": np.array([-1.2, -0.9, -0.5, -0.1]),
    "all positive": np.array([0.2, 0.5, 0.7, 1.0]),
}
FLOWS = {"Eq. 8": GRASSMANN, "projected, 2 layers": projected_flow(2), "projected, 4 layers": projected_flow(4)}


def random(seed=0):
    return torch.Generator().manual_seed(seed)


def rotated(eigenvalues, seed=5):
    return TraceMatrix.of_eigenvalues(eigenvalues, random_orthonormal(len(eigenvalues), len(eigenvalues), random(seed)))


def start(inputs, outputs, seed=0, size=0.5):
    """q whose largest singular value is ``size``."""
    q = np.random.default_rng(seed).normal(size=(inputs, outputs))
    return size * q / np.linalg.norm(q, 2)


def descent(trace, weights, retract, learning_rate, time, *, parts=10, loss=trace_loss, observe=None):
    steps = round(time / learning_rate)
    return descend(
        partial(loss, trace=trace),
        weights,
        learning_rate=learning_rate,
        steps=steps,
        every=max(1, steps // parts),
        retract=retract,
        observe=observe or partial(outputs_at_eigenvectors, trace=trace),
    )


def assert_orthonormal(weights, tolerance=1e-7):
    for w in weights:
        eye = torch.eye(w.shape[-1], dtype=torch.float64)
        assert float((w.mT @ w - eye).abs().max()) < tolerance


def some_pairs(samples=12, inputs=4, contrastive=True):
    points = torch.randn(samples, inputs, generator=random(), dtype=torch.float64) + 1.5
    return draw_pairs(points, random(1), contrastive=contrastive)


class TestMatrix:
    @pytest.mark.parametrize("contrastive", [True, False])
    @pytest.mark.parametrize("depth", [2, 3, 4])
    def test_gives_the_loss_of_the_samples(self, contrastive, depth):
        """Eqs. 1 and 12 by samples; Section 5 prints the second's C with the other sign."""
        pairs = some_pairs(contrastive=contrastive)
        weights = random_layers(4, 6, 3, random(), depth=depth, seeds=(SEEDS,))
        by_samples = pair_loss(*weights, pairs=pairs)
        u = network(pairs.anchors, *weights)
        towards = network(pairs.positives, *weights)
        slow = -(u * towards).sum((-2, -1))
        if contrastive:
            slow = slow + (u * network(pairs.negatives, *weights)).sum((-2, -1))
        torch.testing.assert_close(by_samples, slow, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(trace_loss(*weights, trace=pairs.trace_matrix), slow, rtol=1e-11, atol=1e-11)

    def test_the_printed_sign_of_the_non_contrastive_one_pushes_positives_apart(self):
        """Section 5 prints C = +sum x x^+^T: its loss is minus Eq. 12's, and where x^+ = x all outputs go to 0."""
        pairs = some_pairs(contrastive=False)
        printed = TraceMatrix(-pairs.trace_matrix.matrix)
        weights = random_layers(4, 6, 3, random())
        wrong, right = (float(trace_loss(*weights, trace=c)) for c in (printed, pairs.trace_matrix))
        assert wrong == pytest.approx(-right, rel=1e-12)
        assert right == pytest.approx(float(pair_loss(*weights, pairs=pairs)), rel=1e-11)
        same = TraceMatrix.non_contrastive(pairs.anchors, pairs.anchors)
        assert limit_singular_values(same.eigenvalues, 3).tolist() == [1, 1, 1]
        assert limit_singular_values(-same.eigenvalues, 3).tolist() == [0, 0, 0]

    def test_several_positives_and_negatives_are_summed(self):
        x = torch.randn(5, 3, generator=random(), dtype=torch.float64)
        positives, negatives = (torch.randn(k, 5, 3, generator=random(k), dtype=torch.float64) for k in (2, 4))
        slow = torch.zeros(3, 3, dtype=torch.float64)
        for i in range(5):
            slow += torch.outer(x[i], negatives[:, i].sum(0) - positives[:, i].sum(0))
        matrix = TraceMatrix.contrastive(x, positives, negatives).matrix
        torch.testing.assert_close(matrix, (slow + slow.T) / 2, rtol=1e-12, atol=1e-12)

    def test_its_mean_is_minus_the_covariance(self):
        """Over all x^- among the points, with noise of mean 0; Section 4.1 prints -n E[x x^T]."""
        points = some_pairs().anchors
        everyone = torch.stack([points.roll(k, 0) for k in range(len(points))])
        mean = TraceMatrix.contrastive(points, points.expand_as(everyone), everyone).matrix / len(points)
        expected = TraceMatrix.expected_contrastive(points)
        torch.testing.assert_close(mean, expected.matrix, rtol=1e-10, atol=1e-10)
        covariance = torch.cov(points.T, correction=0)
        torch.testing.assert_close(expected.matrix, -len(points) * covariance, rtol=1e-10, atol=1e-10)
        printed = -points.T @ points
        assert float((printed - mean).norm() / mean.norm()) > 1
        centred = points - points.mean(0)
        torch.testing.assert_close(TraceMatrix.expected_contrastive(centred).matrix, -centred.T @ centred)

    def test_random_draws_come_to_these_means(self):
        points = some_pairs().anchors
        for contrastive, expected in (
            (True, TraceMatrix.expected_contrastive(points)),
            (False, TraceMatrix.expected_non_contrastive(points)),
        ):
            generator = random(3)
            draws = torch.stack(
                [draw_pairs(points, generator, contrastive=contrastive).trace_matrix.matrix for _ in range(1000)]
            )
            error = (draws.mean(0) - expected.matrix) / (draws.std(0) / 1000**0.5)
            assert float(error.abs().max()) < 4

    def test_noise_has_the_variance_asked_for(self):
        points = torch.zeros(4000, 2)
        noise = draw_pairs(points, random(), noise_variance=0.1).positives
        assert float(noise.var()) == pytest.approx(0.1, rel=0.05)
        assert torch.equal(draw_pairs(points, random(), noise_variance=0.0).positives, points.double())

    def test_eigenvalues_ascend(self):
        trace = rotated(MIXED[::-1].copy())
        np.testing.assert_allclose(trace.eigenvalues, MIXED, atol=1e-12)
        rebuilt = trace.vectors * torch.from_numpy(trace.eigenvalues) @ trace.vectors.T
        torch.testing.assert_close(rebuilt, trace.matrix, rtol=0, atol=1e-12)


class TestLayers:
    @pytest.mark.parametrize("depth", [2, 4])
    def test_random_ones_are_orthonormal(self, depth):
        weights = random_layers(INPUTS, WIDTH, OUTPUTS, random(), depth=depth, seeds=(SEEDS,))
        assert [tuple(w.shape) for w in weights] == [
            (SEEDS, WIDTH, k) for k in (INPUTS, *(WIDTH,) * (depth - 2), OUTPUTS)
        ]
        assert_orthonormal(weights)

    def test_random_ones_are_uniform(self):
        """Squared entries of a column have mean 1/h and variance 2 (h - 1) / (h^2 (h + 2)); signs are even."""
        w = random_orthonormal(5, 2, random(), (4000,))
        assert float(w.mean()) == pytest.approx(0, abs=0.01)
        squares = w.square()
        np.testing.assert_allclose(squares.mean(0), 0.2, atol=0.015)
        assert float(squares.var()) == pytest.approx(2 * 4 / (25 * 7), rel=0.05)

    @pytest.mark.parametrize("depth", [2, 3])
    def test_can_start_at_given_outputs(self, depth):
        trace = rotated(MIXED)
        q = np.stack([start(INPUTS, OUTPUTS, seed, size) for seed, size in ((0, 1.0), (1, 0.3))])
        weights = layers_at(q, trace, INPUTS + OUTPUTS, random(), depth=depth)
        np.testing.assert_allclose(outputs_at_eigenvectors(*weights, trace=trace), q, atol=1e-12)
        assert_orthonormal(weights)

    def test_the_linear_network_is_its_product_and_q_gives_new_outputs(self):
        trace = rotated(MIXED)
        weights = random_layers(INPUTS, WIDTH, OUTPUTS, random(), depth=3)
        x = torch.randn(5, INPUTS, generator=random(1), dtype=torch.float64)
        torch.testing.assert_close(network(x, *weights), x @ product(*weights).mT)
        q = outputs_at_eigenvectors(*weights, trace=trace)
        torch.testing.assert_close(network(x, *weights), x @ trace.vectors @ q)
        assert float(trace_loss(*weights, trace=trace)) == pytest.approx(float(trace_of(q.numpy(), trace.eigenvalues)))

    def test_activations_act_between_the_layers(self):
        w1, w2, w3 = random_layers(INPUTS, WIDTH, OUTPUTS, random(), depth=3)
        x = torch.randn(5, INPUTS, generator=random(1), dtype=torch.float64)
        slow = torch.stack([w3.T @ torch.tanh(w2 @ torch.tanh(w1 @ row)) for row in x])
        torch.testing.assert_close(network(x, w1, w2, w3, activation=ACTIVATIONS["tanh"]), slow)

    @pytest.mark.parametrize("retract", [grassmann_qr, grassmann_polar, projected_polar, projected_qr])
    def test_steps_keep_the_constraint_and_lower_the_loss(self, retract):
        """Eq. 10 prints a step along +grad: on it the loss rises."""
        trace = rotated(MIXED)
        weights = random_layers(INPUTS, WIDTH, OUTPUTS, random(), depth=3, seeds=(SEEDS,))
        leaves = [w.clone().requires_grad_() for w in weights]
        before = trace_loss(*leaves, trace=trace)
        gradients = torch.autograd.grad(before.sum(), leaves)
        after = retract(weights, gradients, 1e-2)
        assert_orthonormal(after)
        for old, new in zip(weights, after, strict=True):
            assert float((new - old).abs().max()) < 0.1  # columns are not turned around
        assert (trace_loss(*after, trace=trace) < before).all()
        if retract is not projected_qr:
            printed = retract(weights, gradients, -1e-2)
            assert (trace_loss(*printed, trace=trace) > before).all()


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
        step, printed = 1e-3, Flow(2.0, 1.0, 1.0)
        for _ in range(1000):
            q = q + step * trace_rate(q, MIXED, printed)
        np.testing.assert_allclose(q, expected[1], atol=2e-3)
        assert np.abs(q - expected[2]).max() > 0.1

    @pytest.mark.parametrize("flow", FLOWS.values(), ids=FLOWS)
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

    @pytest.mark.parametrize("flow", FLOWS.values(), ids=FLOWS)
    @pytest.mark.parametrize("eigenvalues", SPECTRA.values(), ids=SPECTRA)
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

    @pytest.mark.parametrize("flow", FLOWS.values(), ids=FLOWS)
    @pytest.mark.parametrize("eigenvalues", SPECTRA.values(), ids=SPECTRA)
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

    @pytest.mark.parametrize("flow", FLOWS.values(), ids=FLOWS)
    @pytest.mark.parametrize("eigenvalues", SPECTRA.values(), ids=SPECTRA)
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

    @pytest.mark.parametrize("flow", FLOWS.values(), ids=FLOWS)
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

    @pytest.mark.parametrize("flow", FLOWS.values(), ids=FLOWS)
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

    @pytest.mark.parametrize("flow", FLOWS.values(), ids=FLOWS)
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

    @pytest.mark.parametrize("flow", FLOWS.values(), ids=FLOWS)
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


class TestCollapse:
    def test_unconstrained_layers_follow_the_closed_form(self):
        """Proposition 1."""
        trace = rotated(MIXED)
        theta = torch.randn(SEEDS, OUTPUTS, INPUTS, generator=random(), dtype=torch.float64)

        def loss(theta):
            return ((theta @ trace.matrix) * theta).sum((-2, -1))

        errors = []
        for learning_rate in (4e-3, 2e-3):
            steps = round(1 / learning_rate)
            seen = descend(
                loss, [theta], learning_rate=learning_rate, steps=steps, observe=lambda w: w, every=steps // 5
            )
            closed = unconstrained(theta, trace, seen.time).values
            errors.append(np.abs(seen.values - closed).max() / np.abs(closed).max())
        assert errors[1] < 0.01
        assert errors[0] / errors[1] == pytest.approx(2, rel=0.05)

    def test_the_paper_states_it_by_samples(self):
        """Proposition 1's equation of u(x), for x any input."""
        pairs = some_pairs()
        theta = torch.randn(2, 4, generator=random(), dtype=torch.float64)
        x = torch.randn(4, generator=random(1), dtype=torch.float64)
        a, p, n = pairs
        printed = (x @ a.T) @ ((p - n) @ theta.T) + ((p - n) @ x) @ (a @ theta.T)
        step = 1e-6
        ahead = unconstrained(theta, pairs.trace_matrix, [0.0, step]).values @ x.numpy()
        np.testing.assert_allclose((ahead[1] - ahead[0]) / step, printed, rtol=1e-3)

    @pytest.mark.parametrize("eigenvalues", SPECTRA.values(), ids=SPECTRA)
    def test_it_comes_to_rank_one_and_has_no_bound(self, eigenvalues):
        trace = rotated(eigenvalues)
        theta = torch.randn(3, 4, generator=random(), dtype=torch.float64)
        times = np.array([0.0, 14.0, 15.0])
        values = unconstrained(theta, trace, times).values
        np.testing.assert_allclose(values[0], theta, atol=1e-12)
        singular = np.linalg.svd(values)[1]
        ratio = singular[:, 1] / singular[:, 0]
        assert ratio[2] < 0.05 * ratio[0]
        assert np.log(ratio[1] / ratio[2]) == pytest.approx(2 * (eigenvalues[1] - eigenvalues[0]), rel=0.05)
        assert np.log(singular[2, 0] / singular[1, 0]) == pytest.approx(-2 * eigenvalues[0], rel=0.05)
        first = theta @ torch.outer(trace.vectors[:, 0], trace.vectors[:, 0])
        direction = values[2] / np.linalg.norm(values[2])
        np.testing.assert_allclose(direction, first / first.norm(), atol=0.02)

    def test_bounded_frobenius_norms_do_not_prevent_it(self):
        """Proposition 2: gradient descent comes to the least loss, at layers of rank one."""
        trace = rotated(MIXED)
        generator = random()
        weights = [torch.randn(SEEDS, 5, k, generator=generator, dtype=torch.float64) / 5 for k in (INPUTS, OUTPUTS)]
        seen = descent(
            trace, weights, within_frobenius_norms(1.5, 0.8), 0.05, 40.0, parts=1, observe=lambda *w: torch.cat(w, -1)
        )
        w1, w2 = seen.values[-1][..., :INPUTS], seen.values[-1][..., INPUTS:]
        for w, bound in ((w1, 1.5), (w2, 0.8)):
            np.testing.assert_allclose(np.linalg.norm(w, axis=(-2, -1)), bound, rtol=1e-6)
            assert (np.linalg.svd(w)[1][:, 1] < 1e-3).all()
        least = frobenius_least_loss(trace, 1.5, 0.8)
        assert least == pytest.approx(-(1.5**2) * 0.8**2)
        reached = trace_loss(torch.from_numpy(w1.copy()), torch.from_numpy(w2.copy()), trace=trace)
        np.testing.assert_allclose(reached, least, rtol=1e-4)
        best = frobenius_best_layers(trace, 5, OUTPUTS, 1.5, 0.8)
        assert float(trace_loss(*best, trace=trace)) == pytest.approx(least)
        assert [float(torch.linalg.matrix_norm(w)) for w in best] == pytest.approx([1.5, 0.8])
        assert product(*best)[1:].abs().max() == 0  # u(x) = [u_1(x), 0, ..., 0]

    def test_without_a_negative_eigenvalue_zero_is_best(self):
        trace = rotated(SPECTRA["all positive"])
        assert frobenius_least_loss(trace, 1.0, 1.0) == 0
        assert float(trace_loss(*frobenius_best_layers(trace, 5, 2, 1.0, 1.0), trace=trace)) == 0

    def test_nothing_lies_below_it(self):
        trace = rotated(MIXED)
        generator = random()
        w1, w2 = (torch.randn(3000, 5, k, generator=generator, dtype=torch.float64) for k in (INPUTS, OUTPUTS))
        w1, w2 = (w / torch.linalg.matrix_norm(w, keepdim=True) for w in (w1, w2))
        loss = trace_loss(w1, w2, trace=trace)
        assert float(loss.min()) > frobenius_least_loss(trace, 1.0, 1.0)

    def test_a_penalty_in_place_of_the_bound_has_no_optimum(self):
        """Section 3 takes the two for equivalent."""
        trace = rotated(MIXED)
        w1, w2 = frobenius_best_layers(trace, 5, OUTPUTS, 1.0, 1.0)
        values = []
        for size in (1.0, 10.0, 100.0):
            penalty = 3.0 * ((size * w1).square().sum() + (size * w2).square().sum())
            values.append(float(trace_loss(size * w1, size * w2, trace=trace) + penalty))
        assert values[0] > 0 > values[1] > values[2]


class TestEquivalence:
    """Proposition 3."""

    @staticmethod
    def scaled_loss(*weights, trace):
        return trace_loss(*weights, trace=trace) / squared_norms(*weights)

    @pytest.mark.parametrize("name", ["two negative", "all negative"])
    def test_gradient_descent_comes_to_one_loss_in_all_four_problems(self, name):
        trace = rotated(SPECTRA[name])
        inputs, outputs, width = 4, 3, 7
        least = least_loss(trace, outputs)
        assert least == pytest.approx(np.minimum(SPECTRA[name][:outputs], 0).sum())
        weights = layers_at(np.stack([start(inputs, outputs, k) for k in range(2)]), trace, width, random())

        def end(retract):
            observe = partial(trace_loss, trace=trace)
            return descent(trace, weights, retract, 0.1, 30.0, parts=1, observe=observe).values[-1]

        def of_product(p):
            return ((p @ trace.matrix) * p).sum((-2, -1))

        options = {"learning_rate": 0.1, "steps": 300, "every": 300, "retract": within_operator_norms}
        third = descend(of_product, [product(*weights)], observe=of_product, **options).values[-1]
        ends = {"2": end(within_operator_norms), "3": third, "4": end(projected_polar)}
        for learning_rate in (0.3, 0.1, 0.03, 0.01, 0.003):  # norms have edges: steps must become small
            seen = descend(
                partial(self.scaled_loss, trace=trace),
                weights,
                learning_rate=learning_rate,
                steps=100,
                observe=lambda *w: torch.cat(w, -1),
                every=100,
            )
            weights = tuple(torch.from_numpy(seen.values[-1].copy()).split([inputs, outputs], -1))
        ends["1"] = self.scaled_loss(*weights, trace=trace).numpy()
        for problem, reached in ends.items():
            assert (reached > least - 1e-9).all(), problem
            np.testing.assert_allclose(reached, least, atol=0.03 if problem == "1" else 2e-3, err_msg=problem)

    @pytest.mark.parametrize("eigenvalues", [*SPECTRA.values(), np.array([-1.0, 0.0, 0.0, 2.0])])
    @pytest.mark.parametrize("outputs", [1, 2, 4, 6])
    def test_one_pair_of_layers_is_optimal_for_all_four(self, eigenvalues, outputs):
        trace = rotated(eigenvalues)
        width = required_width(trace, outputs)
        weights = best_layers(trace, outputs, width)
        least = least_loss(trace, outputs)
        assert least_loss(trace, outputs, width) == pytest.approx(least, abs=1e-12)
        assert_orthonormal(weights)
        assert float(trace_loss(*weights, trace=trace)) == pytest.approx(least, abs=1e-12)
        assert float(self.scaled_loss(*weights, trace=trace)) == pytest.approx(least, abs=1e-12)
        assert float(torch.linalg.matrix_norm(product(*weights), 2)) < 1 + 1e-12

    def test_narrower_layers_do_not_reach_it(self):
        """The fourth problem needs h >= d + z - (number of eigenvalues that are not positive); the paper is silent."""
        eigenvalues = np.array([-1.0, 0.3, 0.8])
        trace = rotated(eigenvalues)
        assert required_width(trace, 2) == 4
        for width, expected in ((3, -0.7), (4, -1.0), (5, -1.0)):
            assert least_loss(trace, 2, width) == pytest.approx(expected)
            weights = random_layers(3, width, 2, random(), seeds=(4,))
            end = descent(trace, weights, projected_polar, 0.1, 30.0, parts=1).values[-1]
            np.testing.assert_allclose(trace_of(end, trace.eigenvalues), expected, atol=2e-3)
        singular = np.linalg.svd(descent(trace, random_layers(3, 3, 2, random()), None, 0.1, 0.1).values[0])[1]
        np.testing.assert_allclose(singular, 1, atol=1e-12)  # d + z - h = 2 of them

    def test_with_square_layers_nothing_can_be_gained(self):
        trace = rotated(MIXED)
        assert least_loss(trace, 3, 3) == pytest.approx(MIXED.sum())
        weights = random_layers(3, 3, 3, random(), seeds=(3,))
        np.testing.assert_allclose(trace_loss(*weights, trace=trace), MIXED.sum())

    def test_an_eigenvalue_of_zero_counts_as_a_negative_one(self):
        trace = rotated(np.array([-1.0, 0.0, 2.0]))
        assert required_width(trace, 2) == 3
        assert float(trace_loss(*best_layers(trace, 2, 3), trace=trace)) == pytest.approx(-1, abs=1e-12)

    def test_nothing_lies_below_it(self):
        trace = rotated(SPECTRA["two negative"])
        for width in (4, 5, 6):
            weights = random_layers(4, width, 3, random(), seeds=(2000,))
            assert float(trace_loss(*weights, trace=trace).min()) > least_loss(trace, 3, width)


class TestWidth:
    """Theorem 1."""

    WIDTHS = (64, 256, 1024, 4096)

    def differences(self, activation, widths=WIDTHS, draws=60):
        x = torch.nn.functional.normalize(torch.randn(10, 5, generator=random(), dtype=torch.float64))
        generator, absolute, linear = random(1), [], []
        for width in widths:
            draw = output_difference(x, random_layers(5, width, 3, generator, seeds=(draws,)), activation)
            absolute.append(np.sqrt(np.square(draw.absolute).mean()))
            linear.append(np.sqrt(np.square(draw.linear).mean()))
        return np.array(absolute), np.array(linear)

    @pytest.mark.parametrize(("name", "slope"), [("tanh", -1.5), ("relu", -0.5), ("sigmoid", 0.0)])
    def test_slopes_over_width(self, name, slope):
        """The linear output falls as h^-1/2 itself, so only the relative difference tells how linear a network is."""
        absolute, linear = self.differences(ACTIVATIONS[name])
        assert loglog_slope(self.WIDTHS, absolute) == pytest.approx(slope, abs=0.06)
        assert loglog_slope(self.WIDTHS, linear) == pytest.approx(-0.5, abs=0.06)
        assert loglog_slope(self.WIDTHS, absolute / linear) == pytest.approx(slope + 0.5, abs=0.06)
        expected = [expected_relative_difference(ACTIVATIONS[name], 1.0, width) for width in self.WIDTHS]
        np.testing.assert_allclose(absolute / linear, expected, rtol=0.15)

    def test_relus_relative_difference_does_not_fall(self):
        absolute, linear = self.differences(ACTIVATIONS["relu"])
        np.testing.assert_allclose(absolute / linear, 0.5**0.5, rtol=0.12)

    def test_a_curved_activation_that_meets_the_conditions_is_in_between(self):
        """phi(x) = x + x^2 / 2 near 0: the absolute difference falls as 1/h, faster than the bound h^-1/2 log^2 h."""
        absolute, linear = self.differences(lambda x: torch.expm1(x), widths=(256, 1024, 4096))
        assert loglog_slope((256, 1024, 4096), absolute) == pytest.approx(-1, abs=0.08)
        assert (linear / absolute)[0] > 1

    def test_expected_values(self):
        tanh, relu, sigmoid = (ACTIVATIONS[name] for name in ("tanh", "relu", "sigmoid"))
        assert expected_relative_difference(tanh, 1.3, 10_000) == pytest.approx((5 / 3) ** 0.5 * 1.3**2 / 1e4, rel=1e-2)
        assert expected_relative_difference(relu, 1.3, 10) == pytest.approx(0.5**0.5, rel=1e-9)
        assert expected_relative_difference(sigmoid, 1.3, 10_000) == pytest.approx(100 / 2.6, rel=1e-2)
        assert expected_relative_difference(ACTIVATIONS["linear"], 1.3, 10) == 0

    def test_a_network_in_training_stays_beside_the_linear_one_the_closer_the_wider(self):
        """Conjecture 1, for tanh; ReLU meets neither of its conditions at 0 and does not."""
        points = torch.randn(12, 3, generator=random(), dtype=torch.float64) * torch.tensor([1.0, 0.7, 0.5])
        pairs = draw_pairs(points, random(1))
        pairs = Pairs(*(x / len(points) ** 0.5 for x in pairs))  # the loss becomes a mean
        trace = pairs.trace_matrix
        end = {}
        for name in ("tanh", "relu"):
            for width in (16, 128):
                weights = layers_at(np.stack([start(3, 2, k, 0.3) for k in range(3)]), trace, width, random(2))
                trained = [
                    descend(
                        loss,
                        weights,
                        learning_rate=0.1,
                        steps=60,
                        observe=lambda *w: torch.cat(w, -1),
                        every=60,
                        retract=projected_polar,
                    ).values[-1]
                    for loss in (
                        partial(pair_loss, pairs=pairs, activation=ACTIVATIONS[name]),
                        partial(trace_loss, trace=trace),
                    )
                ]
                both = [tuple(torch.from_numpy(w).split([3, 2], -1)) for w in trained]
                apart = output_difference(pairs.anchors, both[0], ACTIVATIONS[name], both[1])
                end[name, width] = float(np.median(apart.relative))
        assert end["tanh", 128] < end["tanh", 16] / 3
        assert end["relu", 128] > 0.3

    def test_slope(self):
        assert loglog_slope([1, 10, 100], [5, 0.5, 0.05]) == pytest.approx(-1)


TRACE = TraceMatrix.of_eigenvalues([-1.0, 0.5, 0.8])


class TestRefused:
    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda: TraceMatrix(torch.tensor([[1.0, 2.0], [0.0, 1.0]])), "C is not symmetric, C - C^T reaches 2"),
            (lambda: TraceMatrix(torch.ones(2, 3)), "C must be (D, D), got (2, 3)"),
            (lambda: TraceMatrix(torch.tensor([[float("nan")]])), "infinite or NaN"),
            (
                lambda: TraceMatrix.contrastive(torch.ones(4, 2), torch.ones(4, 2), torch.ones(3, 2)),
                "negatives must be",
            ),
            (lambda: TraceMatrix.non_contrastive(torch.ones(4, 2), torch.ones(4, 3)), "positives must be"),
            (lambda: TraceMatrix.expected_contrastive(torch.ones(0, 2)), "at least one"),
            (lambda: draw_pairs(torch.ones(3), random()), "samples must be (N, D)"),
            (lambda: draw_pairs(torch.ones(3, 2), random(), noise_variance=-1), "noise_variance is -1"),
            (lambda: random_layers(3, 5, 2, random(), depth=1), "depth is 1: "),
            (lambda: projected_flow(1), "depth is 1: "),
            (lambda: product(torch.eye(2)), "depth is 1: "),
            (lambda: random_layers(3, 2, 1, random()), "at least inputs = 3"),
            (lambda: random_orthonormal(2, 3, random()), "do not fit into 2 dimensions"),
            (lambda: layers_at(start(3, 2), TRACE, 4, random()), "at least d + z = 5"),
            (lambda: layers_at(start(3, 2, size=1.2), TRACE, 9, random()), "a singular value of q is 1.2"),
            (lambda: evolve(start(3, 2, size=1.01), MIXED, [0.0, 1.0]), "a singular value of q is 1.01"),
            (lambda: evolve(start(4, 2), MIXED, [0.0, 1.0]), "q must be (..., 3, z)"),
            (lambda: limit(np.array([0.6, 0.8, 0.0]), MIXED), "|q_0| is 1: Theorem 3 needs it below 1"),
            (lambda: limit(np.array([2.0, 0.0, 0.0]), MIXED), "|q_0| is 2: "),
            (lambda: limit(np.array([0.1, 0.2]), MIXED), "must both be (d,)"),
            (lambda: path(np.array([0.0, 1.0, 0.0]), MIXED, 1.0), "|q_0| is 1: "),
            (lambda: path(np.array([0.0, 0.1, 0.0]), MIXED, 0.0), "until is 0"),
            (lambda: best_layers(TRACE, 2, 3), "from a width of 4 on"),
            (lambda: least_loss(TRACE, 2, 2), "width is 2: orthonormal columns need at least d = 3"),
            (lambda: frobenius_least_loss(TRACE, 0.0, 1.0), "must be above 0"),
            (lambda: frobenius_best_layers(TRACE, 4, 2, 1.0, -1.0), "must be above 0"),
            (lambda: expected_relative_difference(torch.tanh, 0.0, 10), "must be above 0"),
            (lambda: loglog_slope([10], [1.0]), "K of 2 or more"),
            (lambda: loglog_slope([10, 20], [1.0, 0.0]), "has no logarithm"),
        ],
    )
    def test_with_the_thing_and_the_remedy(self, make, message):
        with pytest.raises(ValueError) as error:  # noqa: PT011
            make()
        assert message in str(error.value)

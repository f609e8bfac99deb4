"""The trace problem: its matrix, layers, networks, and the steps of descent."""

import numpy as np
import pytest
import torch
from orthogonal_networks import (
    INPUTS,
    MIXED,
    OUTPUTS,
    SEEDS,
    TRACE,
    WIDTH,
    assert_orthonormal,
    random,
    rotated,
    some_pairs,
    start,
)

from solo_frossl.theory.orthogonal import (
    ACTIVATIONS,
    TraceMatrix,
    draw_pairs,
    grassmann_polar,
    grassmann_qr,
    layers_at,
    limit_singular_values,
    network,
    outputs_at_eigenvectors,
    pair_loss,
    product,
    projected_polar,
    projected_qr,
    random_layers,
    random_orthonormal,
    trace_loss,
    trace_of,
)


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
        (lambda: product(torch.eye(2)), "depth is 1: "),
        (lambda: random_layers(3, 2, 1, random()), "at least inputs = 3"),
        (lambda: random_orthonormal(2, 3, random()), "do not fit into 2 dimensions"),
        (lambda: layers_at(start(3, 2), TRACE, 4, random()), "at least d + z = 5"),
        (lambda: layers_at(start(3, 2, size=1.2), TRACE, 9, random()), "a singular value of q is 1.2"),
    ],
)
def test_refused_with_the_thing_and_the_remedy(make, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        make()
    assert message in str(error.value)

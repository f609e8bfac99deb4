"""What layers of bounded norm come to: Propositions 2 and 3."""

from functools import partial

import numpy as np
import pytest
import torch
from orthogonal_networks import (
    INPUTS,
    MIXED,
    OUTPUTS,
    SEEDS,
    SPECTRA,
    TRACE,
    assert_orthonormal,
    descent,
    product_loss,
    random,
    rotated,
    start,
)

from solo_frossl.theory.orthogonal import (
    best_layers,
    frobenius_best_layers,
    frobenius_least_loss,
    layers_at,
    least_loss,
    product,
    projected_polar,
    random_layers,
    required_width,
    squared_norms,
    trace_loss,
    trace_of,
    within_frobenius_norms,
    within_operator_norms,
)


class TestFrobeniusNorms:
    """Proposition 2."""

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


class TestOperatorNorms:
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

        def end(retract, weights, loss=trace_loss):
            observe = partial(loss, trace=trace)
            return descent(trace, weights, retract, 0.1, 30.0, parts=1, loss=loss, observe=observe).values[-1]

        ends = {
            "2": end(within_operator_norms, weights),
            "3": end(within_operator_norms, [product(*weights)], product_loss),
            "4": end(projected_polar, weights),
        }
        for learning_rate in (0.3, 0.1, 0.03, 0.01, 0.003):  # norms have edges: steps must become small
            options = {"parts": 1, "loss": self.scaled_loss, "observe": lambda *w: torch.cat(w, -1)}
            seen = descent(trace, weights, None, learning_rate, 100 * learning_rate, **options)
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


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: best_layers(TRACE, 2, 3), "from a width of 4 on"),
        (lambda: least_loss(TRACE, 2, 2), "width is 2: orthonormal columns need at least d = 3"),
        (lambda: frobenius_least_loss(TRACE, 0.0, 1.0), "must be above 0"),
        (lambda: frobenius_best_layers(TRACE, 4, 2, 1.0, -1.0), "must be above 0"),
    ],
)
def test_refused_with_the_thing_and_the_remedy(make, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        make()
    assert message in str(error.value)

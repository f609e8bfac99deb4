"""Lemma 1 and Proposition 1: outputs do not see each other, and without a constraint they come to one dimension."""

from functools import partial

import numpy as np
import pytest
import torch
from orthogonal_networks import MIXED, SPECTRA, descent, product_loss, random, rotated, some_pairs

from solo_frossl.theory.flow import descend, integrate
from solo_frossl.theory.orthogonal import (
    ACTIVATIONS,
    TraceMatrix,
    draw_pairs,
    expected_gradient_products,
    gradient_products,
    kernel_rate,
    kernel_unconstrained,
    network,
    random_layers,
    unconstrained,
)

PAIRS, OTHERS, INPUTS, OUTPUTS, SEEDS = 4, 3, 2, 3, 2


def points(contrastive=True, seed=0):
    """Anchors, positives, negatives, and some more."""
    generator = random(seed)
    x = 0.5 * torch.randn(PAIRS, INPUTS, generator=generator, dtype=torch.float64)
    sets = [s for s in draw_pairs(x, generator, contrastive=contrastive) if s is not None]
    return torch.cat([*sets, 0.5 * torch.randn(OTHERS, INPUTS, generator=generator, dtype=torch.float64)])


def features(x):
    """psi of the kernel k(x, y) = (1 + x . y)^2, six of them."""
    a, b = x.T
    return torch.stack([torch.ones_like(a), 2**0.5 * a, 2**0.5 * b, a**2, b**2, 2**0.5 * a * b], 1)


def polynomial(x, y):
    return (1 + x @ y.T) ** 2


def theta(inputs=6, seed=1):
    return torch.randn(OUTPUTS, inputs, generator=random(seed), dtype=torch.float64)


def loss(theta, x, contrastive):
    """Eq. 1 or 12 of u = Theta psi(x)."""
    u = features(x) @ theta.mT
    anchors, positives, negatives = (u[..., k * PAIRS : (k + 1) * PAIRS, :] for k in range(3))
    towards = negatives - positives if contrastive else -positives
    return (anchors * towards).sum((-2, -1))


class TestLemma1:
    def test_outputs_of_a_kernel_machine_do_not_see_each_other_at_any_weights(self):
        x, y = points(), points(seed=1)[:5]
        for seed in (0, 1):
            products = gradient_products(lambda p, w: features(p) @ w.mT, [theta(seed=seed)], x, y)
            expected = torch.eye(OUTPUTS, dtype=torch.float64)[..., None, None] * polynomial(x, y)
            torch.testing.assert_close(products, expected)

    def test_nor_do_a_linear_models(self):
        x = points()
        products = gradient_products(lambda p, w: p @ w.mT, [theta(INPUTS)], x, x)
        torch.testing.assert_close(products, torch.eye(OUTPUTS, dtype=torch.float64)[..., None, None] * (x @ x.T))

    @pytest.mark.parametrize("name", ["tanh", "relu"])
    def test_outputs_of_a_network_do_so_the_less_the_wider_it_is(self, name):
        x, activation = points(), ACTIVATIONS[name]
        apart = []
        for width in (64, 1024):
            runs = [
                gradient_products(
                    partial(network, activation=activation), random_layers(INPUTS, width, 2, random(seed)), x, x
                )
                for seed in range(4)
            ]
            apart.append(float(torch.stack(runs)[:, 0, 1].square().mean().sqrt()))
        assert apart[1] < 0.35 * apart[0]  # h^-1/2 would be 1/4

    @pytest.mark.parametrize("name", ["linear", "tanh"])
    def test_the_first_layers_part_stays(self, name):
        """Erratum: Appendix A.1 lets it go to 0, so that a linear network's kernel would be x . y. It is twice that."""
        x, activation = points(), ACTIVATIONS[name]
        products = gradient_products(
            partial(network, activation=activation), random_layers(INPUTS, 1024, 2, random()), x, x
        )
        last, first = expected_gradient_products(x, x, activation, 1024)
        torch.testing.assert_close(products[0, 0], last + first, rtol=2e-3, atol=2e-3)
        torch.testing.assert_close(products[0, 0], 2 * x @ x.T, rtol=0.02, atol=2e-3)
        assert float((products[0, 0] - last).abs().max()) > 0.3 * float(last.abs().max())

    def test_a_relus_parts_are_the_arc_cosine_kernels(self):
        x, y = points(), points(seed=1)
        norms = x.norm(dim=1)[:, None] * y.norm(dim=1)
        angle = torch.acos((x @ y.T / norms).clamp(-1, 1))
        last, first = expected_gradient_products(x, y, torch.relu, 100)
        exact = norms * (angle.sin() + (torch.pi - angle) * angle.cos()) / (2 * torch.pi)
        torch.testing.assert_close(last, exact, rtol=0, atol=5e-3)
        torch.testing.assert_close(first, x @ y.T * (torch.pi - angle) / (2 * torch.pi), rtol=0.02, atol=0.02)


class TestProposition1:
    @pytest.mark.parametrize("contrastive", [True, False])
    def test_the_rate_is_gradient_flows(self, contrastive):
        x, w = points(contrastive), theta().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(w, x, contrastive), [w])
        expected = features(x) @ -gradient.T
        u = (features(x) @ w.detach().T).numpy()
        found = kernel_rate(u, polynomial(x, x).numpy(), PAIRS, contrastive=contrastive)
        np.testing.assert_allclose(found, expected.numpy(), atol=1e-12)

    @pytest.mark.parametrize("contrastive", [True, False])
    def test_closed_form_solves_the_equation(self, contrastive):
        x = points(contrastive)
        kernel, start = polynomial(x, x).numpy(), (features(x) @ theta().T).numpy()
        times = np.linspace(0, 0.15, 6)
        closed = kernel_unconstrained(start, kernel, PAIRS, times, contrastive=contrastive)
        solved = integrate(lambda u: kernel_rate(u, kernel, PAIRS, contrastive=contrastive), start, times)
        np.testing.assert_allclose(closed.values, solved.values, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(closed.values[0], start, atol=1e-9)

    def test_gradient_descent_follows_it_the_better_the_smaller_its_steps(self):
        """At the last points too, which the loss does not see."""
        x, w = points(), theta()
        kernel, start = polynomial(x, x).numpy(), (features(x) @ w.T).numpy()
        errors = []
        for steps in (100, 200):
            seen = descend(
                lambda w: loss(w, x, True),
                [w],
                learning_rate=0.2 / steps,
                steps=steps,
                observe=lambda w: features(x) @ w.T,
                every=steps // 10,
            )
            closed = kernel_unconstrained(start, kernel, PAIRS, seen.time).values
            errors.append(np.abs(seen.values - closed).max())
        assert errors[1] < 0.03 * np.abs(closed[-1] - closed[0]).max()
        assert errors[0] / errors[1] == pytest.approx(2, rel=0.1)

    def test_of_the_linear_kernel_it_is_the_linear_models_solution(self):
        x, w, times = points(), theta(INPUTS), np.linspace(0, 1, 5)
        trace = TraceMatrix.contrastive(*x[: 3 * PAIRS].split(PAIRS))
        expected = unconstrained(w, trace, times).values @ x.T.numpy()
        found = kernel_unconstrained((x @ w.T).numpy(), (x @ x.T).numpy(), PAIRS, times).values
        np.testing.assert_allclose(found, expected.swapaxes(1, 2), rtol=1e-8, atol=1e-10)

    def test_outputs_come_to_one_dimension_at_new_points_too(self):
        x = torch.cat([points(), 3 * points(seed=7)])
        kernel = torch.exp(-torch.cdist(x, x).square()).numpy()  # of infinitely many features
        start = kernel @ np.random.default_rng(0).normal(size=(len(x), OUTPUTS))
        u = kernel_unconstrained(start, kernel, PAIRS, [0.0, 40.0]).values
        for rows in (slice(None, 3 * PAIRS), slice(3 * PAIRS, 3 * PAIRS + OTHERS)):
            began, ended = (np.linalg.svd(v[rows], compute_uv=False) for v in u)
            assert began[1] > 0.05 * began[0]
            assert ended[1] < 1e-3 * ended[0]
        assert np.abs(u[1]).max() > 100 * np.abs(u[0]).max()

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"kernel": -np.eye(15)}, "K is no kernel matrix: its least eigenvalue is -1"),
            ({"kernel": np.eye(15) + np.eye(15, k=1)}, "K is no kernel matrix"),
            ({"kernel": np.eye(4)}, "each pair takes 3 of them; take 1 to 1"),
            ({"start": np.ones((3, 2))}, "the outputs"),
            ({"kernel": np.ones((15, 15)), "start": np.eye(15)}, "no Theta has these outputs"),
            ({"pairs": 0}, "pairs is 0: K is of 15 points"),
            ({"pairs": 6}, "take 1 to 5"),
        ],
    )
    def test_what_is_no_kernel_machine(self, change, message):
        given = {"start": np.ones((15, 2)), "kernel": np.eye(15), "pairs": PAIRS, "times": [0.0, 1.0], **change}
        with pytest.raises(ValueError, match=message):
            kernel_unconstrained(**given)


class TestLinear:
    """Proposition 1 of one linear layer."""

    def test_unconstrained_layers_follow_the_closed_form(self):
        trace = rotated(MIXED)
        theta = torch.randn(SEEDS, 2, len(MIXED), generator=random(), dtype=torch.float64)
        errors = []
        for learning_rate in (4e-3, 2e-3):
            seen = descent(trace, [theta], None, learning_rate, 1.0, parts=5, loss=product_loss, observe=lambda w: w)
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

"""Gradient descent and the solver."""

import numpy as np
import pytest
import torch

from solo_frossl.theory.flow import Trajectory, descend, integrate


def quadratic(w):
    return 0.5 * w.square().sum((-2, -1))


def test_descent_is_the_recurrence_of_each_seed():
    w = torch.tensor([[[1.0, 2.0]], [[3.0, -4.0]]], dtype=torch.float64)
    before = w.clone()
    seen = descend(quadratic, [w], learning_rate=0.1, steps=5, observe=lambda w: w, every=2)
    assert torch.equal(w, before)
    np.testing.assert_allclose(seen.time, [0, 0.2, 0.4, 0.5])
    np.testing.assert_allclose(seen.values, [w.numpy() * 0.9**k for k in (0, 2, 4, 5)], rtol=1e-12)


def test_descent_may_keep_to_a_constraint_and_tells_its_progress():
    told = []
    seen = descend(
        lambda w: w[..., 0, 0],
        [torch.tensor([[0.6], [0.8]], dtype=torch.float64)],
        learning_rate=0.1,
        steps=200,
        observe=lambda w: w,
        every=200,
        retract=lambda ws, gs, lr: tuple((w - lr * g) / (w - lr * g).norm() for w, g in zip(ws, gs, strict=True)),
        progress=told.append,
    )
    assert seen.values[-1].ravel() == pytest.approx([-1, 0], abs=1e-6)
    assert sum(told) == 200


def test_descent_that_diverges_says_so():
    with pytest.raises(ValueError, match=r"diverged by step .*: take a learning rate below 3"):
        descend(
            lambda w: w.pow(4).sum((-2, -1)),
            [torch.full((1, 1), 2.0, dtype=torch.float64)],
            learning_rate=3.0,
            steps=50,
            observe=lambda w: w,
        )


@pytest.mark.parametrize(("rate", "steps", "every"), [(0.0, 1, 1), (0.1, -1, 1), (0.1, 1, 0)])
def test_descent_refuses(rate, steps, every):
    with pytest.raises(ValueError, match="must be"):
        descend(quadratic, [torch.ones(1, 1)], learning_rate=rate, steps=steps, observe=lambda w: w, every=every)


def test_the_solver_is_exact_where_the_solution_is_known():
    start = np.array([[1.0, 2.0], [3.0, -1.0]])
    seen = integrate(lambda y: -y, start, [0.0, 0.5, 3.0])
    np.testing.assert_allclose(seen.values, start * np.exp(-np.array([0, 0.5, 3.0]))[:, None, None], rtol=1e-7)
    np.testing.assert_array_equal(integrate(lambda y: -y, start, [0.0]).values, start[None])


def test_a_solution_that_runs_away_is_an_error():
    with pytest.raises(ValueError, match="cannot be followed beyond"):
        integrate(lambda y: y**2, np.array([1.0]), np.linspace(0, 2, 9))


@pytest.mark.parametrize("times", [[], [1.0, 1.0], [2.0, 1.0], [-1.0, 1.0]])
def test_times_must_increase(times):
    with pytest.raises(ValueError, match="times must increase"):
        integrate(lambda y: -y, np.ones(1), times)


def test_a_trajectory_is_read_between_its_times():
    trajectory = Trajectory(np.array([0.0, 1.0, 3.0]), np.array([[0.0, 1.0], [2.0, 1.0], [6.0, 3.0]]))
    np.testing.assert_allclose(trajectory.at(0.5), [1, 1])
    np.testing.assert_allclose(trajectory.at([[1.0, 2.0]]), [[[2, 1], [4, 2]]])
    with pytest.raises(ValueError, match="are asked for"):
        trajectory.at(3.5)

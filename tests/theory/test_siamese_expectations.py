"""The Siamese losses in expectation: known values, means of samples, and exact gradients."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from siamese_networks import (
    COSINE,
    EUCLIDEAN,
    INPUTS,
    NO_PREDICTOR,
    SEEDS,
    gradient,
    name,
    random,
    weights,
)

from solo_frossl.theory.siamese import (
    LOSSES,
    Siamese,
    draw_views,
    expected_loss,
    mode_weights,
    rate,
    sample_loss,
)


def test_the_euclidean_one_is_known():
    """E ||W_P z_1 - z_2||^2 / 2 = (k tr W_P C W_P - 2 tr W_P C + k tr C) / 2."""
    w = weights()
    c = w @ w.T
    expected = (1.01 * torch.trace(c @ c @ c) - 2 * torch.trace(c @ c) + 1.01 * torch.trace(c)) / 2
    for siamese in EUCLIDEAN[:3]:
        assert float(expected_loss(w, siamese)) == pytest.approx(float(expected), rel=1e-12)
    assert float(expected_loss(w, NO_PREDICTOR)) == pytest.approx(0.01 * float(torch.trace(c)), rel=1e-12)


@pytest.mark.parametrize("siamese", COSINE, ids=name)
def test_the_cosines_are_the_means_of_samples(siamese):
    siamese, w = replace(siamese, sigma=1.0, alpha=0.5), weights(seed=3)
    batches = [draw_views(20_000, INPUTS, 1.0, torch.Generator().manual_seed(i)) for i in range(8)]
    drawn = torch.stack([sample_loss(w, *views, siamese) for views in batches])
    error = float(drawn.std()) / len(batches) ** 0.5
    assert abs(float(drawn.mean() - expected_loss(w, siamese))) < 5 * error
    assert error < 2e-3


@pytest.mark.parametrize("siamese", LOSSES, ids=name)
def test_seeds_are_apart(siamese):
    w = weights(SEEDS)
    w[1] *= torch.tensor([1.0, 0.1, 0.01], dtype=torch.float64)[:, None]
    together = expected_loss(w, siamese)
    assert together.shape == (SEEDS,)
    for i in range(SEEDS):
        assert float(together[i]) == pytest.approx(float(expected_loss(w[i], siamese)), rel=1e-7)


def test_without_noise_and_predictor_the_cosine_is_one():
    assert float(expected_loss(weights(), Siamese("cosine", "no_predictor", sigma=0.0))) == pytest.approx(-1)


def test_one_output_knows_only_signs():
    """E[sign x_1 sign x_2] = (2 / pi) arcsin(1 / k)."""
    loss = expected_loss(torch.ones(1, 1, dtype=torch.float64), Siamese("cosine", sigma=1.0))
    assert float(loss) == pytest.approx(-1 / 3, abs=1e-6)


@pytest.mark.parametrize("siamese", COSINE, ids=name)
@pytest.mark.parametrize("least", [1e-8, 1e-12])
def test_without_noise_eigenvalues_may_be_far_apart(siamese, least):
    """There the covariance of both views together has rank M: nothing that is inverted may cancel."""
    siamese, s = replace(siamese, sigma=0.0), np.array([1.0, 0.5, least, least**2])
    u, v = (torch.linalg.qr(random(n, 4))[0] for n in (4, 6))
    w = mode_weights(s, outputs=u, vectors=v)
    (grad,) = gradient(lambda w: expected_loss(w, siamese), w)
    found = -2 * torch.diagonal(u.T @ grad @ w.T @ u)
    np.testing.assert_allclose(found, rate(s, siamese), atol=1e-8)


def test_weights_of_zeros_are_refused():
    with pytest.raises(ValueError, match="weights of zeros have no cosine"):
        expected_loss(0 * weights(), COSINE[0])

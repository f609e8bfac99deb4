import math

import numpy as np
import pytest
import torch

from solo_frossl.spectrum import covariance_eigenvalues, effective_rank, shannon_entropy


def features(samples, dimensions):
    g = torch.Generator().manual_seed(0)
    return torch.randn(samples, dimensions, generator=g) * torch.linspace(0.1, 3, dimensions) + 5


class TestEigenvalues:
    @pytest.mark.parametrize("shape", [(20, 4), (4, 20), (7, 7), (2, 3), (3, 1)])
    def test_are_those_of_numpy(self, shape):
        x = features(*shape)
        expected = np.linalg.eigvalsh(np.atleast_2d(np.cov(x.double().numpy().T)))[::-1]
        count = min(shape[0] - 1, shape[1])
        actual = covariance_eigenvalues(x)
        assert actual.shape == (count,)
        assert actual.dtype == torch.float64
        np.testing.assert_allclose(actual, expected[:count], rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(expected[count:], 0, atol=1e-9)

    def test_descend_and_are_not_negative(self):
        g = torch.Generator().manual_seed(1)
        x = features(30, 3).double() @ torch.randn(3, 20, generator=g, dtype=torch.float64)  # and rounding errors
        eigenvalues = covariance_eigenvalues(x)
        assert (eigenvalues.diff() <= 0).all()
        assert (eigenvalues >= 0).all()
        assert (eigenvalues > 1e-9 * eigenvalues[0]).sum() == 3

    @pytest.mark.parametrize(("shape", "size"), [((20, 4), 4), ((4, 20), 4)])
    def test_come_from_the_smaller_matrix(self, monkeypatch, shape, size):
        seen = []
        eigvalsh = torch.linalg.eigvalsh
        monkeypatch.setattr(torch.linalg, "eigvalsh", lambda m: seen.append(tuple(m.shape)) or eigvalsh(m))
        covariance_eigenvalues(features(*shape))
        assert seen == [(size, size)]

    def test_of_half_precision(self):
        x = features(20, 4).bfloat16()
        torch.testing.assert_close(covariance_eigenvalues(x), covariance_eigenvalues(x.double()))

    def test_a_large_mean_costs_no_precision(self):
        x = features(20, 4).double()
        torch.testing.assert_close(covariance_eigenvalues(x + 1e6), covariance_eigenvalues(x), rtol=1e-7, atol=1e-9)

    @pytest.mark.parametrize(
        ("x", "message"),
        [
            (torch.randn(4), r"\(samples, dimensions\)"),
            (torch.randn(1, 4), "two samples"),
            (torch.randn(4, 0), "two samples of one dimension"),
            (torch.tensor([[1.0], [float("nan")]]), "NaN"),
        ],
    )
    def test_bad_features_are_refused(self, x, message):
        with pytest.raises(ValueError, match=message):
            covariance_eigenvalues(x)


class TestEffectiveRank:
    def test_is_the_exponential_of_the_entropy(self):
        eigenvalues = covariance_eigenvalues(features(50, 6))
        p = eigenvalues.numpy() / eigenvalues.numpy().sum()
        entropy = -(p * np.log(p)).sum()
        assert shannon_entropy(eigenvalues).item() == pytest.approx(entropy, rel=1e-12)
        assert effective_rank(eigenvalues).item() == pytest.approx(math.exp(entropy), rel=1e-12)

    @pytest.mark.parametrize("count", [1, 2, 5])
    def test_counts_equal_eigenvalues(self, count):
        eigenvalues = torch.cat([torch.full((count,), 3.0), torch.zeros(4)])
        assert effective_rank(eigenvalues).item() == pytest.approx(count, rel=1e-6)

    def test_does_not_depend_on_scale(self):
        eigenvalues = torch.tensor([4.0, 2.0, 1.0], dtype=torch.float64)
        assert effective_rank(1e-9 * eigenvalues).item() == pytest.approx(effective_rank(eigenvalues).item())

    def test_of_features_on_a_line_is_one(self):
        x = torch.outer(torch.randn(9, dtype=torch.float64), torch.randn(5, dtype=torch.float64))
        assert effective_rank(covariance_eigenvalues(x)).item() == pytest.approx(1, abs=1e-9)

    @pytest.mark.parametrize("samples", [3, 6, 7, 11])  # the mean of some of these is not exactly 0.1
    def test_of_constant_features_is_zero(self, samples):
        x = torch.full((samples, 5), 0.1, dtype=torch.float64)
        assert effective_rank(covariance_eigenvalues(x)).item() == 0

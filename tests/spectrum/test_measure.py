import numpy as np
import pytest
import torch

from solo_frossl import distributed
from solo_frossl.spectrum import batch_moments, predictor_alignment, spectrum_of, view_correlation


def batch(samples=12, dimensions=6, features=30, views=2, seed=0):
    """Features and embeddings of some views; directions of unequal size, means that are not 0."""
    g = torch.Generator().manual_seed(seed)

    def draw(size):
        signal = torch.randn(samples, size, generator=g)
        noisy = [signal + 0.3 * torch.randn(samples, size, generator=g) for _ in range(views)]
        return [(x * torch.linspace(0.2, 2, size) + 1).float() for x in noisy]

    return draw(features), draw(dimensions)


def measured(features, embeddings, predictor=None):
    return {k: v.numpy() for k, v in spectrum_of(batch_moments(features, embeddings, predictor)).items()}


def covariance_eigenvalues(x, count):
    return np.linalg.eigvalsh(np.cov(x.double().numpy().T))[::-1][:count]


def rankme(x):
    s = np.linalg.svd(x.double().numpy(), compute_uv=False)
    p = s / s.sum() + 1e-7
    return np.exp(-(p * np.log(p)).sum())


@pytest.mark.parametrize(("samples", "dimensions"), [(12, 6), (6, 12), (7, 7)])
def test_a_check_is_what_numpy_makes_of_the_first_view(samples, dimensions):
    features, embeddings = batch(samples, dimensions)
    spectrum = measured(features, embeddings)
    for name, x in (("embeddings", embeddings[0]), ("features", features[0])):
        count = min(samples - 1, x.shape[1])
        assert spectrum[name].shape == (count,)
        np.testing.assert_allclose(spectrum[name], covariance_eigenvalues(x, count), rtol=1e-9, atol=1e-12)
        assert spectrum[f"{name}_rankme"] == pytest.approx(rankme(x), rel=1e-9)
    z = embeddings[0].double()
    assert spectrum["variance_share"] == pytest.approx(float((z - z.mean(0)).square().sum() / z.square().sum()))
    a, b = (view.double().numpy() for view in embeddings)
    correlation = [np.corrcoef(a[:, d], b[:, d])[0, 1] for d in range(dimensions)]
    np.testing.assert_allclose(spectrum["view_correlation"], correlation, rtol=1e-9)
    assert spectrum["predictor"].shape == spectrum["alignment"].shape == (0,)


def test_the_mean_counts_for_rankme_and_not_for_the_covariance():
    features, embeddings = batch()
    shifted = [z + 1000 for z in embeddings]
    before, after = measured(features, embeddings), measured(features, shifted)
    np.testing.assert_allclose(after["embeddings"], before["embeddings"], rtol=1e-3)
    assert after["embeddings_rankme"] == pytest.approx(rankme(shifted[0]), rel=1e-6)
    assert after["embeddings_rankme"] < 1.1 < before["embeddings_rankme"]
    assert after["variance_share"] < 1e-5


def test_embeddings_that_are_all_the_same():
    features, _ = batch()
    spectrum = measured(features, [torch.full((12, 6), 0.1)] * 2)
    assert (spectrum["embeddings"] == 0).all()
    assert (spectrum["view_correlation"] == 0).all()
    assert spectrum["embeddings_rankme"] == pytest.approx(1, abs=1e-4)
    assert spectrum["variance_share"] == 0


def test_embeddings_that_are_zero():
    features, _ = batch()
    spectrum = measured(features, [torch.zeros(12, 6)] * 2)
    assert spectrum["embeddings_rankme"] == 0
    assert spectrum["variance_share"] == 0
    assert all(np.isfinite(values).all() for values in spectrum.values())


def test_of_half_precision_and_of_one_view():
    features, embeddings = batch()
    half = measured([features[0].bfloat16()], [embeddings[0].bfloat16()])
    again = measured([features[0].bfloat16().double()], [embeddings[0].bfloat16().double()])
    np.testing.assert_array_equal(half["embeddings"], again["embeddings"])
    assert half["view_correlation"].shape == (0,)


@pytest.mark.parametrize("where", ["features", "embeddings", "second view"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_has_no_spectrum(where, value):
    features, embeddings = batch()
    x = {"features": features[0], "embeddings": embeddings[0], "second view": embeddings[1]}[where]
    x[2, 1] = value
    assert spectrum_of(batch_moments(features, embeddings)) is None


def test_nothing_of_a_graph_is_kept():
    features, embeddings = batch()
    moments = batch_moments([x.requires_grad_() for x in features], [z.requires_grad_() for z in embeddings])
    assert not moments.view_correlation.requires_grad
    assert not any(m.requires_grad for m in (*moments.embeddings, *moments.features))


class TestPredictor:
    def test_eigenvalues_and_alignment_are_those_of_numpy(self):
        features, embeddings = batch()
        predictor = torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        predictor = predictor @ predictor.T
        spectrum = measured(features, embeddings, predictor)
        w, z = predictor.numpy(), np.concatenate([x.double().numpy() for x in embeddings])
        np.testing.assert_allclose(spectrum["predictor"], np.linalg.eigvalsh(w)[::-1], rtol=1e-9)
        s, u = np.linalg.eigh(z.T @ z / len(z))
        expected = [u[:, i] @ w @ u[:, i] / np.linalg.norm(w @ u[:, i]) for i in np.argsort(s)[::-1]]
        np.testing.assert_allclose(spectrum["alignment"], expected, rtol=1e-9)

    def test_a_function_of_the_correlation_is_aligned_with_it(self):
        _, (z, _) = batch()
        correlation = z.double().T @ z.double()
        s, u = torch.linalg.eigh(correlation)
        alignment = predictor_alignment(correlation, (u * s.sqrt()) @ u.T)
        torch.testing.assert_close(alignment, torch.ones(6, dtype=torch.float64))

    def test_a_turned_one_is_not(self):
        correlation = torch.diag(torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64))
        turned = torch.tensor([[1.0, 1, 0], [1, 1, 0], [0, 0, 1]], dtype=torch.float64)
        torch.testing.assert_close(
            predictor_alignment(correlation, turned), torch.tensor([0.5, 0.5, 1]).double().sqrt()
        )

    def test_directions_that_the_batch_or_the_predictor_lacks_have_no_alignment(self):
        z = torch.tensor([[2.0, 0, 0], [0, 1.0, 0]], dtype=torch.float64)
        alignment = predictor_alignment(z.T @ z, torch.diag(torch.tensor([1.0, 0, 1])).double())
        assert alignment[0] == 1
        assert alignment[1:].isnan().all()  # taken to 0; not in the batch


def test_the_correlation_of_a_view_with_itself_and_its_negative():
    x = torch.randn(9, 3)
    torch.testing.assert_close(view_correlation(x, 2 * x + 5), torch.ones(3).double())
    torch.testing.assert_close(view_correlation(x, -x), -torch.ones(3).double())


def part(features, embeddings, predictor):
    """The spectrum of a batch that each process has its part of."""
    own = [[x.chunk(distributed.world_size())[distributed.rank()] for x in xs] for xs in (features, embeddings)]
    return spectrum_of(batch_moments(*own, predictor))


@pytest.mark.parametrize("shape", [(12, 6), (8, 20)])
def test_two_processes_are_one(gloo_pool, shape):
    features, embeddings = batch(*shape)
    predictor = torch.eye(shape[1], dtype=torch.float64)
    alone = part(features, embeddings, predictor)
    for other in gloo_pool.run(part, features, embeddings, predictor):
        for name, value in alone.items():
            assert torch.equal(other[name].nan_to_num(-2), value.nan_to_num(-2)), name

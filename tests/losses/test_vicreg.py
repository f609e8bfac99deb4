from functools import partial

import pytest
import torch
import transcriptions as slow
from transcriptions import assert_is

from solo_frossl import distributed
from solo_frossl.losses.vicreg import vicreg_loss, vicreg_terms

SHAPES = [(8, 5), (5, 8), (6, 6), (6, 1), (2, 3), (3, 2)]


def embeddings(samples, dimensions, dtype=torch.float64):
    """Two views whose dimensions have standard deviations on both sides of 1."""
    g = torch.Generator().manual_seed(0)
    signal = torch.randn(samples, dimensions, generator=g, dtype=torch.float64)
    noise = torch.randn(2, samples, dimensions, generator=g, dtype=torch.float64)
    scale = torch.linspace(1.5, 0.3, dimensions, dtype=torch.float64)
    return list((scale * (signal + 0.3 * noise) + 2).to(dtype))


@pytest.mark.parametrize("shape", SHAPES)
def test_is_the_equation(shape):
    def formula(weights, z1, z2):
        return sum(weight * term for weight, term in zip(weights, slow.vicreg_terms(z1, z2), strict=True))

    z = embeddings(*shape)
    for i in range(3):
        assert_is(lambda *z, i=i: vicreg_terms(*z)[i], lambda *z, i=i: slow.vicreg_terms(*z)[i], *z)
    weighted = partial(vicreg_loss, invariance_weight=3.0, variance_weight=2.0, covariance_weight=0.7)
    assert_is(weighted, partial(formula, (3, 2, 0.7)), *z)
    assert_is(vicreg_loss, partial(formula, (25, 25, 1)), *z)


@pytest.mark.parametrize("shape", [(9, 5), (5, 9)])
def test_does_not_change_with_order(shape):
    z1, z2 = embeddings(*shape)
    rows, columns = torch.randperm(shape[0]), torch.randperm(shape[1])
    moved = vicreg_terms(z2[rows][:, columns], z1[rows][:, columns])
    for a, b in zip(vicreg_terms(z1, z2), moved, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("shape", [(9, 5), (5, 9)])
def test_a_shift_changes_the_invariance_alone(shape):
    z1, z2 = embeddings(*shape)
    invariance, *rest = vicreg_terms(z1, z2)
    shifted_invariance, *shifted_rest = vicreg_terms(z1 + 7, z2 - 7)
    assert shifted_invariance > invariance + 100
    torch.testing.assert_close(rest, shifted_rest, rtol=1e-10, atol=1e-12)


def test_is_zero_for_equal_views_that_are_spread_out():
    z = torch.randn(9, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    z = 5 * torch.linalg.qr(z - z.mean(0))[0]  # covariance 25 / 8 I
    z.requires_grad_()
    loss = vicreg_loss(z, z)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-20)
    assert z.grad.abs().max() < 1e-12


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(8, 5), (5, 8), (2, 3)])
def test_a_constant_dimension_counts_as_no_variance(shape, dtype):
    z = embeddings(*shape, dtype)
    z[0][:, 1] = 0.1
    z = [view.requires_grad_() for view in z]
    terms = torch.stack(vicreg_terms(*z))
    expected = torch.tensor(slow.vicreg_terms(*(view.detach().double().numpy() for view in z)), dtype=dtype)
    torch.testing.assert_close(terms, expected, rtol=1e-4, atol=1e-5)
    grads = torch.autograd.grad(terms[1:].sum(), z)
    assert all(grad.isfinite().all() for grad in grads)
    assert grads[0][:, 1].abs().max() == 0


@pytest.mark.parametrize("dimensions", [3, 9])
def test_identical_samples_are_finite(dimensions):
    z = torch.full((5, dimensions), 0.1, requires_grad=True)
    terms = vicreg_terms(z, z)
    sum(terms).backward()
    assert [term.item() for term in terms] == pytest.approx([0, 2 * 0.99, 0], rel=1e-6)
    assert z.grad.abs().max() == 0


@pytest.mark.parametrize("dimensions", [4, 9])
def test_nan_passes_through(dimensions):
    z1, z2 = embeddings(6, dimensions)
    z2[0, 0] = float("nan")
    assert all(term.isnan() for term in vicreg_terms(z1, z2))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    z = [view.requires_grad_() for view in embeddings(16, 8, dtype)]
    expected = vicreg_loss(*(view.detach().float() for view in z))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = vicreg_loss(*z)
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert all(view.grad.dtype == dtype for view in z)


@pytest.mark.parametrize(
    ("z1", "z2", "message"),
    [
        (torch.randn(4, 3), torch.randn(4, 2), "one shape"),
        (torch.randn(1, 4), torch.randn(1, 4), "at least two samples"),
        (torch.randn(4, 3), torch.ones(4, 3).int(), "floating point, view 1"),
    ],
)
def test_bad_views_are_refused(z1, z2, message):
    with pytest.raises(ValueError, match=message):
        vicreg_loss(z1, z2)


def loss_and_weight_gradient(x, weight):
    """What DDP gives: each process embeds its part with one linear layer, then gradients are averaged."""
    rank, world = distributed.rank(), distributed.world_size()
    weight = weight.clone().requires_grad_()
    terms = torch.stack(vicreg_terms(*(view.chunk(world)[rank] @ weight for view in x)))
    (terms @ torch.tensor([1.0, 5.0, 0.1], dtype=terms.dtype)).backward()
    return terms.detach(), distributed.reduce_mean(weight.grad)


@pytest.mark.parametrize("dimensions", [5, 30])
def test_two_processes_equal_one(gloo_pool, dimensions):
    x = embeddings(12, 7)
    weight = 0.3 * torch.randn(7, dimensions, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    terms, grad = loss_and_weight_gradient(x, weight)
    assert terms.min() > 0
    for rank_terms, rank_grad in gloo_pool.run(loss_and_weight_gradient, x, weight):
        torch.testing.assert_close(rank_terms, terms, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(rank_grad, grad, rtol=1e-9, atol=1e-9)

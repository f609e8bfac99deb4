from functools import partial

import pytest
import torch
import transcriptions as slow
from transcriptions import assert_is

from solo_frossl import distributed
from solo_frossl.losses import barlow_twins_loss, barlow_twins_terms

SHAPES = [(8, 5), (5, 8), (6, 6), (2, 3), (3, 2)]


def embeddings(samples, dimensions, dtype=torch.float64):
    g = torch.Generator().manual_seed(0)
    signal = torch.randn(samples, dimensions, generator=g, dtype=torch.float64)
    noise = torch.randn(2, samples, dimensions, generator=g, dtype=torch.float64)
    return list((2 * signal + noise + 3).to(dtype))


@pytest.mark.parametrize("shape", SHAPES)
def test_is_the_equation(shape):
    def formula(weight, scale, z1, z2):
        on, off = slow.barlow_twins_terms(z1, z2)
        return scale * (on + weight * off)

    z = embeddings(*shape)
    for i in range(2):
        assert_is(lambda *z, i=i: barlow_twins_terms(*z)[i], lambda *z, i=i: slow.barlow_twins_terms(*z)[i], *z)
    assert_is(partial(barlow_twins_loss, off_diagonal_weight=0.3, scale=2.0), partial(formula, 0.3, 2.0), *z)
    assert_is(barlow_twins_loss, partial(formula, 0.0051, 0.1), *z)


def test_is_zero_for_equal_and_uncorrelated_dimensions():
    z = torch.linalg.qr(torch.randn(9, 9, dtype=torch.float64))[0][:, :4]
    z = torch.linalg.qr(z - z.mean(0))[0]
    assert barlow_twins_loss(z, 5 * z - 2).item() == pytest.approx(0, abs=1e-20)


def test_does_not_change_with_order_scale_and_mean():
    z1, z2 = embeddings(9, 5)
    rows, columns = torch.randperm(9), torch.randperm(5)
    moved = [7 * z[rows][:, columns] - 2 for z in (z2, z1)]
    for a, b in zip(barlow_twins_terms(z1, z2), barlow_twins_terms(*moved), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_constant_dimension_is_left_alone(shape, dtype):
    z = embeddings(*shape, dtype)
    z[0][:, 1] = 0.1
    z = [view.requires_grad_() for view in z]
    on, off = barlow_twins_terms(*z)
    grads = torch.autograd.grad(on + off, z)
    assert on >= 1  # its correlation is 0
    assert off.isfinite()
    assert all(grad.isfinite().all() for grad in grads)
    assert grads[0][:, 1].abs().max() == 0


def test_identical_samples_are_finite():
    z = torch.full((5, 3), 0.1, requires_grad=True)
    on, off = barlow_twins_terms(z, z)
    (on + off).backward()
    assert (on.item(), off.item()) == (3, 0)
    assert z.grad.abs().max() == 0


def test_nan_passes_through():
    z1, z2 = embeddings(6, 4)
    z2[0, 0] = float("nan")
    assert barlow_twins_loss(z1, z2).isnan()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    z = [view.requires_grad_() for view in embeddings(16, 8, dtype)]
    expected = barlow_twins_loss(*(view.detach().float() for view in z))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = barlow_twins_loss(*z)
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert all(view.grad.dtype == dtype for view in z)


@pytest.mark.parametrize(
    ("z1", "z2", "message"),
    [
        (torch.randn(4, 3), torch.randn(4, 2), "one shape"),
        (torch.randn(4), torch.randn(4), r"\(samples, dimensions\), view 0"),
        (torch.randn(1, 4), torch.randn(1, 4), "at least two samples"),
        (torch.randn(4, 3), torch.ones(4, 3).int(), "floating point, view 1"),
    ],
)
def test_bad_views_are_refused(z1, z2, message):
    with pytest.raises(ValueError, match=message):
        barlow_twins_loss(z1, z2)


def loss_and_weight_gradient(x, weight):
    """What DDP gives: each process embeds its part with one linear layer, then gradients are averaged."""
    rank, world = distributed.rank(), distributed.world_size()
    weight = weight.clone().requires_grad_()
    loss = barlow_twins_loss(*(view.chunk(world)[rank] @ weight for view in x), off_diagonal_weight=0.3)
    loss.backward()
    return loss.detach(), distributed.reduce_mean(weight.grad)


@pytest.mark.parametrize("dimensions", [5, 30])
def test_two_processes_equal_one(gloo_pool, dimensions):
    x = embeddings(12, 7)
    weight = torch.randn(7, dimensions, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    loss, grad = loss_and_weight_gradient(x, weight)
    for rank_loss, rank_grad in gloo_pool.run(loss_and_weight_gradient, x, weight):
        assert rank_loss.item() == pytest.approx(loss.item(), rel=1e-9)
        torch.testing.assert_close(rank_grad, grad, rtol=1e-9, atol=1e-9)

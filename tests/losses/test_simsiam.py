import math

import pytest
import torch

from solo_frossl import distributed
from solo_frossl.losses.simsiam import mean_cosine, negative_cosine_loss, unit_rows

SHAPES = [(8, 5), (5, 8), (6, 1), (2, 3)]


def embeddings(samples, dimensions, dtype=torch.float64):
    g = torch.Generator().manual_seed(0)
    signal = torch.randn(samples, dimensions, generator=g, dtype=torch.float64)
    noise = torch.randn(2, samples, dimensions, generator=g, dtype=torch.float64)
    return list((signal + noise + 0.5).to(dtype))


def slow_loss(p, z):
    """Sample by sample, Eq. 1."""
    total = 0.0
    for a, b in zip(p.tolist(), z.tolist(), strict=True):
        dot = sum(x * y for x, y in zip(a, b, strict=True))
        total -= dot / math.sqrt(sum(x * x for x in a)) / math.sqrt(sum(y * y for y in b))
    return total / len(p)


@pytest.mark.parametrize("shape", SHAPES)
def test_is_the_equation(shape):
    p, z = embeddings(*shape)
    loss = negative_cosine_loss(p, z)
    assert loss.shape == ()
    assert loss.item() == pytest.approx(slow_loss(p, z), rel=1e-9, abs=1e-12)


def test_goes_from_aligned_to_opposite_whatever_the_lengths():
    p, z = embeddings(7, 4)
    scale = torch.linspace(0.1, 9, 7, dtype=torch.float64)[:, None]
    assert negative_cosine_loss(p, scale * p).item() == pytest.approx(-1, abs=1e-12)
    assert negative_cosine_loss(p, -scale * p).item() == pytest.approx(1, abs=1e-12)
    torch.testing.assert_close(negative_cosine_loss(scale * p, 3 * z), negative_cosine_loss(p, z), rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_gradient_is_that_of_finite_differences(shape):
    p, z = embeddings(*shape)
    assert torch.autograd.gradcheck(lambda p: negative_cosine_loss(p, z), p.requires_grad_())
    assert torch.autograd.gradcheck(mean_cosine, (p, z.requires_grad_()))


def test_the_target_gets_no_gradient():
    p, z = (view.requires_grad_() for view in embeddings(6, 4))
    negative_cosine_loss(p, z).backward()
    assert p.grad.abs().max() > 0
    assert z.grad is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_zero_row_has_cosine_zero_and_no_gradient(dtype):
    p, z = embeddings(6, 4, dtype)
    p[0], z[1] = 0, 0
    p.requires_grad_()
    loss = negative_cosine_loss(p, z)
    (grad,) = torch.autograd.grad(loss, p)
    assert loss.item() == pytest.approx(slow_loss(p[2:].detach(), z[2:]) * 4 / 6, rel=1e-6)
    assert grad[:2].abs().max() == 0
    assert (grad[2:].abs().sum(1) > 0).all()


def test_zero_embeddings_are_finite():
    p = torch.zeros(5, 3, requires_grad=True)
    loss = negative_cosine_loss(p, torch.zeros(5, 3))
    loss.backward()
    assert loss.item() == 0
    assert p.grad.abs().max() == 0


@pytest.mark.parametrize("length", [1e-10, 1e-15, 1e-18, 1e15])
def test_short_and_long_rows_keep_direction_and_gradient(length):
    x = embeddings(4, 3, torch.float32)[0]
    scaled = (length * x).requires_grad_()
    y = unit_rows(scaled)
    torch.testing.assert_close(y, unit_rows(x), rtol=1e-4, atol=1e-5)
    y[:, 0].sum().backward()
    assert scaled.grad.isfinite().all()
    assert scaled.grad.abs().max() * length > 0.1


def test_identical_views_are_at_the_minimum():
    p, _ = embeddings(6, 4)
    p.requires_grad_()
    negative_cosine_loss(p, p).backward()
    assert p.grad.abs().max() < 1e-15


def test_nan_passes_through():
    p, z = embeddings(6, 4)
    z[0, 0] = float("nan")
    assert negative_cosine_loss(p, z).isnan()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    p, z = embeddings(16, 8, dtype)
    p.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = negative_cosine_loss(p, z)
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(slow_loss(p.double().detach(), z.double()), rel=1e-6)
    assert p.grad.dtype == dtype


@pytest.mark.parametrize(
    ("p", "z", "message"),
    [
        (torch.randn(4, 3), torch.randn(4, 2), "one shape"),
        (torch.randn(4), torch.randn(4), r"\(samples, dimensions\), view 0"),
        (torch.randn(4, 3), torch.ones(4, 3).int(), "floating point, view 1"),
    ],
)
def test_bad_views_are_refused(p, z, message):
    with pytest.raises(ValueError, match=message):
        negative_cosine_loss(p, z)


def loss_and_weight_gradient(x, weight):
    """What DDP gives: each process embeds its part with one linear layer, then gradients are averaged."""
    rank, world = distributed.rank(), distributed.world_size()
    weight = weight.clone().requires_grad_()
    a, b = (view.chunk(world)[rank] @ weight for view in x)
    loss = negative_cosine_loss(a, b) + 0.3 * negative_cosine_loss(b, a)
    loss.backward()
    return loss.detach(), distributed.reduce_mean(weight.grad)


def test_two_processes_equal_one(gloo_pool):
    x = embeddings(12, 7)
    weight = torch.randn(7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    loss, grad = loss_and_weight_gradient(x, weight)
    for rank_loss, rank_grad in gloo_pool.run(loss_and_weight_gradient, x, weight):
        assert rank_loss.item() == pytest.approx(loss.item(), rel=1e-9)
        torch.testing.assert_close(rank_grad, grad, rtol=1e-9, atol=1e-9)

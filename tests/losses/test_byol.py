import math

import pytest
import torch

from solo_frossl import distributed
from solo_frossl.losses.byol import byol_loss

SHAPES = [(8, 5), (5, 8), (6, 1), (2, 3)]


def embeddings(samples, dimensions, dtype=torch.float64):
    g = torch.Generator().manual_seed(0)
    signal = torch.randn(samples, dimensions, generator=g, dtype=torch.float64)
    noise = torch.randn(2, samples, dimensions, generator=g, dtype=torch.float64)
    return list((signal + noise + 0.5).to(dtype))


def slow_loss(p, z):
    """Squared distance of unit vectors, coordinate by coordinate, Eq. 2."""
    total = 0.0
    for a, b in zip(p.tolist(), z.tolist(), strict=True):
        length_a, length_b = math.sqrt(sum(x * x for x in a)), math.sqrt(sum(y * y for y in b))
        total += sum((x / length_a - y / length_b) ** 2 for x, y in zip(a, b, strict=True))
    return total / len(p)


@pytest.mark.parametrize("shape", SHAPES)
def test_is_the_equation(shape):
    p, z = embeddings(*shape)
    loss = byol_loss(p, z)
    assert loss.shape == ()
    assert loss.item() == pytest.approx(slow_loss(p, z), rel=1e-9, abs=1e-12)


def test_goes_from_aligned_to_opposite_whatever_the_lengths():
    p, z = embeddings(7, 4)
    scale = torch.linspace(0.1, 9, 7, dtype=torch.float64)[:, None]
    assert byol_loss(p, scale * p).item() == pytest.approx(0, abs=1e-12)
    assert byol_loss(p, -scale * p).item() == pytest.approx(4, abs=1e-12)
    torch.testing.assert_close(byol_loss(scale * p, 3 * z), byol_loss(p, z), rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_gradient_is_that_of_finite_differences(shape):
    p, z = embeddings(*shape)
    assert torch.autograd.gradcheck(lambda p: byol_loss(p, z), p.requires_grad_())


def test_the_target_gets_no_gradient():
    p, z = (view.requires_grad_() for view in embeddings(6, 4))
    byol_loss(p, z).backward()
    assert p.grad.abs().max() > 0
    assert z.grad is None


def test_a_zero_row_has_cosine_zero_and_no_gradient():
    p, z = embeddings(6, 4, torch.float32)
    p[0], z[1] = 0, 0
    p.requires_grad_()
    loss = byol_loss(p, z)
    (grad,) = torch.autograd.grad(loss, p)
    assert loss.item() == pytest.approx((slow_loss(p[2:].detach(), z[2:]) * 4 + 2 * 2) / 6, rel=1e-6)
    assert grad.isfinite().all()
    assert grad[:2].abs().max() == 0


def test_nan_passes_through():
    p, z = embeddings(6, 4)
    p[0, 0] = float("nan")
    assert byol_loss(p, z).isnan()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    p, z = embeddings(16, 8, dtype)
    p.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = byol_loss(p, z)
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(slow_loss(p.double().detach(), z.double()), rel=1e-6)
    assert p.grad.dtype == dtype


def test_bad_views_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        byol_loss(torch.randn(4, 3), torch.randn(5, 3))


def loss_and_weight_gradient(x, weight):
    """What DDP gives: each process embeds its part with one linear layer, then gradients are averaged."""
    rank, world = distributed.rank(), distributed.world_size()
    weight = weight.clone().requires_grad_()
    a, b = (view.chunk(world)[rank] @ weight for view in x)
    loss = byol_loss(a, b) + 0.3 * byol_loss(b, a)
    loss.backward()
    return loss.detach(), distributed.reduce_mean(weight.grad)


def test_two_processes_equal_one(gloo_pool):
    x = embeddings(12, 7)
    weight = torch.randn(7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    loss, grad = loss_and_weight_gradient(x, weight)
    for rank_loss, rank_grad in gloo_pool.run(loss_and_weight_gradient, x, weight):
        assert rank_loss.item() == pytest.approx(loss.item(), rel=1e-9)
        torch.testing.assert_close(rank_grad, grad, rtol=1e-9, atol=1e-9)

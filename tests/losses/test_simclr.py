import math

import pytest
import torch
import transcriptions as slow
from transcriptions import assert_is

from solo_frossl import distributed
from solo_frossl.losses.simclr import nt_xent_loss

SHAPES = [(2, 8, 5), (2, 5, 8), (2, 2, 3), (3, 2, 4), (3, 4, 1), (5, 6, 3)]


def embeddings(views, samples, dimensions, dtype=torch.float64):
    g = torch.Generator().manual_seed(0)
    signal = torch.randn(samples, dimensions, generator=g, dtype=torch.float64)
    noise = torch.randn(views, samples, dimensions, generator=g, dtype=torch.float64)
    return list((2 * signal + noise + 0.3).to(dtype))


@pytest.mark.parametrize("temperature", [0.2, 1.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_is_the_equation(shape, temperature):
    assert_is(
        lambda *views: nt_xent_loss(views, temperature=temperature),
        lambda *views: slow.nt_xent(views, temperature),
        *embeddings(*shape),
    )


@pytest.mark.parametrize("views", [2, 3])
def test_orthogonal_samples_with_identical_views(views):
    samples, temperature = 4, 0.3
    z = [torch.eye(samples, dtype=torch.float64).requires_grad_() for _ in range(views)]
    loss = nt_xent_loss(z, temperature=temperature)
    denominator = (views - 1) * math.exp(1 / temperature) + views * (samples - 1)
    assert loss.item() == pytest.approx(math.log(denominator) - 1 / temperature, rel=1e-12)
    assert all(grad.isfinite().all() for grad in torch.autograd.grad(loss, z))


@pytest.mark.parametrize("views", [2, 3])
def test_collapse_gives_chance(views):
    z = [torch.ones(5, 3, dtype=torch.float64).requires_grad_() for _ in range(views)]
    loss = nt_xent_loss(z, temperature=0.1)
    assert loss.item() == pytest.approx(math.log(5 * views - 1), rel=1e-12)
    assert max(grad.abs().max() for grad in torch.autograd.grad(loss, z)) < 1e-12


def test_does_not_change_with_order_rotation_and_norm():
    views = embeddings(3, 6, 4)
    order, norms = torch.randperm(6), torch.rand(3, 6, 1, dtype=torch.float64) + 0.1
    rotation = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64))[0]
    moved = [norm * view[order] @ rotation for norm, view in zip(norms, views, strict=True)]
    expected = nt_xent_loss(views, temperature=0.2)
    torch.testing.assert_close(nt_xent_loss(moved[::-1], temperature=0.2), expected, rtol=1e-10, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_zero_row_has_no_similarity_and_no_gradient(dtype):
    views = embeddings(3, 4, 3, dtype)
    views[1][2] = 0
    views = [view.requires_grad_() for view in views]
    loss = nt_xent_loss(views, temperature=0.5)
    expected = slow.nt_xent([view.detach().double().numpy() for view in views], 0.5)
    assert loss.item() == pytest.approx(expected, rel=1e-9 if dtype == torch.float64 else 1e-5)
    grads = torch.autograd.grad(loss, views)
    assert all(grad.isfinite().all() for grad in grads)
    assert grads[1][2].abs().max() == 0
    assert grads[1][1].abs().max() > 0


def test_a_low_temperature_does_not_overflow():
    views = [view.requires_grad_() for view in embeddings(2, 6, 4, torch.float32)]
    loss = nt_xent_loss(views, temperature=1e-3)  # exp(1000) is no float
    assert loss.isfinite()
    assert all(grad.isfinite().all() for grad in torch.autograd.grad(loss, views))


def test_nan_passes_through():
    views = embeddings(2, 4, 3)
    views[1][0, 0] = float("nan")
    assert nt_xent_loss(views, temperature=0.5).isnan()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    views = [view.requires_grad_() for view in embeddings(2, 16, 8, dtype)]
    expected = nt_xent_loss([view.detach().float() for view in views], temperature=0.2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = nt_xent_loss(views, temperature=0.2)
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert all(view.grad.dtype == dtype for view in views)


@pytest.mark.parametrize("temperature", [0.0, -0.1, float("nan")])
def test_bad_temperatures_are_refused(temperature):
    with pytest.raises(ValueError, match="temperature must be > 0"):
        nt_xent_loss(embeddings(2, 4, 3), temperature=temperature)


@pytest.mark.parametrize(
    ("views", "message"),
    [
        ([torch.randn(4, 3)], "at least two views"),
        ([torch.randn(4, 3), torch.randn(4, 2)], "one shape"),
        ([torch.randn(4), torch.randn(4)], r"\(samples, dimensions\), view 0"),
        ([torch.randn(1, 4), torch.randn(1, 4)], "at least two samples"),
        ([torch.randn(4, 3), torch.ones(4, 3).int()], "floating point, view 1"),
    ],
)
def test_bad_views_are_refused(views, message):
    with pytest.raises(ValueError, match=message):
        nt_xent_loss(views, temperature=0.5)


def loss_and_weight_gradient(x, weight):
    """What DDP gives: each process embeds its part with one linear layer, then gradients are averaged."""
    rank, world = distributed.rank(), distributed.world_size()
    weight = weight.clone().requires_grad_()
    loss = nt_xent_loss([view.chunk(world)[rank] @ weight for view in x], temperature=0.2)
    loss.backward()
    return loss.detach(), distributed.reduce_mean(weight.grad)


@pytest.mark.parametrize(("views", "samples"), [(2, 2), (2, 8), (3, 6)])
def test_two_processes_equal_one(gloo_pool, views, samples):
    x = embeddings(views, samples, 7)
    weight = torch.randn(7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    loss, grad = loss_and_weight_gradient(x, weight)
    for rank_loss, rank_grad in gloo_pool.run(loss_and_weight_gradient, x, weight):
        assert rank_loss.item() == pytest.approx(loss.item(), rel=1e-9)
        torch.testing.assert_close(rank_grad, grad, rtol=1e-9, atol=1e-9)

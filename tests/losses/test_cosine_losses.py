"""The losses that are a cosine of prediction and target: SimSiam's and BYOL's."""

import pytest
import torch
import transcriptions as slow
from transcriptions import assert_is

from solo_frossl import distributed
from solo_frossl.losses import byol_loss, negative_cosine_loss

SHAPES = [(8, 5), (5, 8), (6, 1), (2, 3)]


def embeddings(samples, dimensions, dtype=torch.float64):
    g = torch.Generator().manual_seed(0)
    signal = torch.randn(samples, dimensions, generator=g, dtype=torch.float64)
    noise = torch.randn(2, samples, dimensions, generator=g, dtype=torch.float64)
    return list((signal + noise + 0.5).to(dtype))


SLOW = {negative_cosine_loss: slow.negative_cosine, byol_loss: slow.squared_distance}
ALIGNED_ORTHOGONAL_OPPOSITE = {negative_cosine_loss: (-1, 0, 1), byol_loss: (0, 2, 4)}


@pytest.fixture(params=list(SLOW), ids=lambda loss: loss.__name__)
def loss(request):
    return request.param


@pytest.mark.parametrize("shape", SHAPES)
def test_is_the_equation(loss, shape):
    assert_is(loss, SLOW[loss], *embeddings(*shape))


def test_goes_from_aligned_to_opposite_whatever_the_lengths(loss):
    p, z = embeddings(7, 4)
    scale = torch.linspace(0.1, 9, 7, dtype=torch.float64)[:, None]
    aligned, orthogonal, opposite = ALIGNED_ORTHOGONAL_OPPOSITE[loss]
    assert loss(p, scale * p).item() == pytest.approx(aligned, abs=1e-12)
    assert loss(p, p[:, [1, 0, 3, 2]] * p.new_tensor([1, -1, 1, -1])).item() == pytest.approx(orthogonal, abs=1e-12)
    assert loss(p, -scale * p).item() == pytest.approx(opposite, abs=1e-12)
    torch.testing.assert_close(loss(scale * p, 3 * z), loss(p, z), rtol=0, atol=1e-12)


def test_the_target_gets_no_gradient(loss):
    p, z = (view.requires_grad_() for view in embeddings(6, 4))
    loss(p, z).backward()
    assert p.grad.abs().max() > 0
    assert z.grad is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_zero_row_has_cosine_zero_and_no_gradient(loss, dtype):
    p, z = embeddings(6, 4, dtype)
    p[0], z[1] = 0, 0
    p.requires_grad_()
    value = loss(p, z)
    (grad,) = torch.autograd.grad(value, p)
    orthogonal = ALIGNED_ORTHOGONAL_OPPOSITE[loss][1]
    rest = SLOW[loss](p[2:].detach().numpy(), z[2:].numpy())
    assert value.item() == pytest.approx((4 * rest + 2 * orthogonal) / 6, rel=1e-6)
    assert grad[:2].abs().max() == 0
    assert (grad[2:].abs().sum(1) > 0).all()


def test_zero_embeddings_are_finite(loss):
    p = torch.zeros(5, 3, requires_grad=True)
    value = loss(p, torch.zeros(5, 3))
    value.backward()
    assert value.item() == ALIGNED_ORTHOGONAL_OPPOSITE[loss][1]
    assert p.grad.abs().max() == 0


def test_identical_views_are_at_the_minimum(loss):
    p, _ = embeddings(6, 4)
    p.requires_grad_()
    loss(p, p).backward()
    assert p.grad.abs().max() < 1e-15


@pytest.mark.parametrize("which", [0, 1])
def test_nan_passes_through(loss, which):
    views = embeddings(6, 4)
    views[which][0, 0] = float("nan")
    assert loss(*views).isnan()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(loss, dtype):
    p, z = embeddings(16, 8, dtype)
    p.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(p, z)
    value.backward()
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(SLOW[loss](p.double().detach().numpy(), z.double().numpy()), rel=1e-6)
    assert p.grad.dtype == dtype


@pytest.mark.parametrize(
    ("p", "z", "message"),
    [
        (torch.randn(4, 3), torch.randn(5, 3), "one shape"),
        (torch.randn(4), torch.randn(4), r"\(samples, dimensions\), view 0"),
        (torch.randn(4, 3), torch.ones(4, 3).int(), "floating point, view 1"),
        (torch.randn(1, 3), torch.randn(1, 3), "at least two samples"),
    ],
)
def test_bad_views_are_refused(loss, p, z, message):
    with pytest.raises(ValueError, match=message):
        loss(p, z)


def losses_and_weight_gradients(x, weight):
    """What DDP gives: each process embeds its part with one linear layer, then gradients are averaged."""
    rank, world = distributed.rank(), distributed.world_size()
    values = []
    for loss in SLOW:
        w = weight.clone().requires_grad_()
        a, b = (view.chunk(world)[rank] @ w for view in x)
        value = loss(a, b) + 0.3 * loss(b, a)
        value.backward()
        values += [value.detach(), distributed.reduce_mean(w.grad)]
    return values


def test_two_processes_equal_one(gloo_pool):
    x = embeddings(12, 7)
    weight = torch.randn(7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    values = losses_and_weight_gradients(x, weight)
    for rank_values in gloo_pool.run(losses_and_weight_gradients, x, weight):
        torch.testing.assert_close(rank_values, values, rtol=1e-9, atol=1e-9)

import pytest
import torch
import transcriptions as slow
from transcriptions import assert_is

from solo_frossl import distributed
from solo_frossl.losses.wmse import whiten, wmse_loss

SHAPES = [(16, 2, 8), (16, 3, 16), (24, 4, 8), (12, 1, 4), (2, 1, 2)]
"""N, D, whitening size."""


def embeddings(samples, dimensions, dtype=torch.float64, views=2):
    g = torch.Generator().manual_seed(0)
    signal = torch.randn(samples, dimensions, generator=g, dtype=torch.float64)
    noise = torch.randn(views, samples, dimensions, generator=g, dtype=torch.float64)
    mix = torch.randn(dimensions, dimensions, generator=g, dtype=torch.float64)
    return list(((signal + 0.5 * noise) @ mix + 3).to(dtype))


def seeded(seed=5):
    return torch.Generator().manual_seed(seed)


def partitions(samples, iterations, seed=5):
    """The permutations that ``seeded(seed)`` gives."""
    generator = seeded(seed)
    return [torch.randperm(samples, generator=generator).tolist() for _ in range(iterations)]


@pytest.mark.parametrize(("iterations", "eps", "views"), [(1, 0.0, 2), (3, 0.0, 2), (2, 0.1, 3)])
@pytest.mark.parametrize(("samples", "dimensions", "size"), SHAPES)
def test_is_the_equation(samples, dimensions, size, iterations, eps, views):
    orders = partitions(samples, iterations)
    assert_is(
        lambda *z: wmse_loss(z, whitening_size=size, iterations=iterations, eps=eps, generator=seeded()),
        lambda *z: slow.whitened_distance(z, orders, size, eps),
        *embeddings(samples, dimensions, views=views),
    )


def test_the_partition_matters_and_is_that_of_the_generator():
    z = embeddings(16, 2)
    losses = [wmse_loss(z, whitening_size=4, generator=seeded(seed)).item() for seed in (1, 1, 2)]
    assert losses[0] == losses[1]
    assert abs(losses[0] - losses[2]) > 1e-3


def test_the_default_generator_is_torchs():
    z = embeddings(16, 2)
    torch.manual_seed(11)
    loss = wmse_loss(z, whitening_size=4, iterations=2)
    torch.testing.assert_close(loss, wmse_loss(z, whitening_size=4, iterations=2, generator=seeded(11)), rtol=0, atol=0)


@pytest.mark.parametrize(("samples", "dimensions", "size"), SHAPES)
def test_whitened_batches_have_mean_zero_and_covariance_one(samples, dimensions, size):
    z = torch.stack(embeddings(samples, dimensions)).unflatten(1, (-1, size))
    w = whiten(z)
    assert w.shape == (2, samples // size, size, dimensions)
    torch.testing.assert_close(w.mean(2), torch.zeros_like(w[:, :, 0]), rtol=0, atol=1e-10)
    identity = torch.eye(dimensions, dtype=torch.float64).expand(2, samples // size, -1, -1)
    torch.testing.assert_close(w.mT @ w / (size - 1), identity, rtol=0, atol=1e-9)


def test_does_not_change_with_lower_triangular_maps_and_shifts():
    z1, z2 = embeddings(24, 4)
    loss = wmse_loss([z1, z2], whitening_size=12, generator=seeded())
    g = seeded(3)
    # The Cholesky factor of A C A^T is A L for a lower triangular A with a positive diagonal: a map for each view.
    maps = torch.randn(2, 4, 4, dtype=torch.float64, generator=g).tril(-1) + torch.diag(torch.tensor([0.5, 1, 2, 3.0]))
    mapped = [z @ a.T + 7 for z, a in zip((z1, z2), maps, strict=True)]
    torch.testing.assert_close(wmse_loss(mapped, whitening_size=12, generator=seeded()), loss, rtol=1e-9, atol=1e-9)
    flip = maps[0] @ torch.diag(torch.tensor([1.0, -1, -1, 1], dtype=torch.float64))
    both = [z @ flip.T for z in (z1, z2)]
    torch.testing.assert_close(wmse_loss(both, whitening_size=12, generator=seeded()), loss, rtol=1e-9, atol=1e-9)
    other = wmse_loss([z1 @ maps[0], z2], whitening_size=12, generator=seeded())  # upper triangular
    assert abs(other - loss) > 1e-3


def test_goes_from_equal_to_opposite_views():
    z, _ = embeddings(16, 3)
    z.requires_grad_()
    loss = wmse_loss([z, z], whitening_size=8)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-12)
    assert z.grad.abs().max() < 1e-12
    assert wmse_loss([z, -z], whitening_size=8).item() == pytest.approx(4, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [0.0, 0.1, 1e4])
def test_a_constant_dimension_is_refused_without_eps(value, dtype):
    z = embeddings(16, 3, dtype)
    z[1][:, 1] = value
    with pytest.raises(ValueError, match=r"not positive definite.*eps.*whitening_size.*collapse"):
        wmse_loss(z, whitening_size=8)
    z = [view.requires_grad_() for view in z]
    loss = wmse_loss(z, whitening_size=8, eps=0.1)
    grads = torch.autograd.grad(loss, z)
    assert 0 < loss < 4
    assert all(grad.isfinite().all() for grad in grads)
    assert grads[1][:, 1].abs().max() == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dimensions_that_depend_on_each_other_are_refused(dtype):
    z = embeddings(32, 8, dtype)
    z[0][:, 7] = 0.3 * z[0][:, 1] - 2 * z[0][:, 4]
    with pytest.raises(ValueError, match="not positive definite"):
        wmse_loss(z, whitening_size=16, generator=seeded())


def test_collapsed_embeddings_are_refused_or_finite():
    z = torch.full((16, 3), 0.1, requires_grad=True)
    with pytest.raises(ValueError, match="not positive definite"):
        wmse_loss([z, z], whitening_size=8)
    loss = wmse_loss([z, z], whitening_size=8, eps=0.1)
    loss.backward()
    assert loss.item() == 2  # every sample is at the mean: cosine 0
    assert z.grad.abs().max() == 0


def test_nan_passes_through():
    z = embeddings(16, 3)
    z[1][0, 0] = float("nan")
    assert wmse_loss(z, whitening_size=8).isnan()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    z = [view.requires_grad_() for view in embeddings(16, 3, dtype)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = wmse_loss(z, whitening_size=8, generator=seeded())
    loss.backward()
    expected = slow.whitened_distance([view.detach().double().numpy() for view in z], partitions(16, 1), 8)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected, rel=1e-4)
    assert all(view.grad.dtype == dtype for view in z)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"whitening_size": 10}, "10: it must divide the global batch of 16"),
        ({"whitening_size": 32}, "32: it must divide the global batch of 16"),
        ({"whitening_size": 4}, "at least twice the 3 dimensions of the embeddings, 6"),
        ({"whitening_size": 8, "iterations": 0}, "iterations must be at least 1"),
        ({"whitening_size": 8, "eps": 1.0}, r"eps must be in \[0, 1\)"),
        ({"whitening_size": 8, "eps": -0.1}, r"eps must be in \[0, 1\)"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        wmse_loss(embeddings(16, 3), **arguments)


def test_bad_views_are_refused():
    with pytest.raises(ValueError, match="at least two views"):
        wmse_loss(embeddings(16, 3)[:1], whitening_size=8)


def loss_and_weight_gradient(x, weight, own_generator):
    """What DDP gives: each process embeds its part with one linear layer, then gradients are averaged.

    The generators differ between processes, as Lightning's seeding makes them: rank 0's counts.
    """
    rank, world = distributed.rank(), distributed.world_size()
    weight = weight.clone().requires_grad_()
    torch.manual_seed(5 + rank)
    generator = torch.Generator().manual_seed(5 + rank) if own_generator else None
    z = [view.chunk(world)[rank] @ weight for view in x]
    loss = wmse_loss(z, whitening_size=6, iterations=2, generator=generator)
    loss.backward()
    return loss.detach(), distributed.reduce_mean(weight.grad)


@pytest.mark.parametrize("own_generator", [True, False])
def test_two_processes_equal_one(gloo_pool, own_generator):
    x = embeddings(12, 5, views=3)
    weight = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    loss, grad = loss_and_weight_gradient(x, weight, own_generator)
    for rank_loss, rank_grad in gloo_pool.run(loss_and_weight_gradient, x, weight, own_generator):
        assert rank_loss.item() == pytest.approx(loss.item(), rel=1e-9)
        torch.testing.assert_close(rank_grad, grad, rtol=1e-9, atol=1e-9)

import copy
from functools import partial

import numpy as np
import pytest
import torch
import transcriptions as slow
from transcriptions import assert_is

from solo_frossl import distributed
from solo_frossl.losses.closed_form import (
    CorrelationEMA,
    asymmetric_cosine_loss,
    asymmetric_euclidean_loss,
    iso_cosine_loss,
    iso_euclidean_loss,
    predictor_from_correlation,
)

SHAPES = [(8, 5), (5, 8), (6, 1), (2, 3)]
LOSSES = [asymmetric_euclidean_loss, asymmetric_cosine_loss, iso_euclidean_loss, iso_cosine_loss]
ASYMMETRIC, ISO = LOSSES[:2], LOSSES[2:]


def embeddings(samples, dimensions, dtype=torch.float64):
    g = torch.Generator().manual_seed(0)
    signal = torch.randn(samples, dimensions, generator=g, dtype=torch.float64)
    noise = torch.randn(2, samples, dimensions, generator=g, dtype=torch.float64)
    return list((signal + 0.5 * noise + 0.5).to(dtype))


def eigenbasis(dimensions, alpha=0.5):
    """A predictor with eigenvalues from about 0.3 to 1.5, its eigenvectors (columns) and eigenvalues."""
    g = torch.Generator().manual_seed(1)
    u = torch.linalg.qr(torch.randn(dimensions, dimensions, generator=g, dtype=torch.float64))[0]
    eigenvalues = torch.linspace(0.1, 2.3, dimensions, dtype=torch.float64) ** alpha
    return (u * eigenvalues) @ u.T, u, eigenvalues


def in_eigenbasis(z, u):
    return [[sum(u[k][m] * row[k] for k in range(len(u))) for m in range(len(u))] for row in z.tolist()]


def slow_gradient(name, z1, z2, u, eigenvalues):
    """Minus the right-hand sides of Eq. 8 and Eq. 10, IsoLoss without the leading eigenvalue, as ``(N, D)`` modes."""
    u, lam = u.tolist(), eigenvalues.tolist()
    modes = range(len(lam))
    rows = []
    for a, b in zip(in_eigenbasis(z1, u), in_eigenbasis(z2, u), strict=True):
        length = slow.norm(np.array([lam[m] * a[m] for m in modes]))
        row = []
        for m in modes:
            if "euclidean" in name:
                force = b[m] - lam[m] * a[m]
            else:
                pull = sum(lam[k] * (lam[k] * a[k] ** 2 * b[m] - lam[m] * a[m] * a[k] * b[k]) for k in modes if k != m)
                force = pull / (length**3 * slow.norm(np.array(b)))
            row.append(-force * (1 if "iso" in name else lam[m]) / len(z1))
        rows.append(row)
    return torch.tensor(rows, dtype=torch.float64)


# ------------------------------------------------------------------------------------------------------------- losses


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("shape", SHAPES)
def test_is_the_equation(shape, loss):
    predictor, u, eigenvalues = eigenbasis(shape[1])
    formula = partial(slow.closed_form, loss.__name__, u=u.numpy(), eigenvalues=eigenvalues.numpy())
    assert_is(partial(loss, predictor=predictor), formula, *embeddings(*shape))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("shape", SHAPES)
def test_gradient_is_the_papers_dynamics(shape, loss):
    z1, z2 = (view.requires_grad_() for view in embeddings(*shape))
    predictor, u, eigenvalues = eigenbasis(shape[1])
    predictor.requires_grad_()
    loss(z1, z2, predictor).backward()
    expected = slow_gradient(loss.__name__, z1.detach(), z2.detach(), u, eigenvalues)
    torch.testing.assert_close(z1.grad @ u, expected, rtol=1e-9, atol=1e-12)
    assert z2.grad is None
    assert predictor.grad is None


@pytest.mark.parametrize(("asymmetric", "iso"), list(zip(ASYMMETRIC, ISO, strict=True)))
def test_isoloss_gradient_lacks_the_leading_eigenvalue(asymmetric, iso):
    z1, z2 = embeddings(7, 5)
    z1.requires_grad_()
    predictor, u, eigenvalues = eigenbasis(5)
    (grad,) = torch.autograd.grad(asymmetric(z1, z2, predictor), z1)
    (iso_grad,) = torch.autograd.grad(iso(z1, z2, predictor), z1)
    assert grad.abs().max() > 1e-3
    torch.testing.assert_close(eigenvalues * (iso_grad @ u), grad @ u, rtol=1e-9, atol=1e-12)


def test_euclidean_isoloss_has_the_value_of_the_euclidean_loss():
    z1, z2 = embeddings(7, 5)
    predictor, *_ = eigenbasis(5)
    expected = asymmetric_euclidean_loss(z1, z2, predictor)
    torch.testing.assert_close(iso_euclidean_loss(z1, z2, predictor), expected, rtol=1e-12, atol=0)


def test_scale_of_the_predictor():
    z1, z2 = embeddings(7, 5)
    z1.requires_grad_()
    predictor, *_ = eigenbasis(5)
    torch.testing.assert_close(
        asymmetric_cosine_loss(z1, z2, 7 * predictor), asymmetric_cosine_loss(z1, z2, predictor), rtol=1e-9, atol=0
    )
    grads = [torch.autograd.grad(iso_cosine_loss(z1, z2, scale * predictor), z1)[0] for scale in (1, 7)]
    torch.testing.assert_close(7 * grads[1], grads[0], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("loss", LOSSES)
def test_no_predictor_is_the_identity(loss):
    z1, z2 = embeddings(6, 4)
    identity = torch.eye(4, dtype=torch.float64)
    torch.testing.assert_close(loss(z1, z2), loss(z1, z2, identity), rtol=1e-12, atol=0)


@pytest.mark.parametrize("loss", LOSSES)
def test_without_stop_gradient_both_views_get_one(loss):
    z = [view.requires_grad_() for view in embeddings(6, 4)]
    predictor, u, eigenvalues = eigenbasis(4)
    formula = partial(
        slow.closed_form, loss.__name__, u=u.numpy(), eigenvalues=eigenvalues.numpy(), stop_gradient=False
    )
    assert_is(partial(loss, predictor=predictor, stop_gradient=False), formula, *z)
    grads = torch.autograd.grad(loss(*z, predictor, stop_gradient=False), z)
    assert all(grad.abs().max() > 1e-3 for grad in grads)
    if loss in ASYMMETRIC:
        torch.testing.assert_close(grads[0], torch.autograd.grad(loss(*z, predictor), z[0])[0], rtol=1e-12, atol=0)


def test_limits():
    z, _ = embeddings(6, 4)
    assert asymmetric_euclidean_loss(z, z).item() == iso_euclidean_loss(z, z).item() == 0
    assert asymmetric_cosine_loss(z, 3 * z).item() == pytest.approx(-1, rel=1e-12)
    assert asymmetric_cosine_loss(z, -z).item() == pytest.approx(1, rel=1e-12)
    z.requires_grad_()
    (grad,) = torch.autograd.grad(iso_cosine_loss(z, z), z)
    assert grad.abs().max() < 1e-12


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("loss", LOSSES)
def test_zero_rows_and_predictions_are_finite(loss, dtype):
    z1, z2 = embeddings(6, 4, dtype)
    z1[0], z2[1] = 0, 0
    z1[2] = torch.tensor([0, 0, 0, 2.0])
    predictor = torch.diag(torch.tensor([1.0, 0.5, 0.5, 0.0]))
    z1.requires_grad_()
    value = loss(z1, z2, predictor)
    (grad,) = torch.autograd.grad(value, z1)
    assert value.isfinite()
    assert grad.isfinite().all()
    if "cosine" in loss.__name__:
        assert grad[:3].abs().max() == 0
        rest = loss(z1[3:], z2[3:], predictor)
        torch.testing.assert_close(value, rest * 3 / 6, rtol=1e-5, atol=0)
    (grad,) = torch.autograd.grad(loss(z1 * 0, z2 * 0, predictor), z1)
    assert grad.abs().max() == 0
    (grad,) = torch.autograd.grad(loss(z1, z2, 0 * predictor), z1)
    assert grad.isfinite().all()


@pytest.mark.parametrize("loss", LOSSES)
def test_short_predictions_keep_a_finite_gradient(loss):
    z1, z2 = embeddings(6, 4, torch.float32)
    z1.requires_grad_()
    (grad,) = torch.autograd.grad(loss(z1, z2, 1e-14 * torch.eye(4)), z1)
    assert grad.isfinite().all()


@pytest.mark.parametrize("loss", LOSSES)
def test_nan_passes_through(loss):
    z1, z2 = embeddings(6, 4)
    z2[0, 0] = float("nan")
    assert loss(z1, z2, eigenbasis(4)[0]).isnan()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("loss", LOSSES)
def test_half_precision_is_computed_in_float32(loss, dtype):
    z1, z2 = embeddings(16, 8, dtype)
    z1.requires_grad_()
    predictor, u, eigenvalues = eigenbasis(8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(z1, z2, predictor)
    value.backward()
    assert value.dtype == torch.float32
    arrays = [x.detach().double().numpy() for x in (z1, z2, u, eigenvalues)]
    expected = slow.closed_form(loss.__name__, *arrays)
    assert value.item() == pytest.approx(expected, rel=1e-5)
    assert z1.grad.dtype == dtype


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(
    ("z1", "z2", "predictor", "message"),
    [
        (torch.randn(4, 3), torch.randn(4, 2), None, "one shape"),
        (torch.randn(4, 3), torch.ones(4, 3).int(), None, "floating point, view 1"),
        (torch.randn(4, 3), torch.randn(4, 3), torch.eye(4), r"must be \(3, 3\).*got shape \(4, 4\)"),
    ],
)
def test_bad_views_are_refused(loss, z1, z2, predictor, message):
    with pytest.raises(ValueError, match=message):
        loss(z1, z2, predictor)


# ---------------------------------------------------------------------------------------------------------- predictor


def correlation(dimensions, dtype=torch.float64):
    g = torch.Generator().manual_seed(2)
    z = torch.randn(3 * dimensions, dimensions, generator=g, dtype=torch.float64)
    return (z.T @ z / len(z)).to(dtype)


@pytest.mark.parametrize("eps", [0.0, 0.3])
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("alpha", [0.5, 1.0, 1.7])
@pytest.mark.parametrize("dimensions", [1, 2, 6])
def test_predictor_is_the_power_of_the_correlation(dimensions, alpha, normalize, eps):
    c = correlation(dimensions)
    u, eigenvalues = slow.power(c.numpy(), alpha, normalize, eps)
    expected = sum(eigenvalues[m] * np.outer(u[:, m], u[:, m]) for m in range(dimensions))
    predictor = predictor_from_correlation(c, alpha=alpha, normalize=normalize, eps=eps)
    torch.testing.assert_close(predictor, torch.from_numpy(expected), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(predictor, predictor.T, rtol=0, atol=1e-12)
    assert torch.linalg.eigvalsh(predictor).min() > 0


def test_powers_one_and_one_half():
    c = correlation(6)
    torch.testing.assert_close(predictor_from_correlation(c, alpha=1, normalize=False), c, rtol=1e-12, atol=1e-12)
    root = predictor_from_correlation(c, alpha=0.5, normalize=False)
    torch.testing.assert_close(root @ root, c, rtol=1e-12, atol=1e-12)
    # DirectPred's fixed point: with equal eigenvalues of 1, W_P = I, which is also what a normalised one gives.
    torch.testing.assert_close(
        predictor_from_correlation(5 * torch.eye(3), alpha=0.5), torch.eye(3), rtol=1e-6, atol=1e-6
    )


def test_rank_deficient_and_slightly_negative_correlations():
    z = torch.randn(2, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    c = z.T @ z / 2  # rank 2: four eigenvalues are 0 up to rounding, on both sides
    predictor = predictor_from_correlation(c, alpha=0.5, normalize=False)
    torch.testing.assert_close(predictor @ predictor, c, rtol=1e-9, atol=1e-9)
    negative = torch.diag(torch.tensor([4.0, -1e-3]))
    expected = torch.diag(torch.tensor([2.0, 0.0]))
    torch.testing.assert_close(predictor_from_correlation(negative, alpha=0.5, normalize=False), expected)


@pytest.mark.parametrize("normalize", [False, True])
def test_a_correlation_of_zeros_gives_a_finite_predictor(normalize):
    zeros = torch.zeros(3, 3)
    assert predictor_from_correlation(zeros, alpha=0.5, normalize=normalize).abs().max() == 0
    with_eps = predictor_from_correlation(zeros, alpha=0.5, normalize=normalize, eps=0.04)
    torch.testing.assert_close(with_eps, 0.2 * torch.eye(3))


def test_predictor_passes_no_gradient_and_computes_halves_in_float32():
    c = correlation(4, torch.float16).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        predictor = predictor_from_correlation(c, alpha=1, normalize=False)
    assert predictor.dtype == torch.float32
    assert not predictor.requires_grad
    torch.testing.assert_close(predictor, c.detach().float(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "arguments", "message"),
    [
        ((3, 2), {"alpha": 1.0}, r"got shape \(3, 2\)"),
        ((3,), {"alpha": 1.0}, r"got shape \(3,\)"),
        ((3, 3), {"alpha": 0.0}, "alpha must be above 0"),
        ((3, 3), {"alpha": 1.0, "eps": -1.0}, "eps must be 0 or more"),
    ],
)
def test_bad_correlations_are_refused(shape, arguments, message):
    with pytest.raises(ValueError, match=message):
        predictor_from_correlation(torch.ones(shape), **arguments)


# -------------------------------------------------------------------------------------------------------- correlation


@pytest.mark.parametrize("views", [1, 2, 3])
def test_correlation_is_the_moving_average(views):
    g = torch.Generator().manual_seed(4)
    ema = CorrelationEMA(4, momentum=0.7)
    expected = np.zeros((4, 4))
    for _ in range(3):
        z = torch.randn(views, 6, 4, generator=g, dtype=torch.float64) + 2  # it is not centred
        ema.update([view.requires_grad_() for view in z])
        expected = slow.correlation_ema(expected, 0.7, z.detach().numpy())
    torch.testing.assert_close(ema.value, torch.from_numpy(expected), rtol=1e-9, atol=1e-9)
    assert not ema.value.requires_grad
    assert CorrelationEMA(4).momentum == 0.998


def test_update_is_out_of_place():
    ema = CorrelationEMA(4)
    before = ema.value
    ema.update(embeddings(6, 4))
    assert before.abs().max() == 0
    assert ema.value.abs().max() > 0
    assert ema.state_dict()["value"] is not before


def test_a_batch_that_is_not_finite_is_passed_over():
    ema, clean = CorrelationEMA(4), CorrelationEMA(4)
    z1, z2 = embeddings(6, 4)
    for correlation_ema in (ema, clean):
        correlation_ema.update([z1, z2])
    z2[0, 0] = float("nan")
    ema.update([z1, z2])
    torch.testing.assert_close(ema.value, clean.value, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_cast_leaves_the_average_in_float64(dtype):
    ema = CorrelationEMA(4)
    ema.update(embeddings(6, 4))
    before = copy.deepcopy(ema.value)
    torch.testing.assert_close(ema.to(dtype).value, before, rtol=0, atol=0)
    z = [view.to(dtype) for view in embeddings(6, 4)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ema.update(z)
    expected = 0.998 * before + 0.002 * sum(view.double().T @ view.double() / 6 for view in z) / 2
    torch.testing.assert_close(ema.value, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("z", [[], [torch.randn(6, 3)], [torch.randn(4)]])
def test_bad_embeddings_are_refused(z):
    with pytest.raises(ValueError, match=r"tensors \(samples, 4\)"):
        CorrelationEMA(4).update(z)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((0,), "dimensions must be at least 1"), ((3, 1.0), r"momentum must be in \[0, 1\)"), ((3, -0.1), "momentum")],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        CorrelationEMA(*arguments)


# ------------------------------------------------------------------------------------------------------ two processes


def losses_gradients_and_state(x, weight):
    """What DDP gives: each process embeds its part with one linear layer, then gradients are averaged."""
    rank, world = distributed.rank(), distributed.world_size()
    ema = CorrelationEMA(weight.shape[1], momentum=0.5)
    values, grads = [], []
    for loss in LOSSES:
        w = weight.clone().requires_grad_()
        z1, z2 = (view.chunk(world)[rank] @ w for view in x)
        ema.update([z1, z2])
        predictor = predictor_from_correlation(ema.value, alpha=0.5)
        value = loss(z1, z2, predictor) + 0.3 * loss(z2, z1, predictor)
        value.backward()
        values.append(value.detach())
        grads.append(distributed.reduce_mean(w.grad))
    return torch.stack(values), torch.stack(grads), ema.value


def test_two_processes_equal_one(gloo_pool):
    x = embeddings(12, 7)
    weight = torch.randn(7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = losses_gradients_and_state(x, weight)
    for rank_values in gloo_pool.run(losses_gradients_and_state, x, weight):
        for value, one in zip(rank_values, expected, strict=True):
            torch.testing.assert_close(value, one, rtol=1e-9, atol=1e-9)

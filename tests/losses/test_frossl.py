import math

import numpy as np
import pytest
import torch
import transcriptions as slow
from transcriptions import assert_is

from solo_frossl import distributed
from solo_frossl.losses import frossl_loss, frossl_terms
from solo_frossl.losses.frossl import _doubly_normalised, plain_terms
from solo_frossl.losses.normalise import standardise

SHAPES = [(8, 5), (5, 8), (6, 6), (2, 3), (3, 2)]
NORMALIZATIONS = ["dimension", "sample", "both"]


def embeddings(samples, dimensions, views=2, seed=0, dtype=torch.float64):
    """Views that share a signal, have unequal scales and a mean."""
    g = torch.Generator().manual_seed(seed)
    signal = torch.randn(samples, dimensions, generator=g, dtype=torch.float64)
    scale = torch.rand(dimensions, generator=g, dtype=torch.float64) + 0.5
    return [
        (scale * (signal + 0.5 * torch.randn(samples, dimensions, generator=g, dtype=torch.float64)) + 3).to(dtype)
        for _ in range(views)
    ]


class TestValue:
    @pytest.mark.parametrize("normalization", NORMALIZATIONS)
    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("views", [2, 3, 4])
    def test_is_the_equation(self, shape, views, normalization):
        z = embeddings(*shape, views)
        for log, weights in ((True, (0.3, 1.4)), (False, (1.0, 0.0)), (True, (0.0, 1.0))):
            settings = {"log_variance": log, "normalization": normalization}

            def loss(*z, weights=weights, settings=settings):
                return frossl_loss(z, variance_weight=weights[0], invariance_weight=weights[1], **settings)

            def formula(*z, weights=weights, log=log):
                return np.dot(weights, slow.frossl_terms(z, normalization, log))

            assert_is(loss, formula, *z)
            terms = [term.item() for term in frossl_terms(z, **settings)]
            expected = slow.frossl_terms([view.numpy() for view in z], normalization, log)
            assert terms == pytest.approx(expected, rel=1e-9, abs=1e-9)

    def test_of_two_views_has_the_mean_correlation(self):
        z1, z2 = embeddings(9, 4)
        r = np.mean([np.corrcoef(z1[:, j], z2[:, j])[0, 1] for j in range(4)])
        assert frossl_terms([z1, z2])[1].item() == pytest.approx(2 * 4 * (1 - r) / 9, rel=1e-9)

    @pytest.mark.parametrize("views", [2, 3, 4])
    def test_has_both_printed_forms_of_the_invariance(self, views):
        z = embeddings(7, 5, views)
        y = np.stack([slow.frossl_normalised(v.numpy(), "dimension") for v in z])
        assert frossl_terms(z)[1].item() == pytest.approx(views / 7 * ((y - y.mean(0)) ** 2).sum(), rel=1e-9)

    @pytest.mark.parametrize("size", [600, 512])
    def test_of_large_products_made_in_strips(self, size):
        z = embeddings(size + 3, size), embeddings(size, size + 3)
        for views in z:
            y = standardise(views)
            expected = (y.mT @ y).square().sum((1, 2)).div(y.shape[2] ** 2).log().sum()
            assert frossl_terms(views)[0].item() == pytest.approx(expected.item(), rel=1e-12)


class TestLimits:
    @pytest.mark.parametrize("shape", SHAPES)
    def test_rank_one_is_zero(self, shape):
        g = torch.Generator().manual_seed(1)
        z = torch.outer(*(torch.randn(n, generator=g, dtype=torch.float64) for n in shape))
        assert frossl_terms([z, z + 1])[0].item() == pytest.approx(0, abs=1e-12)

    @pytest.mark.parametrize(("samples", "dimensions"), [(9, 4), (4, 9), (5, 5), (2, 7)])
    def test_isotropic_is_the_least(self, samples, dimensions):
        rank = min(samples - 1, dimensions)
        centred = torch.randn(samples, samples - 1, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
        basis = torch.linalg.qr(centred - centred.mean(0))[0]  # orthonormal columns with mean 0
        if dimensions <= rank:
            z = basis[:, :dimensions]
        else:  # columns of norm 1 whose outer products sum to a multiple of the projection on the N - 1 directions
            angles = torch.fft.fft(torch.eye(dimensions, dtype=torch.float64)).real
            frame = torch.linalg.qr(angles + 0.1 * torch.eye(dimensions, dtype=torch.float64))[0][:rank]
            for _ in range(3000):  # to a tight frame of unit vectors, alternately
                frame = frame / frame.norm(dim=0)
                u, _, v = torch.linalg.svd(frame, full_matrices=False)
                frame = u @ v * math.sqrt(dimensions / rank)
            z = basis @ frame
        variance = frossl_terms([z, z])[0].item() / 2
        assert variance == pytest.approx(-math.log(rank), abs=1e-6)

    @pytest.mark.parametrize("normalization", NORMALIZATIONS)
    def test_lies_between_the_limits(self, normalization):
        for samples, dimensions in SHAPES:
            z = embeddings(samples, dimensions, seed=3)
            variance = frossl_terms([z[0], z[0]], normalization=normalization)[0].item() / 2
            assert -math.log(min(samples - 1, dimensions)) - 1e-9 <= variance <= 1e-9

    @pytest.mark.parametrize("normalization", NORMALIZATIONS)
    @pytest.mark.parametrize("shape", SHAPES)
    def test_equal_views_have_no_distance(self, shape, normalization):
        z = embeddings(*shape)[0]
        assert frossl_terms([z, z, z], normalization=normalization)[1].item() == pytest.approx(0, abs=1e-12)


class TestInvariances:
    @pytest.fixture(params=[(9, 4), (4, 9)])
    def z(self, request):
        return embeddings(*request.param, views=3)

    @pytest.mark.parametrize("normalization", NORMALIZATIONS)
    def test_to_the_order_of_samples_dimensions_and_views(self, z, normalization):
        rows, columns = torch.randperm(len(z[0])), torch.randperm(z[0].shape[1])
        moved = [view[rows][:, columns] for view in (z[2], z[0], z[1])]
        for a, b in zip(*(frossl_terms(v, normalization=normalization) for v in (z, moved)), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)

    @pytest.mark.parametrize("normalization", NORMALIZATIONS)
    def test_to_a_shift_of_the_mean(self, z, normalization):
        shifted = [view + torch.arange(float(view.shape[1])) for view in z]
        for a, b in zip(*(frossl_terms(v, normalization=normalization) for v in (z, shifted)), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)

    def test_to_the_scale_of_a_dimension(self, z):
        scaled = [view * torch.logspace(-6, 6, view.shape[1], dtype=torch.float64) for view in z]
        for a, b in zip(frossl_terms(z), frossl_terms(scaled), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)

    def test_to_a_rotation_of_the_normalised_samples(self, z):
        y = standardise(z)
        g = torch.Generator().manual_seed(4)
        rotation = torch.linalg.qr(torch.randn(len(z[0]), len(z[0]), generator=g, dtype=torch.float64))[0]
        for a, b in zip(plain_terms(y), plain_terms(rotation @ y), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)

    def test_not_to_centring(self, z):
        """Without it a mean of 3 would make the views nearly rank one."""
        uncentred = [slow.frossl_normalised(view.numpy(), "dimension") + 3 for view in z]
        assert frossl_terms([torch.tensor(u) for u in uncentred])[0] < -1


class TestGradient:
    @pytest.mark.parametrize("shape", [(6, 4), (4, 6)])
    @pytest.mark.parametrize("views", [2, 4])
    def test_is_that_of_plain_autograd(self, shape, views):
        z = [view.requires_grad_() for view in embeddings(*shape, views)]
        norms, distance = plain_terms(standardise(z))
        plain = 0.7 * (norms / shape[1] ** 2).log().sum() + 1.3 * distance / shape[0]
        expected = torch.autograd.grad(plain, z)
        actual = torch.autograd.grad(frossl_loss(z, variance_weight=0.7, invariance_weight=1.3), z)
        for a, b in zip(actual, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)

    def test_reaches_only_the_view_that_wants_it(self):
        z1, z2 = embeddings(6, 4)
        z1.requires_grad_()
        frossl_loss([z1, z2]).backward()
        assert z1.grad.abs().sum() > 0
        assert z2.grad is None

    def test_without_logarithm_is_the_same_at_rank_one(self):
        """Rank one is a maximum, so the views are moved a little; the ratio of gradients is 1 / ||K||_F^2."""
        g = torch.Generator().manual_seed(5)
        line = torch.outer(*(torch.randn(n, generator=g, dtype=torch.float64) for n in (7, 4)))
        noise = torch.randn(7, 4, generator=g, dtype=torch.float64)
        for size, bound in ((1e-2, 1e-2), (1e-5, 1e-8)):
            z = (line + size * noise).requires_grad_()
            log, plain = (
                torch.autograd.grad(frossl_terms([z, z.detach()], log_variance=log)[0], z)[0] for log in (True, False)
            )
            assert log.norm() > 0
            torch.testing.assert_close(log, plain, rtol=bound, atol=bound * log.norm().item())
        spread = embeddings(7, 4)[0].requires_grad_()
        log, plain = (
            torch.autograd.grad(frossl_terms([spread, spread], log_variance=log)[0], spread)[0] for log in (True, False)
        )
        assert plain.norm() < 0.6 * log.norm()


class TestEdges:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("normalization", NORMALIZATIONS)
    @pytest.mark.parametrize("shape", SHAPES)
    def test_a_constant_dimension_is_left_alone(self, shape, normalization, dtype):
        z = embeddings(*shape, dtype=dtype)
        z[0][:, 1] = 0.1  # whose mean is not exactly 0.1
        z = [view.requires_grad_() for view in z]
        loss = frossl_loss(z, normalization=normalization)
        grads = torch.autograd.grad(loss, z)
        assert loss.isfinite()
        assert all(grad.isfinite().all() for grad in grads)
        # Nothing is divided by a rounding error. (With N = 2 the other gradients are zero, but for theirs.)
        assert max(grad.abs().max() for grad in grads) < 1e3
        if normalization != "sample":
            assert grads[0][:, 1].abs().max() == 0

    @pytest.mark.parametrize("log", [True, False])
    @pytest.mark.parametrize("normalization", NORMALIZATIONS)
    @pytest.mark.parametrize("shape", SHAPES)
    def test_identical_samples(self, shape, normalization, log):
        z = torch.full(shape, 0.1, requires_grad=True)
        loss = frossl_loss([z, z], normalization=normalization, log_variance=log)
        (grad,) = torch.autograd.grad(loss, z)
        trace = shape[0] if normalization == "sample" else shape[1]
        assert loss.item() == pytest.approx(-4 * math.log(trace) if log else 0)
        assert grad.abs().max() == 0

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    @pytest.mark.parametrize("normalization", NORMALIZATIONS)
    def test_nan_passes_through(self, normalization, value):
        z = embeddings(6, 4)
        z[1][2, 3] = value
        assert frossl_loss(z, normalization=normalization).isnan()

    @pytest.mark.parametrize("normalization", NORMALIZATIONS)
    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_half_precision_is_computed_in_float32(self, normalization, dtype):
        z = [view.requires_grad_() for view in embeddings(16, 8, dtype=dtype)]
        single = [view.detach().float().requires_grad_() for view in z]
        expected = frossl_loss(single, normalization=normalization)
        expected.backward()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = frossl_loss(z, normalization=normalization)
        loss.backward()
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
        for half, full in zip(z, single, strict=True):
            assert half.grad.dtype == dtype
            torch.testing.assert_close(half.grad.float(), full.grad, rtol=1e-2, atol=1e-6)

    def test_a_backward_pass_under_autocast_is_not_rounded(self):
        z = [view.requires_grad_() for view in embeddings(16, 8, dtype=torch.float32)]
        loss = frossl_loss(z)
        expected = torch.autograd.grad(loss, z, retain_graph=True)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert all(map(torch.equal, torch.autograd.grad(loss, z), expected))

    def test_double_stays_double(self):
        assert frossl_loss(embeddings(6, 4)).dtype == torch.float64

    def test_views_of_two_precisions(self):
        z1, z2 = embeddings(6, 4)
        z1, z2 = z1.float().requires_grad_(), z2.bfloat16().requires_grad_()
        frossl_loss([z1, z2]).backward()
        assert (z1.grad.dtype, z2.grad.dtype) == (torch.float32, torch.bfloat16)

    def test_layouts_do_not_matter(self):
        z = embeddings(6, 4)
        transposed = [view.T.contiguous().T for view in z]
        assert frossl_loss(transposed).item() == pytest.approx(frossl_loss(z).item(), rel=1e-12)

    @pytest.mark.parametrize(
        ("views", "message"),
        [
            ([torch.randn(4, 3)], "at least two views are needed, got 1"),
            ([torch.randn(4, 3), torch.randn(4, 3, 1)], "view 1 has shape"),
            ([torch.randn(4, 3), torch.randn(5, 3)], "one shape"),
            ([torch.ones(4, 3).long()] * 2, "floating point, view 0 is torch.int64"),
            ([torch.randn(1, 3)] * 2, "at least two samples"),
            ([torch.randn(4, 0)] * 2, "at least one dimension"),
        ],
    )
    def test_bad_views_are_refused(self, views, message):
        with pytest.raises(ValueError, match=message):
            frossl_loss(views)

    def test_an_unknown_normalization_is_refused(self):
        with pytest.raises(ValueError, match="'dimension', 'sample' or 'both', got 'batch'"):
            frossl_loss(embeddings(4, 3), normalization="batch")


class TestDoubleNormalisation:
    @pytest.mark.parametrize("shape", [(16, 128), (64, 16), (32, 32)])
    def test_rows_and_columns_have_their_norms(self, shape):
        y = _doubly_normalised([torch.randn(shape, dtype=torch.float64)] * 2)[0]
        torch.testing.assert_close(y.norm(dim=0), torch.ones(shape[1], dtype=torch.float64), rtol=1e-12, atol=0)
        rows = torch.full((shape[0],), math.sqrt(shape[1] / shape[0]), dtype=torch.float64)
        torch.testing.assert_close(y.norm(dim=1), rows, rtol=1e-6, atol=0)


# -------------------------------------------------------------------------------------------------- two real processes


def loss_and_weight_gradient(x, weight, normalization, log):
    """What DDP gives: each process embeds its part with one linear layer, then gradients are averaged."""
    rank, world = distributed.rank(), distributed.world_size()
    weight = weight.clone().requires_grad_()
    loss = frossl_loss(
        [view.chunk(world)[rank] @ weight for view in x],
        invariance_weight=1.4,
        log_variance=log,
        normalization=normalization,
    )
    loss.backward()
    return loss.detach(), distributed.reduce_mean(weight.grad)


@pytest.mark.parametrize("log", [True, False])
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("dimensions", [5, 12, 30])
@pytest.mark.parametrize("views", [2, 3])
def test_two_processes_equal_one(gloo_pool, dimensions, views, normalization, log):
    """12 samples: D < N reduces D x D matrices (also where D is not below N/W), D > N gathers embeddings."""
    x = embeddings(12, 7, views)
    weight = torch.randn(7, dimensions, dtype=torch.float64, generator=torch.Generator().manual_seed(6))
    loss, grad = loss_and_weight_gradient(x, weight, normalization, log)
    for rank_loss, rank_grad in gloo_pool.run(loss_and_weight_gradient, x, weight, normalization, log):
        assert rank_loss.item() == pytest.approx(loss.item(), rel=1e-9)
        torch.testing.assert_close(rank_grad, grad, rtol=1e-9, atol=1e-9)


def one_sample_each():
    return frossl_loss([torch.eye(2)[[distributed.rank()]]] * 2).item()


def test_one_sample_a_process_is_a_batch_of_two(gloo_pool):
    assert gloo_pool.run(one_sample_each) == pytest.approx([0, 0], abs=1e-6)

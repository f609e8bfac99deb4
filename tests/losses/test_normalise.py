import pytest
import torch

from solo_frossl.losses.normalise import check_views, divide_by_column_norms, mean_cosine, unit_rows


def normal(*shape, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


@pytest.mark.parametrize("shape", [(4, 3), (2, 4, 3), (2, 3, 4, 5)])
def test_rows_get_norm_one_and_keep_their_direction(shape):
    x = normal(*shape)
    y = unit_rows(x)
    torch.testing.assert_close(y.square().sum(-1), torch.ones(shape[:-1], dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(y * torch.linalg.vector_norm(x, dim=-1, keepdim=True), x, rtol=1e-12, atol=0)
    assert torch.autograd.gradcheck(unit_rows, x.requires_grad_())


@pytest.mark.parametrize("length", [1e-10, 1e-15, 1e-18, 1e15])
def test_short_and_long_rows_keep_direction_and_gradient(length):
    x = normal(4, 3, dtype=torch.float32)
    scaled = (length * x).requires_grad_()
    y = unit_rows(scaled)
    torch.testing.assert_close(y, unit_rows(x), rtol=1e-4, atol=1e-5)
    y[:, 0].sum().backward()
    assert scaled.grad.isfinite().all()
    assert scaled.grad.abs().max() * length > 0.1


def test_what_has_no_norm_stays_zero_without_a_gradient():
    rows, columns = normal(2, 4, 3), normal(2, 4, 3)
    rows[0, 1], columns[1, :, 2] = 0, 0
    for x, function, dead in ((rows, unit_rows, (0, 1)), (columns, divide_by_column_norms, (1, slice(None), 2))):
        y = function(x.requires_grad_())
        (y * normal(2, 4, 3)).sum().backward()
        assert (y[dead] == 0).all()
        assert (x.grad[dead] == 0).all()
        assert x.grad.isfinite().all()


def test_columns_get_norm_one_over_the_samples():
    y = normal(2, 6, 3)
    squares = divide_by_column_norms(y).square().sum(1)
    torch.testing.assert_close(squares, torch.ones(2, 3, dtype=torch.float64), rtol=0, atol=1e-12)
    assert torch.autograd.gradcheck(divide_by_column_norms, y.requires_grad_())


def test_a_cosine_has_a_gradient_to_both():
    a, b = normal(2, 5, 4)
    expected = torch.nn.functional.cosine_similarity(a, b).mean()
    torch.testing.assert_close(mean_cosine(a, b), expected, rtol=1e-12, atol=0)
    assert torch.autograd.gradcheck(mean_cosine, (a.requires_grad_(), b.requires_grad_()))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_becomes_float32(dtype):
    assert unit_rows(normal(4, 3).to(dtype)).dtype == torch.float32


@pytest.mark.parametrize(
    ("views", "message"),
    [
        ([torch.randn(4, 3)], "at least two views are needed, got 1"),
        ([torch.randn(4, 3), torch.randn(4, 2)], r"view 0 has \(4, 3\), view 1 has \(4, 2\)"),
        ([torch.randn(4)] * 2, r"\(samples, dimensions\), view 0 has shape \(4,\)"),
        ([torch.randn(4, 3), torch.ones(4, 3).int()], "floating point, view 1 is torch.int32"),
        ([torch.randn(4, 0)] * 2, "at least one dimension"),
        ([torch.randn(1, 3)] * 2, "at least two samples are needed over all processes, got 1: raise"),
    ],
)
def test_views_that_no_objective_can_use_are_refused(views, message):
    with pytest.raises(ValueError, match=message):
        check_views(views)

import pytest
import torch

from solo_frossl import distributed as d


def rows_of(x):
    """This process's part of a global batch."""
    return x.chunk(d.world_size())[d.rank()]


def world():
    return d.is_distributed(), d.rank(), d.world_size()


def gather_and_gradient(x, weight):
    own = rows_of(x).clone().requires_grad_()
    everyone = d.gather(own)
    # Each process weighs the rows differently, so that a backward pass that forgets the other process shows.
    (everyone * weight * (1 + d.rank())).sum().backward()
    return everyone.detach(), own.grad


def reduce_and_gradient(name, x, weight):
    own = rows_of(x).clone().requires_grad_()
    reduced = getattr(d, name)(own)
    (reduced * weight * (1 + d.rank())).sum().backward()
    return reduced.detach(), own.grad


def gather_plain(x):
    return d.gather(rows_of(x))


def gather_transposed(x):
    """A view whose memory order is not that of its shape."""
    return d.gather(rows_of(x).T.contiguous().T)


def reduce_transposed(x):
    own = rows_of(x).T
    before = own.clone()
    return d.reduce_sum(own), torch.equal(own, before)


def reduce_plain(x):
    return d.reduce_sum(rows_of(x))


def ragged(sizes):
    n = sizes[d.rank()]
    return d.gather_ragged(torch.arange(n * 2).reshape(n, 2) + 100 * d.rank())


def permutation(count):
    torch.manual_seed(d.rank())
    order = d.shared_permutation(count)
    return order, torch.rand(())


def ddp_gradients(x, weight):
    """The convention: a loss of gathered values, then the mean of gradients over processes."""
    weight = weight.clone().requires_grad_()
    z = rows_of(x) @ weight
    spread = (d.gather(z).T @ d.gather(z)).square().sum() + d.reduce_mean(z.mean(0)).square().sum()
    (spread + z.exp().mean()).backward()
    return d.reduce_mean(weight.grad)


def fail_on_one():
    if d.rank() == 1:
        raise KeyError("a name that nobody has")
    return "fine"


X = torch.arange(12.0, dtype=torch.float64).reshape(4, 3)


class TestOneProcess:
    def test_is_not_distributed(self):
        assert world() == (False, 0, 1)

    @pytest.mark.parametrize("name", ["gather", "reduce_sum", "reduce_mean", "gather_ragged"])
    def test_is_the_identity(self, name):
        assert getattr(d, name)(X) is X

    def test_counts_booleans(self):
        assert d.reduce_sum(torch.tensor([True, False])).dtype == torch.int64


class TestTwoProcesses:
    def test_know_their_place(self, gloo_pool):
        assert gloo_pool.run(world) == [(True, 0, 2), (True, 1, 2)]

    def test_gather_in_rank_order_and_sum_gradients(self, gloo_pool):
        weight = torch.rand(4, 3, dtype=torch.float64)
        for rank, (everyone, grad) in enumerate(gloo_pool.run(gather_and_gradient, X, weight)):
            assert torch.equal(everyone, X)
            assert torch.equal(grad, 3 * weight.chunk(2)[rank])

    @pytest.mark.parametrize(("name", "processes"), [("reduce_sum", 1), ("reduce_mean", 2)])
    def test_reduce_and_sum_gradients(self, gloo_pool, name, processes):
        weight = torch.rand(2, 3, dtype=torch.float64)
        for reduced, grad in gloo_pool.run(reduce_and_gradient, name, X, weight):
            assert torch.equal(reduced, (X[:2] + X[2:]) / processes)
            assert torch.equal(grad, 3 * weight / processes)

    def test_gather_what_is_not_contiguous(self, gloo_pool):
        assert all(torch.equal(everyone, X) for everyone in gloo_pool.run(gather_transposed, X))

    def test_reduce_what_is_not_contiguous_and_leave_it_alone(self, gloo_pool):
        for total, untouched in gloo_pool.run(reduce_transposed, X):
            assert torch.equal(total, (X[:2] + X[2:]).T)
            assert untouched

    @pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.bfloat16])
    def test_gather_keeps_the_type(self, gloo_pool, dtype):
        x = torch.tensor([[0], [1], [1], [1]]).to(dtype)
        for everyone in gloo_pool.run(gather_plain, x):
            assert everyone.dtype == dtype
            assert torch.equal(everyone, x)

    def test_count_booleans(self, gloo_pool):
        x = torch.tensor([True, True, True, False])
        assert all(total.tolist() == [2, 1] for total in gloo_pool.run(reduce_plain, x))

    @pytest.mark.parametrize("sizes", [(3, 1), (0, 2), (2, 0), (0, 0)])
    def test_gather_ragged(self, gloo_pool, sizes):
        parts = [torch.arange(n * 2).reshape(n, 2) + 100 * rank for rank, n in enumerate(sizes)]
        assert all(torch.equal(everyone, torch.cat(parts)) for everyone in gloo_pool.run(ragged, sizes))

    def test_have_the_gradient_of_one(self, gloo_pool):
        x, weight = torch.randn(6, 3, dtype=torch.float64), torch.randn(3, 2, dtype=torch.float64)
        alone = ddp_gradients(x, weight)
        for grad in gloo_pool.run(ddp_gradients, x, weight):
            torch.testing.assert_close(grad, alone, rtol=1e-12, atol=1e-12)


class TestPool:
    def test_errors_come_back_readable_and_the_pool_goes_on(self, gloo_pool):
        with pytest.raises(RuntimeError, match=r"process 1 of 2:(?s:.)*fail_on_one(?s:.)*a name that nobody has"):
            gloo_pool.run(fail_on_one)
        assert gloo_pool.run(world) == [(True, 0, 2), (True, 1, 2)]

    def test_functions_that_cannot_travel_are_refused(self, gloo_pool):
        with pytest.raises(ValueError, match="top level"):
            gloo_pool.run(lambda: None)


def test_a_permutation_is_rank_0_s_on_every_process(gloo_pool):
    order, after = permutation(50)
    assert order.sort().values.tolist() == list(range(50))
    (first, first_after), (second, second_after) = gloo_pool.run(permutation, 50)
    assert torch.equal(first, order)
    assert torch.equal(second, order)
    assert first_after == after
    torch.manual_seed(1)
    torch.randperm(50)
    assert second_after == torch.rand(())  # the other process drew too

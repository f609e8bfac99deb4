import copy
import io

import numpy as np
import pytest
import torch
import transcriptions as slow
from transcriptions import assert_is

from solo_frossl import distributed
from solo_frossl.losses.corinfomax import CorInfoMaxLoss

SHAPES = [(8, 5), (5, 8), (6, 6), (6, 1), (2, 3)]


def batches(samples, dimensions, steps=3, dtype=torch.float64):
    """Two views of a batch for each of several steps."""
    g = torch.Generator().manual_seed(0)
    signal = torch.randn(steps, 1, samples, dimensions, generator=g, dtype=torch.float64)
    noise = torch.randn(steps, 2, samples, dimensions, generator=g, dtype=torch.float64)
    return [tuple(step) for step in (signal + 0.5 * noise + 1).to(dtype)]


class Slow:
    """The recursion in NumPy, and its memory."""

    def __init__(self, dimensions, la, eps, normalize=False):
        self.la, self.eps, self.normalize = la, eps, normalize
        self.mean = [np.zeros(dimensions) for _ in range(2)]
        self.covariance = [np.eye(dimensions) for _ in range(2)]

    def terms(self, *views):
        """Of one step, after which the memory is that of the next."""
        views = [view.detach().double().numpy() for view in views]
        *terms, self.mean, self.covariance = self.all_of(*views)
        return tuple(terms)

    def all_of(self, *views):
        return slow.corinfomax_terms(*views, self.mean, self.covariance, self.la, self.eps, self.normalize)

    def loss(self, *views):
        """Weighted, without a step; of arrays."""
        log_determinant, invariance, *_ = self.all_of(*views)
        return log_determinant + 3 * invariance


def assert_state(loss, mean, covariance, tolerance=1e-9):
    torch.testing.assert_close(loss.mean, torch.as_tensor(np.stack(mean)), rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(loss.covariance, torch.as_tensor(np.stack(covariance)), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("la", "eps", "normalize"), [(0.01, 1e-6, False), (0.7, 0.1, False), (0.3, 1e-3, True)])
@pytest.mark.parametrize("shape", SHAPES)
def test_is_the_recursion(shape, la, eps, normalize):
    module = CorInfoMaxLoss(shape[1], invariance_weight=3.0, forgetting_factor=la, eps=eps, normalize=normalize)
    memory = Slow(shape[1], la, eps, normalize)
    for z1, z2 in batches(*shape):
        for i in range(2):
            apart = copy.deepcopy(module)
            assert_is(lambda *z, i=i, m=apart: m.terms(*z)[i], lambda *z, i=i: memory.all_of(*z)[i], z1, z2)
        assert_is(module, memory.loss, z1, z2)
        memory.terms(z1, z2)
        assert_state(module, memory.mean, memory.covariance)


def test_terms_and_forward_are_one_step():
    z = batches(6, 4)[0]
    module = CorInfoMaxLoss(4, invariance_weight=3.0)
    other = copy.deepcopy(module)
    log_determinant, invariance = module.terms(*z)
    expected = Slow(4, 0.01, 1e-6).terms(*z)
    assert (log_determinant.item(), invariance.item()) == pytest.approx(expected, rel=1e-9)
    assert other(*z).item() == log_determinant.item() + 3 * invariance.item()
    assert_state(other, module.mean.numpy(), module.covariance.numpy(), tolerance=0)


def test_without_memory_the_covariance_is_that_of_the_batch():
    z1, z2 = batches(9, 4)[0]
    module = CorInfoMaxLoss(4, forgetting_factor=0.0)
    module(z1 + 100, z2 - 100)
    expected = [torch.cov(z.T, correction=0) for z in (z1, z2)]
    torch.testing.assert_close(module.covariance, torch.stack(expected), rtol=1e-9, atol=1e-9)


def test_evaluation_changes_nothing_and_gives_the_loss_of_the_next_step():
    first, second, _ = batches(6, 4)
    module = CorInfoMaxLoss(4, forgetting_factor=0.3)
    module(*first)
    before = copy.deepcopy(module.state_dict())
    expected = module.eval()(*second)
    for name, value in module.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    assert module.train()(*second).item() == expected.item()
    assert not torch.equal(module.mean, before["mean"])


@pytest.mark.parametrize("normalize", [False, True])
def test_evaluation_has_the_gradient_of_training(normalize):
    first, second, _ = batches(6, 4)
    module = CorInfoMaxLoss(4, forgetting_factor=0.3, eps=1e-2, normalize=normalize)
    module(*first)
    module.eval()
    z = [view.requires_grad_() for view in second]
    grads = torch.autograd.grad(module(*z), z)
    for grad, trained in zip(grads, torch.autograd.grad(module.train()(*z), z), strict=True):
        torch.testing.assert_close(grad, trained, rtol=0, atol=0)


def test_the_memory_holds_no_graph():
    module = CorInfoMaxLoss(4)
    for z in batches(6, 4):
        z = [view.requires_grad_() for view in z]
        module(*z).backward()  # of a graph that reached into the step before, this would fail
    assert not module.mean.requires_grad
    assert not module.covariance.requires_grad


def test_spreading_out_lowers_the_log_determinant_term():
    z1, z2 = batches(9, 4)[0]
    module = CorInfoMaxLoss(4, forgetting_factor=0.0, eps=0.0).eval()
    wide, _ = module.terms(3 * z1, 3 * z2)
    narrow, _ = module.terms(z1, z2)
    assert (narrow - wide).item() == pytest.approx(2 * np.log(9), rel=1e-9)  # variance 9 times as large, two views


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_collapsed_embeddings_are_finite_over_many_steps(dtype):
    module = CorInfoMaxLoss(3)
    z = torch.full((5, 3), 0.1, dtype=dtype, requires_grad=True)
    for _ in range(20):
        loss = module(z, z)
    loss.backward()
    assert loss.item() == pytest.approx(-2 * np.log(1e-6), rel=1e-3)  # nothing but eps is left
    assert z.grad.isfinite().all()


def test_a_singular_covariance_is_refused_and_not_kept():
    module = CorInfoMaxLoss(3, forgetting_factor=0.0, eps=0.0)
    z1, z2 = batches(8, 3)[0]
    module(z1, z2)
    before = copy.deepcopy(module.state_dict())
    z2[:, 1] = 0
    with pytest.raises(ValueError, match="view 1 is not positive definite with eps 0: raise eps"):
        module(z1, z2)
    for name, value in module.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_is_told_by_the_loss_and_not_kept(bad):
    first, second, third = batches(8, 3)
    module, clean = CorInfoMaxLoss(3), CorInfoMaxLoss(3)
    module(*first)
    second[1][2, 0] = bad
    assert not module(*second).isfinite()
    clean(*first)
    assert module(*third).item() == clean(*third).item()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_the_determinant_is_computed_in_float64(dtype):
    (z,) = batches(16, 8, steps=1, dtype=dtype)
    z = [view.requires_grad_() for view in z]
    module = CorInfoMaxLoss(8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        log_determinant, invariance = module.terms(*z)
    (log_determinant + invariance).backward()
    memory = Slow(8, 0.01, 1e-6)
    expected = memory.terms(*z)
    assert log_determinant.dtype == invariance.dtype == torch.float32
    assert (log_determinant.item(), invariance.item()) == pytest.approx(expected, rel=1e-6)
    assert_state(module, memory.mean, memory.covariance)
    assert all(view.grad.dtype == dtype for view in z)


@pytest.mark.parametrize(
    ("cast", "dtype"),
    [
        (lambda m: m.half(), torch.float16),
        (lambda m: m.float(), torch.float32),
        (lambda m: m.to(torch.bfloat16), torch.bfloat16),
        (lambda m: m.to("cpu", torch.float16), torch.float16),
    ],
)
def test_a_cast_leaves_the_memory_in_float64(cast, dtype):
    model = torch.nn.Sequential(torch.nn.Linear(2, 2, dtype=torch.float64), CorInfoMaxLoss(4))
    model[1](*batches(6, 4)[0])
    before = copy.deepcopy(model[1].state_dict())
    cast(model)
    assert model[0].weight.dtype == dtype
    for name, value in model[1].state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)  # of the same type, too
    assert model.to("meta")[1].covariance.is_meta  # it moves


def test_a_checkpoint_goes_on_bit_by_bit():
    first, second, _ = batches(6, 4)
    module = CorInfoMaxLoss(4)
    module(*first)
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    resumed = CorInfoMaxLoss(4)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    assert resumed(*second).item() == module(*second).item()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dimensions": 0}, "dimensions must be at least 1"),
        ({"dimensions": 3, "forgetting_factor": 1.0}, r"forgetting_factor must be in \[0, 1\)"),
        ({"dimensions": 3, "eps": -1.0}, "eps must be 0 or more"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        CorInfoMaxLoss(**arguments)


@pytest.mark.parametrize(
    ("z1", "z2", "message"),
    [
        (torch.randn(4, 3), torch.randn(4, 2), "one shape"),
        (torch.randn(4, 5), torch.randn(4, 5), "5 dimensions, the running covariance has 3"),
        (torch.randn(1, 3), torch.randn(1, 3), "at least two samples"),
    ],
)
def test_bad_views_are_refused(z1, z2, message):
    with pytest.raises(ValueError, match=message):
        CorInfoMaxLoss(3)(z1, z2)


def losses_gradient_and_state(steps, weight):
    """What DDP gives over a few steps: a linear layer, gradients averaged, the module's memory."""
    rank, world = distributed.rank(), distributed.world_size()
    weight = weight.clone().requires_grad_()
    module = CorInfoMaxLoss(weight.shape[1], invariance_weight=3.0, forgetting_factor=0.3, eps=1e-2)
    losses = [module(*(view.chunk(world)[rank] @ weight for view in step)) for step in steps]
    sum(losses).backward()
    grad = distributed.reduce_mean(weight.grad)
    return torch.stack(losses).detach(), grad, module.mean, module.covariance


@pytest.mark.parametrize("dimensions", [5, 15])
def test_two_processes_equal_one(gloo_pool, dimensions):
    steps = batches(12, 7)
    weight = torch.randn(7, dimensions, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = losses_gradient_and_state(steps, weight)
    for rank_values in gloo_pool.run(losses_gradient_and_state, steps, weight):
        for value, one in zip(rank_values, expected, strict=True):
            torch.testing.assert_close(value, one, rtol=1e-9, atol=1e-9)

import math
from functools import partial

import numpy as np
import pytest
import torch
import transcriptions as slow
from transcriptions import assert_is

from solo_frossl import distributed
from solo_frossl.losses.moco import KeyQueue, info_nce_queue_loss

SHAPES = [(8, 5, 3), (5, 8, 20), (2, 3, 1), (3, 1, 4)]


def embeddings(samples, dimensions, negatives, dtype=torch.float64):
    g = torch.Generator().manual_seed(0)
    query, key = torch.randn(2, samples, dimensions, generator=g, dtype=torch.float64)
    queue = torch.randn(negatives, dimensions, generator=g, dtype=torch.float64)
    return [x.to(dtype) for x in (query, query + 0.5 * key, 3 * queue)]


@pytest.mark.parametrize("temperature", [0.2, 1.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_is_the_equation(shape, temperature):
    assert_is(
        partial(info_nce_queue_loss, temperature=temperature),
        partial(slow.info_nce, temperature=temperature),
        *embeddings(*shape),
    )


def test_key_and_queue_are_constants():
    query, key, queue = (x.requires_grad_() for x in embeddings(4, 3, 5))
    loss = info_nce_queue_loss(query, key, queue, temperature=0.5)
    grads = torch.autograd.grad(loss, [query, key, queue], allow_unused=True)
    assert grads[0].abs().max() > 0
    assert grads[1:] == (None, None)


def test_negatives_at_right_angles():
    z = torch.eye(6, dtype=torch.float64)
    loss = info_nce_queue_loss(z[:2], z[:2], z[2:], temperature=0.5)
    assert loss.item() == pytest.approx(math.log(1 + 4 * math.exp(-2)), rel=1e-12)


def test_collapse_gives_chance():
    query = torch.ones(3, 2, dtype=torch.float64, requires_grad=True)
    loss = info_nce_queue_loss(query, query, torch.ones(7, 2, dtype=torch.float64), temperature=0.1)
    assert loss.item() == pytest.approx(math.log(8), rel=1e-12)
    assert torch.autograd.grad(loss, query)[0].abs().max() < 1e-12


def test_does_not_change_with_order_rotation_and_norm():
    query, key, queue = embeddings(6, 4, 9)
    samples, negatives = torch.randperm(6), torch.randperm(9)
    rotation = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64))[0]
    moved = [x * (torch.rand(len(x), 1, dtype=torch.float64) + 0.1) @ rotation for x in (query, key, queue)]
    expected = info_nce_queue_loss(query, key, queue, temperature=0.2)
    loss = info_nce_queue_loss(moved[0][samples], moved[1][samples], moved[2][negatives], temperature=0.2)
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=0)


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_zero_row_is_finite(which):
    tensors = embeddings(4, 3, 5)
    tensors[which][1] = 0
    expected = slow.info_nce(*(x.numpy() for x in tensors), 0.5)
    query = tensors[0].requires_grad_()
    loss = info_nce_queue_loss(*tensors, temperature=0.5)
    (grad,) = torch.autograd.grad(loss, query)
    assert loss.item() == pytest.approx(expected, rel=1e-9)
    assert grad.isfinite().all()
    assert (grad[1].abs().max() == 0) == (which == 0)


def test_a_low_temperature_does_not_overflow():
    query, key, queue = embeddings(4, 3, 5, torch.float32)
    loss = info_nce_queue_loss(query.requires_grad_(), key, queue, temperature=1e-3)
    assert loss.isfinite()
    assert torch.autograd.grad(loss, query)[0].isfinite().all()


def test_nan_passes_through():
    query, key, queue = embeddings(4, 3, 5)
    queue[2, 0] = float("nan")
    assert info_nce_queue_loss(query, key, queue, temperature=0.5).isnan()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    query, key, queue = embeddings(16, 8, 30, dtype)
    expected = info_nce_queue_loss(query.float(), key.float(), queue.float(), temperature=0.2)
    query.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = info_nce_queue_loss(query, key, queue.float(), temperature=0.2)
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert query.grad.dtype == dtype


@pytest.mark.parametrize("temperature", [0.0, -0.1, float("nan")])
def test_bad_temperatures_are_refused(temperature):
    with pytest.raises(ValueError, match="temperature must be > 0"):
        info_nce_queue_loss(*embeddings(4, 3, 5), temperature=temperature)


@pytest.mark.parametrize(
    ("query", "key", "queue", "message"),
    [
        (torch.randn(4, 3), torch.randn(5, 3), torch.randn(6, 3), "one shape"),
        (torch.randn(4), torch.randn(4), torch.randn(6, 4), r"\(samples, dimensions\), view 0"),
        (torch.randn(4, 3), torch.randn(4, 3), torch.randn(6, 2), r"\(keys, 3\).*\(6, 2\)"),
        (torch.randn(4, 3), torch.randn(4, 3), torch.randn(0, 3), r"at least one key.*\(0, 3\)"),
        (torch.randn(4, 3), torch.randn(4, 3), torch.randn(2, 6, 3), r"\(keys, 3\).*\(2, 6, 3\)"),
        (torch.randn(4, 3), torch.randn(4, 3), torch.ones(6, 3).int(), "floating point .*int32"),
    ],
)
def test_bad_tensors_are_refused(query, key, queue, message):
    with pytest.raises(ValueError, match=message):
        info_nce_queue_loss(query, key, queue, temperature=0.5)


def keys_of(step, views, samples, dimensions):
    g = torch.Generator().manual_seed(step)
    return 4 * torch.randn(views, samples, dimensions, generator=g, dtype=torch.float64)


class TestKeyQueue:
    def test_begins_with_random_rows_of_norm_one(self):
        torch.manual_seed(3)
        queue = KeyQueue(50, 4, views=2)
        assert queue.rows.shape == (2, 50, 4)
        assert queue.rows.dtype == torch.get_default_dtype()
        torch.testing.assert_close(queue.rows.norm(dim=2), torch.ones(2, 50))
        assert (queue.position.item(), queue.position.dtype, queue.position.shape) == (0, torch.int64, ())
        other = KeyQueue(50, 4, views=2)
        assert (queue.rows - other.rows).abs().max() > 0.1
        assert (queue.rows[0] - queue.rows[1]).abs().max() > 0.1
        torch.manual_seed(3)
        assert torch.equal(KeyQueue(50, 4, views=2).rows, queue.rows)

    @pytest.mark.parametrize(("size", "samples"), [(6, 3), (5, 2), (4, 4), (3, 7), (5, 11), (1, 1), (1, 3)])
    @pytest.mark.parametrize("views", [1, 2])
    def test_is_a_ring_written_key_by_key(self, size, samples, views):
        queue = KeyQueue(size, 3, views).double()
        rows, position = queue.rows.numpy().copy(), 0
        for step in range(4):
            keys = keys_of(step, views, samples, 3)
            queue.enqueue(keys)
            rows, position = slow.ring(rows, position, keys.numpy())
            np.testing.assert_allclose(queue.rows.numpy(), rows, rtol=1e-12, atol=1e-12)
            assert queue.position.item() == position
        assert queue.rows.shape == (views, size, 3)
        assert (queue.position.dtype, queue.position.shape) == (torch.int64, ())

    def test_a_loss_from_before_can_be_differentiated(self):
        """Also one that keeps the rows themselves, as info_nce_queue_loss does not."""
        query, key, _ = embeddings(4, 3, 1)
        query.requires_grad_()
        queue = KeyQueue(6, 3).double()

        def gradient(enqueue):
            rows = queue.rows[0]
            loss = (query @ rows.T).square().sum() + info_nce_queue_loss(query, key, rows, temperature=0.5)
            if enqueue:
                queue.enqueue(key[None])
            return torch.autograd.grad(loss, query)[0]

        assert torch.equal(gradient(enqueue=False), gradient(enqueue=True))

    def test_keeps_no_graph_and_its_type(self):
        queue = KeyQueue(5, 3)
        keys = keys_of(0, 1, 2, 3).half().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            queue.enqueue(keys * 1)
        assert not queue.rows.requires_grad
        assert queue.rows.dtype == torch.float32
        torch.testing.assert_close(queue.rows[:, :2].norm(dim=2), torch.ones(1, 2), rtol=1e-6, atol=0)

    def test_a_zero_key_stays_zero(self):
        queue = KeyQueue(5, 3)
        queue.enqueue(torch.zeros(1, 2, 3))
        assert queue.rows[:, :2].abs().max() == 0
        assert queue.rows[:, 2:].abs().max() > 0

    def test_never_waits_for_the_device(self):
        """A tensor of the meta device has no value to read."""
        queue = KeyQueue(5, 3).to("meta")
        queue.enqueue(torch.empty(1, 2, 3, device="meta"))
        assert queue.rows.is_meta
        assert queue.position.is_meta

    def test_goes_on_after_saving_and_loading(self, tmp_path):
        queue, restored = KeyQueue(5, 3, views=2), KeyQueue(5, 3, views=2)
        queue.enqueue(keys_of(0, 2, 3, 3))
        torch.save(queue.state_dict(), tmp_path / "queue.pt")
        restored.load_state_dict(torch.load(tmp_path / "queue.pt", weights_only=True))
        for q in (queue, restored):
            q.enqueue(keys_of(1, 2, 3, 3))
        assert torch.equal(restored.rows, queue.rows)
        assert restored.position.item() == queue.position.item() == 1

    @pytest.mark.parametrize("arguments", [(0, 3), (5, 0), (5, 3, 0)])
    def test_bad_sizes_are_refused(self, arguments):
        with pytest.raises(ValueError, match="at least 1"):
            KeyQueue(*arguments)

    @pytest.mark.parametrize("shape", [(4, 3), (2, 4, 3), (1, 4, 2)])
    def test_bad_keys_are_refused(self, shape):
        with pytest.raises(ValueError, match=r"keys must be \(1, samples, 3\)"):
            KeyQueue(5, 3).enqueue(torch.randn(shape))


def losses_gradient_and_state(x, weight, size):
    """Three steps of MoCo as DDP takes them: two views, a linear layer, its gradients averaged, keys enqueued."""
    rank, world = distributed.rank(), distributed.world_size()
    torch.manual_seed(5)
    queue = KeyQueue(size, weight.shape[1], views=2).double()
    weight = weight.clone().requires_grad_()
    losses = []
    for step in x:
        z1, z2 = (view.chunk(world)[rank] @ weight for view in step)
        loss1 = info_nce_queue_loss(z1, z2, queue.rows[1], temperature=0.2)
        loss = loss1 + info_nce_queue_loss(z2, z1, queue.rows[0], temperature=0.2)
        queue.enqueue(torch.stack([z1, z2]))
        loss.backward()
        losses.append(loss.detach())
    return torch.stack(losses), distributed.reduce_mean(weight.grad), queue.rows, queue.position


@pytest.mark.parametrize("size", [16, 9, 5])
def test_two_processes_equal_one(gloo_pool, size):
    g = torch.Generator().manual_seed(1)
    x = torch.randn(3, 2, 8, 7, generator=g, dtype=torch.float64)
    weight = torch.randn(7, 4, generator=g, dtype=torch.float64)
    losses, grad, rows, position = losses_gradient_and_state(x, weight, size)
    results = gloo_pool.run(losses_gradient_and_state, x, weight, size)
    for rank_losses, rank_grad, rank_rows, rank_position in results:
        torch.testing.assert_close(rank_losses, losses, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(rank_grad, grad, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(rank_rows, rows, rtol=1e-9, atol=1e-9)
        assert rank_position.item() == position.item()
    assert torch.equal(results[0][2], results[1][2])

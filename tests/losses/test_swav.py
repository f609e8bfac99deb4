import math

import pytest
import torch
import transcriptions as slow
from transcriptions import assert_is

from solo_frossl import distributed
from solo_frossl.losses.swav import sinkhorn_knopp, swav_loss


def random(*shape, dtype=torch.float64, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


class TestSinkhorn:
    @pytest.mark.parametrize("iterations", [1, 3])
    @pytest.mark.parametrize("epsilon", [0.05, 0.5])
    @pytest.mark.parametrize("shape", [(8, 5), (5, 8), (2, 3), (1, 4), (4, 1)])
    def test_is_the_algorithm(self, shape, epsilon, iterations):
        scores = random(*shape)
        q = sinkhorn_knopp(scores, epsilon=epsilon, iterations=iterations)
        expected = torch.from_numpy(slow.sinkhorn(scores.numpy(), epsilon, iterations))
        torch.testing.assert_close(q, expected, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(q.sum(1), torch.ones(shape[0], dtype=torch.float64), rtol=1e-12, atol=0)

    def test_defaults_are_the_papers(self):
        scores = random(6, 4)
        assert torch.equal(sinkhorn_knopp(scores), sinkhorn_knopp(scores, epsilon=0.05, iterations=3))

    def test_spreads_the_batch_evenly_in_the_limit(self):
        q = sinkhorn_knopp(random(9, 6), epsilon=0.5, iterations=300)
        torch.testing.assert_close(q.sum(0), torch.full((6,), 9 / 6, dtype=torch.float64), rtol=1e-9, atol=0)

    def test_does_not_change_with_what_is_common_to_a_prototype(self):
        scores, order = random(7, 4), torch.randperm(7)
        q = sinkhorn_knopp(scores, epsilon=0.3)
        torch.testing.assert_close(sinkhorn_knopp(scores + random(4, seed=1), epsilon=0.3), q, rtol=1e-10, atol=0)
        torch.testing.assert_close(sinkhorn_knopp(scores[order], epsilon=0.3), q[order], rtol=1e-10, atol=0)

    def test_equal_scores_give_equal_assignments(self):
        torch.testing.assert_close(sinkhorn_knopp(torch.full((5, 4), 0.7)), torch.full((5, 4), 0.25))

    def test_exponentials_that_float32_cannot_hold(self):
        scores = random(20, 8).clamp(-2, 2) * 10  # exp(±400)
        q = sinkhorn_knopp(scores.float())
        expected = torch.from_numpy(slow.sinkhorn(scores.numpy(), 0.05, 3))
        torch.testing.assert_close(q, expected.float(), rtol=0, atol=1e-3)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_no_score_overflows_or_empties_a_row(self, dtype):
        scores = 1e4 * random(20, 8, dtype=dtype)
        scores[3] = -1e6  # no prototype's exponential is above zero
        scores[:, 2] = -1e6
        scores[4, 5] = 1e6
        q = sinkhorn_knopp(scores)
        assert q.isfinite().all()
        torch.testing.assert_close(q.sum(1), torch.ones(20, dtype=dtype), rtol=1e-5, atol=0)
        assert q[:, 2].sum() > 0.5  # the poorest prototype gets its share

    @pytest.mark.parametrize("iterations", [1, 3])
    def test_rows_sum_to_one_where_logarithms_are_coarse(self, iterations):
        scores = (random(20, 8) + 1e4 * random(20, 1, seed=1)).float()  # over epsilon, 2e5: float32 rounds to 0.02
        q = sinkhorn_knopp(scores, iterations=iterations)
        torch.testing.assert_close(q.sum(1), torch.ones(20), rtol=1e-5, atol=0)

    def test_has_no_gradient(self):
        assert not sinkhorn_knopp(random(4, 3).requires_grad_()).requires_grad

    def test_leaves_the_scores_alone(self):
        scores = random(4, 3)
        sinkhorn_knopp(scores, epsilon=1.0)
        assert torch.equal(scores, random(4, 3))

    def test_nan_passes_through(self):
        scores = random(4, 3)
        scores[1, 1] = float("nan")
        assert sinkhorn_knopp(scores).isnan().all()

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_half_precision_is_computed_in_float32(self, dtype):
        scores = random(16, 8, dtype=dtype)
        expected = sinkhorn_knopp(scores.float())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            q = sinkhorn_knopp(scores)
        assert q.dtype == torch.float32
        assert torch.equal(q, expected)

    @pytest.mark.parametrize(
        ("scores", "settings", "message"),
        [
            (torch.randn(4), {}, r"\(samples, prototypes\).*\(4,\)"),
            (torch.randn(2, 4, 3), {}, r"\(samples, prototypes\)"),
            (torch.randn(4, 0), {}, r"\(samples, prototypes\)"),
            (torch.ones(4, 3).int(), {}, "floating point .*int32"),
            (torch.randn(4, 3), {"epsilon": 0.0}, "epsilon must be > 0"),
            (torch.randn(4, 3), {"epsilon": float("nan")}, "epsilon must be > 0"),
            (torch.randn(4, 3), {"iterations": 0}, "iterations must be at least 1"),
        ],
    )
    def test_bad_arguments_are_refused(self, scores, settings, message):
        with pytest.raises(ValueError, match=message):
            sinkhorn_knopp(scores, **settings)


LOSS_SHAPES = [(2, 2, 8, 5), (2, 1, 5, 8), (4, 2, 2, 3), (3, 3, 2, 4), (8, 2, 3, 6)]


def logits_and_assignments(views, assigned, samples, prototypes, dtype=torch.float64):
    q = (3 * random(assigned, samples, prototypes, seed=1)).softmax(2)
    return list(random(views, samples, prototypes, dtype=dtype)), list(q.to(dtype))


class TestLoss:
    @pytest.mark.parametrize("temperature", [0.1, 1.0])
    @pytest.mark.parametrize("shape", LOSS_SHAPES)
    def test_is_the_equation(self, shape, temperature):
        logits, q = logits_and_assignments(*shape)
        views = len(logits)
        assert_is(
            lambda *x: swav_loss(x[:views], x[views:], temperature=temperature),
            lambda *x: slow.swapped_prediction(x[:views], x[views:], temperature),
            *logits,
            *q,
        )

    def test_assignments_are_constants(self):
        logits, q = logits_and_assignments(2, 2, 4, 3)
        logits, q = [z.requires_grad_() for z in logits], [x.requires_grad_() for x in q]
        loss = swav_loss(logits, q, temperature=0.5)
        grads = torch.autograd.grad(loss, [*logits, *q], allow_unused=True)
        assert all(grad.abs().max() > 0 for grad in grads[:2])
        assert grads[2:] == (None, None)

    def test_a_view_does_not_predict_its_own_assignment(self):
        logits, q = logits_and_assignments(3, 1, 4, 3)
        logits = [z.requires_grad_() for z in logits]
        first, *others = torch.autograd.grad(
            swav_loss(logits, q, temperature=0.5), logits, allow_unused=True, materialize_grads=True
        )
        assert first.abs().max() == 0
        assert all(grad.abs().max() > 0 for grad in others)

    def test_equal_logits_give_chance(self):
        _, q = logits_and_assignments(2, 2, 5, 7)
        z = torch.full((5, 7), 0.3, dtype=torch.float64)
        assert swav_loss([z, z], q, temperature=0.1).item() == pytest.approx(math.log(7), rel=1e-12)

    def test_is_the_assignments_entropy_where_predictions_are_right(self):
        q = logits_and_assignments(2, 1, 5, 7)[1][0]
        logits = [0.1 * q.log()] * 3
        entropy = -(q * q.log()).sum(1).mean()
        torch.testing.assert_close(swav_loss(logits, [q, q], temperature=0.1), entropy, rtol=1e-12, atol=0)

    def test_does_not_change_with_order_and_what_is_common_to_a_sample(self):
        logits, q = logits_and_assignments(4, 2, 6, 5)
        rows, columns = torch.randperm(6), torch.randperm(5)
        moved = [z[rows][:, columns] + random(6, 1, seed=2) for z in (logits[1], logits[0], logits[3], logits[2])]
        moved_q = [x[rows][:, columns] for x in q[::-1]]
        expected = swav_loss(logits, q, temperature=0.2)
        torch.testing.assert_close(swav_loss(moved, moved_q, temperature=0.2), expected, rtol=1e-10, atol=0)

    def test_a_low_temperature_does_not_overflow(self):
        logits, q = logits_and_assignments(2, 2, 5, 7, torch.float32)
        logits = [z.requires_grad_() for z in logits]
        loss = swav_loss(logits, q, temperature=1e-3)
        assert loss.isfinite()
        assert all(grad.isfinite().all() for grad in torch.autograd.grad(loss, logits))

    def test_nan_passes_through(self):
        logits, q = logits_and_assignments(2, 2, 4, 3)
        logits[1][0, 0] = float("nan")
        assert swav_loss(logits, q, temperature=0.5).isnan()

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_half_precision_is_computed_in_float32(self, dtype):
        logits, q = logits_and_assignments(3, 2, 16, 8, dtype)
        expected = swav_loss([z.float() for z in logits], [x.float() for x in q], temperature=0.2)
        logits = [z.requires_grad_() for z in logits]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = swav_loss(logits, q, temperature=0.2)
        loss.backward()
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
        assert all(z.grad.dtype == dtype for z in logits)

    @pytest.mark.parametrize("temperature", [0.0, -0.1, float("nan")])
    def test_bad_temperatures_are_refused(self, temperature):
        with pytest.raises(ValueError, match="temperature must be > 0"):
            swav_loss(*logits_and_assignments(2, 2, 4, 3), temperature=temperature)

    @pytest.mark.parametrize(
        ("logits", "assignments", "message"),
        [
            ([torch.randn(4, 3)], [torch.rand(4, 3)], "at least two views"),
            ([torch.randn(4, 3), torch.randn(5, 3)], [torch.rand(4, 3)], "one shape"),
            ([torch.randn(4, 3)] * 2, [], "assignments are needed for 1 to 2 views, got 0"),
            ([torch.randn(4, 3)] * 2, [torch.rand(4, 3)] * 3, "assignments are needed for 1 to 2 views, got 3"),
            ([torch.randn(4, 3)] * 2, [torch.rand(4, 3), torch.rand(4, 2)], r"those of view 1 have \(4, 2\)"),
        ],
    )
    def test_bad_tensors_are_refused(self, logits, assignments, message):
        with pytest.raises(ValueError, match=message):
            swav_loss(logits, assignments, temperature=0.5)


def part(x):
    """This process's rows."""
    return x.chunk(distributed.world_size())[distributed.rank()]


def loss_and_weight_gradient(x, weight):
    """What DDP gives: each process scores its part with one linear layer, then gradients are averaged."""
    weight = weight.clone().requires_grad_()
    scores = [part(view) @ weight for view in x]
    assignments = [sinkhorn_knopp(z, epsilon=0.3) for z in scores[:2]]
    loss = swav_loss(scores, assignments, temperature=0.2)
    loss.backward()
    return loss.detach(), distributed.reduce_mean(weight.grad)


@pytest.mark.parametrize(("views", "samples"), [(2, 2), (2, 8), (4, 6)])
def test_two_processes_equal_one(gloo_pool, views, samples):
    x, weight = random(views, samples, 5), random(5, 6, seed=1)
    loss, grad = loss_and_weight_gradient(x, weight)
    for rank_loss, rank_grad in gloo_pool.run(loss_and_weight_gradient, x, weight):
        assert rank_loss.item() == pytest.approx(loss.item(), rel=1e-9)
        torch.testing.assert_close(rank_grad, grad, rtol=1e-9, atol=1e-9)


def assignments_of_rows(scores, sizes):
    return sinkhorn_knopp(scores.split(sizes)[distributed.rank()], epsilon=0.1)


@pytest.mark.parametrize("sizes", [[3, 3], [5, 1], [0, 6]])
def test_two_processes_assign_as_one_also_unequal_parts(gloo_pool, sizes):
    scores = random(6, 4)
    expected = sinkhorn_knopp(scores, epsilon=0.1)
    parts = gloo_pool.run(assignments_of_rows, scores, sizes)
    assert [len(p) for p in parts] == sizes
    torch.testing.assert_close(torch.cat(parts), expected, rtol=1e-9, atol=1e-12)

import math

import numpy as np
import pytest
import torch
import transcriptions as slow
from transcriptions import assert_is

from solo_frossl import distributed
from solo_frossl.losses.dino import Centre, dino_loss

SHAPES = [(2, 2, 8, 5), (2, 1, 5, 8), (4, 2, 2, 3), (3, 3, 2, 4), (8, 2, 3, 6)]
TEMPERATURES = {"student_temperature": 0.3, "teacher_temperature": 0.2}


def random(*shape, dtype=torch.float64, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def outputs(views, teachers, samples, dimensions, dtype=torch.float64):
    student = list(random(views, samples, dimensions, dtype=dtype))
    teacher = list(random(teachers, samples, dimensions, dtype=dtype, seed=1))
    return student, teacher, random(dimensions, dtype=dtype, seed=2)


@pytest.mark.parametrize("temperatures", [(0.3, 0.2), (1.0, 0.7)])
@pytest.mark.parametrize("shape", SHAPES)
def test_is_the_equation(shape, temperatures):
    def loss(*tensors):
        views = tensors[: shape[0]], tensors[shape[0] : -1]
        return dino_loss(*views, tensors[-1], student_temperature=temperatures[0], teacher_temperature=temperatures[1])

    def formula(*arrays):
        return slow.self_distillation(arrays[: shape[0]], arrays[shape[0] : -1], arrays[-1], *temperatures)

    student, teacher, centre = outputs(*shape)
    assert_is(loss, formula, *student, *teacher, centre)


def test_teacher_and_centre_are_constants():
    student, teacher, centre = outputs(2, 2, 4, 3)
    student, teacher = [s.requires_grad_() for s in student], [t.requires_grad_() for t in teacher]
    loss = dino_loss(student, teacher, centre.requires_grad_(), **TEMPERATURES)
    grads = torch.autograd.grad(loss, [*student, *teacher, centre], allow_unused=True)
    assert all(grad.abs().max() > 0 for grad in grads[:2])
    assert grads[2:] == (None, None, None)


def test_a_view_does_not_learn_from_itself():
    student, teacher, centre = outputs(3, 1, 4, 3)
    student = [s.requires_grad_() for s in student]
    first, *others = torch.autograd.grad(
        dino_loss(student, teacher, centre, **TEMPERATURES), student, allow_unused=True, materialize_grads=True
    )
    assert first.abs().max() == 0
    assert all(grad.abs().max() > 0 for grad in others)


def test_equal_student_outputs_give_chance():
    _, teacher, centre = outputs(2, 2, 5, 7)
    student = [torch.full((5, 7), 0.3, dtype=torch.float64)] * 2
    assert dino_loss(student, teacher, centre, **TEMPERATURES).item() == pytest.approx(math.log(7), rel=1e-12)


def test_identical_views_of_student_and_teacher_give_the_entropy():
    student, _, _ = outputs(1, 1, 5, 7)
    centre = torch.zeros(7, dtype=torch.float64)
    loss = dino_loss(student * 3, student * 2, centre, student_temperature=0.3, teacher_temperature=0.3)
    p = (student[0] / 0.3).softmax(1)
    torch.testing.assert_close(loss, -(p * p.log()).sum(1).mean(), rtol=1e-12, atol=0)


def test_a_sharp_teacher_gives_hard_labels():
    student, teacher, centre = outputs(2, 1, 6, 5)
    loss = dino_loss(student, teacher, centre, student_temperature=0.3, teacher_temperature=1e-5)
    labels = (teacher[0] - centre).argmax(1)
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(student[1] / 0.3, labels), rtol=1e-12, atol=0)


def test_centring_hides_what_all_samples_share():
    student, teacher, centre = outputs(3, 2, 6, 5)
    shift = random(5, seed=3)
    expected = dino_loss(student, teacher, centre, **TEMPERATURES)
    moved = dino_loss(student, [t + shift for t in teacher], centre + shift, **TEMPERATURES)
    torch.testing.assert_close(moved, expected, rtol=1e-10, atol=0)


def test_does_not_change_with_order():
    student, teacher, centre = outputs(4, 2, 6, 5)
    rows, columns = torch.randperm(6), torch.randperm(5)
    moved = [s[rows][:, columns] for s in (student[1], student[0], student[3], student[2])]
    moved_teacher = [t[rows][:, columns] for t in teacher[::-1]]
    expected = dino_loss(student, teacher, centre, **TEMPERATURES)
    torch.testing.assert_close(
        dino_loss(moved, moved_teacher, centre[columns], **TEMPERATURES), expected, rtol=1e-10, atol=0
    )


def test_low_temperatures_do_not_overflow():
    student, teacher, centre = outputs(2, 2, 5, 7, torch.float32)
    student = [s.requires_grad_() for s in student]
    loss = dino_loss(student, teacher, centre, student_temperature=1e-3, teacher_temperature=1e-3)
    assert loss.isfinite()
    assert all(grad.isfinite().all() for grad in torch.autograd.grad(loss, student))


@pytest.mark.parametrize("which", [0, 1])
def test_nan_passes_through(which):
    tensors = outputs(2, 2, 4, 3)
    tensors[which][1][0, 0] = float("nan")
    assert dino_loss(*tensors, **TEMPERATURES).isnan()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    student, teacher, _ = outputs(3, 2, 16, 8, dtype)
    centre = random(8, dtype=torch.float32, seed=2)
    expected = dino_loss([s.float() for s in student], [t.float() for t in teacher], centre, **TEMPERATURES)
    student = [s.requires_grad_() for s in student]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = dino_loss(student, teacher, centre, **TEMPERATURES)
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert all(s.grad.dtype == dtype for s in student)


@pytest.mark.parametrize("temperature", [0.0, -0.1, float("nan")])
@pytest.mark.parametrize("name", ["student_temperature", "teacher_temperature"])
def test_bad_temperatures_are_refused(name, temperature):
    with pytest.raises(ValueError, match=f"{name} must be > 0"):
        dino_loss(*outputs(2, 2, 4, 3), **(TEMPERATURES | {name: temperature}))


@pytest.mark.parametrize(
    ("student", "teacher", "centre", "message"),
    [
        ([torch.randn(4, 3)], [torch.randn(4, 3)], torch.zeros(3), "at least two views"),
        ([torch.randn(4, 3), torch.randn(5, 3)], [torch.randn(4, 3)], torch.zeros(3), "one shape"),
        ([torch.randn(4, 3)] * 2, [], torch.zeros(3), "teacher outputs are needed for 1 to 2 views, got 0"),
        ([torch.randn(4, 3)] * 2, [torch.randn(4, 3)] * 3, torch.zeros(3), "for 1 to 2 views, got 3"),
        ([torch.randn(4, 3)] * 2, [torch.randn(5, 3)], torch.zeros(3), r"those of view 0 have \(5, 3\)"),
        ([torch.randn(4, 3)] * 2, [torch.randn(4, 3)], torch.zeros(1), r"centre must be \(3,\), got shape \(1,\)"),
    ],
)
def test_bad_tensors_are_refused(student, teacher, centre, message):
    with pytest.raises(ValueError, match=message):
        dino_loss(student, teacher, centre, **TEMPERATURES)


class TestCentre:
    @pytest.mark.parametrize("momentum", [0.9, 0.0, 1.0])
    @pytest.mark.parametrize("views", [1, 2])
    def test_is_the_running_mean(self, views, momentum):
        centre, expected = Centre(5, momentum).double(), np.zeros(5)
        for step in range(3):
            teacher = list(random(views, 4, 5, seed=step) + 2)
            centre.update(teacher)
            for k in range(5):
                mean = sum(t[i, k].item() for t in teacher for i in range(4)) / (views * 4)
                expected[k] = momentum * expected[k] + (1 - momentum) * mean
            np.testing.assert_allclose(centre.value.numpy(), expected, rtol=1e-12, atol=1e-15)

    def test_begins_at_zero_with_the_papers_momentum(self):
        centre = Centre(3)
        assert centre.value.tolist() == [0, 0, 0]
        centre.update([torch.ones(4, 3)])
        torch.testing.assert_close(centre.value, torch.full((3,), 0.1))

    def test_a_loss_from_before_can_be_differentiated(self):
        """Also one that keeps the centre itself, as dino_loss does not."""
        student, teacher, _ = outputs(2, 2, 4, 3)
        weight = student[0].requires_grad_()
        centre = Centre(3).double()
        centre.update(teacher)

        def gradient(update):
            loss = (weight * centre.value).square().sum()
            loss = loss + dino_loss([weight, student[1]], teacher, centre.value, **TEMPERATURES)
            if update:
                centre.update(teacher)
            return torch.autograd.grad(loss, weight)[0]

        assert torch.equal(gradient(update=False), gradient(update=True))

    def test_keeps_no_graph_and_its_type(self):
        centre = Centre(3)
        teacher = [random(4, 3, dtype=torch.bfloat16).requires_grad_()]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            centre.update(teacher)
        assert not centre.value.requires_grad
        assert centre.value.dtype == torch.float32
        torch.testing.assert_close(centre.value, 0.1 * teacher[0].detach().float().mean(0), rtol=1e-6, atol=1e-8)

    def test_goes_on_after_saving_and_loading(self, tmp_path):
        centre, restored = Centre(3), Centre(3)
        centre.update([random(4, 3, dtype=torch.float32)])
        torch.save(centre.state_dict(), tmp_path / "centre.pt")
        restored.load_state_dict(torch.load(tmp_path / "centre.pt", weights_only=True))
        assert restored.value.abs().max() > 0
        assert torch.equal(restored.value, centre.value)

    @pytest.mark.parametrize(("arguments", "name"), [((0,), "dimensions"), ((3, -0.1), "momentum"), ((3, 1.1), "mom")])
    def test_bad_settings_are_refused(self, arguments, name):
        with pytest.raises(ValueError, match=name):
            Centre(*arguments)

    @pytest.mark.parametrize(
        ("teacher", "message"),
        [([], "at least one teacher view"), ([torch.randn(4, 2)], r"\(samples, 3\)"), ([torch.randn(3)], "samples, 3")],
    )
    def test_bad_outputs_are_refused(self, teacher, message):
        with pytest.raises(ValueError, match=message):
            Centre(3).update(teacher)


def losses_gradient_and_centre(x, weight):
    """Three steps of DINO as DDP takes them: a linear student and teacher, gradients averaged, the centre updated."""
    rank, world = distributed.rank(), distributed.world_size()
    weight, centre = weight.clone().requires_grad_(), Centre(weight.shape[1]).double()
    losses = []
    for step in x:
        student = [view.chunk(world)[rank] @ weight for view in step]
        teacher = [2 * s + 1 for s in student[:2]]
        loss = dino_loss(student, teacher, centre.value, **TEMPERATURES)
        centre.update(teacher)
        loss.backward()
        losses.append(loss.detach())
    return torch.stack(losses), distributed.reduce_mean(weight.grad), centre.value


@pytest.mark.parametrize(("views", "samples"), [(2, 2), (2, 8), (4, 6)])
def test_two_processes_equal_one(gloo_pool, views, samples):
    x, weight = random(3, views, samples, 7), random(7, 5, seed=1)
    losses, grad, centre = losses_gradient_and_centre(x, weight)
    results = gloo_pool.run(losses_gradient_and_centre, x, weight)
    for rank_losses, rank_grad, rank_centre in results:
        torch.testing.assert_close(rank_losses, losses, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(rank_grad, grad, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(rank_centre, centre, rtol=1e-9, atol=1e-9)
    assert torch.equal(results[0][2], results[1][2])

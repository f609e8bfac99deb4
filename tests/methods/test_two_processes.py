"""Two processes with half the batch each are one process with the whole batch: losses, gradients and all state."""

import pytest
import small_methods
import tiny_methods
import torch
import transcriptions

from solo_frossl import distributed
from solo_frossl.methods import METHODS, Progress
from solo_frossl.methods.heads import ProjectorConfig

STEPS = 4
SMALLER = {
    "wmse": ["--model.whitening_size=16"],
    "swav": ["--model.queue_size=20", "--model.queue_from_epoch=0", "--model.num_prototypes=5"],
    "moco_v2": ["--model.queue_size=40"],
}


def part(x):
    """This process's rows."""
    return x.chunk(distributed.world_size())[distributed.rank()]


def train(name, views):
    """Some steps of the method as its configuration has it, on a small ViT."""
    model, _ = small_methods.build(
        name,
        *small_methods.VIT,
        *small_methods.NO_BATCH_NORM.get(name, []),
        "--model.projector.output=6",
        *SMALLER.get(name, []),
    )
    return steps(model.double(), views)


def train_tiny(name):
    """Some steps of the tiny method of a case."""
    case = tiny_methods.CASES[name]
    return steps(tiny_methods.build(case), [tiny_methods.images(case, step) for step in range(tiny_methods.STEPS)])


def steps(model, views):
    """Plain SGD as DDP takes its steps: each process its part of the views, then the mean of gradients."""
    parameters = {key: p for key, p in model.named_parameters() if p.requires_grad and "classifier" not in key}
    losses, gradients = [], []
    for step, batch in enumerate(views):
        model.progress = Progress(step, steps_per_epoch=2, total_steps=len(views))
        # What is drawn must be the same on every process all the same.
        torch.manual_seed(100 * step + distributed.rank())
        objective = model.objective([part(view) for view in batch])
        objective.loss.backward()
        model.on_after_backward()
        losses.append(objective.loss.detach())
        with torch.no_grad():
            for key, p in parameters.items():
                gradient = distributed.reduce_mean(torch.zeros_like(p) if p.grad is None else p.grad)
                gradients.append((step, key, gradient))
                p -= 0.05 * gradient
                p.grad = None
            if hasattr(model, "update_target"):
                model.update_target()
    return losses, gradients, model.state_dict()


def assert_same(results, losses, gradients, state):
    assert len({float(loss) for loss in losses}) == len(losses)
    for other_losses, other_gradients, other_state in results:
        torch.testing.assert_close(other_losses, losses, rtol=1e-9, atol=1e-9)
        for (step, key, ours), (_, _, theirs) in zip(gradients, other_gradients, strict=True):
            torch.testing.assert_close(theirs, ours, rtol=1e-9, atol=1e-9, msg=lambda m, s=step, k=key: f"{s} {k} {m}")
        assert other_state.keys() == state.keys()
        for key, value in state.items():
            torch.testing.assert_close(other_state[key], value, rtol=1e-9, atol=1e-9, msg=lambda m, k=key: f"{k}: {m}")


@pytest.fixture(scope="module")
def views():
    """16 images a step: two views, and a third for the methods that take more."""
    g = torch.Generator().manual_seed(0)
    signal = torch.randn(STEPS, 16, 1, 32, 32, generator=g, dtype=torch.float64)
    noisy = [signal + torch.randn(signal.shape, generator=g, dtype=torch.float64) / 2 for _ in range(3)]
    return [list(three) for three in zip(*noisy, strict=True)]


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_two_processes_are_one(gloo_pool, views, name):
    views = [step[: METHODS[name].max_views or 3] for step in views]
    alone = train(name, views)
    assert_same(gloo_pool.run(train, name, views), *alone)


@pytest.mark.parametrize("name", tiny_methods.CASES)
def test_two_processes_are_one_in_every_case(gloo_pool, name):
    alone = train_tiny(name)
    assert_same(gloo_pool.run(train_tiny, name), *alone)


# --------------------------------------------------------------------------------------------------------- shuffle-BN


def moco_with_batch_norm():
    """MoCo v2 with BatchNorm in its projector, which sees the images of one process at a time."""
    projector = ProjectorConfig(hidden=4, output=3, layers=2, batch_norm=True)
    return tiny_methods.build(tiny_methods.CASES["moco_v2"], projector=projector)


def queue_after_a_step(views):
    model = moco_with_batch_norm()
    torch.manual_seed(7 + distributed.rank())
    model.objective([part(view) for view in views])
    return model.queue.rows


def test_keys_are_normalised_among_the_images_that_the_shuffle_brings_together(gloo_pool):
    views = tiny_methods.images(tiny_methods.CASES["moco_v2"], 0)
    model = moco_with_batch_norm()
    start = model.queue.rows.numpy()
    torch.manual_seed(7)
    shuffles = [torch.randperm(len(view)) for view in views]  # the first process's

    def queue(orders):
        keys = []
        for view, order in zip(views, orders, strict=True):
            by_process = [model.target_projector(model.target_backbone(view[rows])) for rows in order.chunk(2)]
            keys.append(torch.cat(by_process)[order.argsort()].detach().numpy())
        return torch.from_numpy(transcriptions.ring(start, 0, keys)[0])

    expected, unshuffled = queue(shuffles), queue([torch.arange(len(view)) for view in views])
    assert (expected - unshuffled).abs().max() > 0.1
    for rows in gloo_pool.run(queue_after_a_step, views):
        torch.testing.assert_close(rows, expected, rtol=1e-9, atol=1e-9)

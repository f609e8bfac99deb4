"""Two processes with half the batch each are one process with the whole batch: losses, gradients and all state."""

import pytest
import small_methods
import torch

from solo_frossl import distributed
from solo_frossl.methods import METHODS, Progress

STEPS = 4
SMALLER = {
    "wmse": ["--model.whitening_size=16"],
    "swav": ["--model.queue_size=20", "--model.queue_from_epoch=0", "--model.num_prototypes=5"],
    "moco_v2": ["--model.queue_size=40"],
}


def train(name, views):
    """Some steps of plain SGD as DDP takes them: each process its part of the views, then the mean of gradients."""
    rank, world = distributed.rank(), distributed.world_size()
    model, _ = small_methods.build(
        name,
        *small_methods.VIT,
        *small_methods.NO_BATCH_NORM.get(name, []),
        "--model.projector.output=6",
        *SMALLER.get(name, []),
    )
    model.double()
    parameters = {key: p for key, p in model.named_parameters() if p.requires_grad and "classifier" not in key}
    losses, gradients = [], []
    for step in range(STEPS):
        model.progress = Progress(step, steps_per_epoch=2, total_steps=STEPS)
        torch.manual_seed(100 * step + rank)  # what is drawn must be the same on every process all the same
        objective = model.objective([view.chunk(world)[rank] for view in views[step]])
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


@pytest.fixture(scope="module")
def views():
    """16 images a step: two views, and a third for the methods that take more."""
    g = torch.Generator().manual_seed(0)
    signal = torch.randn(STEPS, 16, 1, 32, 32, generator=g, dtype=torch.float64)
    noisy = [signal + torch.randn(signal.shape, generator=g, dtype=torch.float64) / 2 for _ in range(3)]
    return [list(three) for three in zip(*noisy, strict=True)]


@pytest.mark.parametrize("name", METHODS)
def test_two_processes_are_one(gloo_pool, views, name):
    views = [step[: METHODS[name].max_views or 3] for step in views]
    losses, gradients, state = train(name, views)
    assert len({float(loss) for loss in losses}) == STEPS
    for other_losses, other_gradients, other_state in gloo_pool.run(train, name, views):
        torch.testing.assert_close(other_losses, losses, rtol=1e-9, atol=1e-9)
        for (step, key, ours), (_, _, theirs) in zip(gradients, other_gradients, strict=True):
            torch.testing.assert_close(theirs, ours, rtol=1e-9, atol=1e-9, msg=lambda m, s=step, k=key: f"{s} {k} {m}")
        assert other_state.keys() == state.keys()
        for key, value in state.items():
            torch.testing.assert_close(other_state[key], value, rtol=1e-9, atol=1e-9, msg=lambda m, k=key: f"{k}: {m}")

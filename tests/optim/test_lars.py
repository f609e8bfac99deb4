import copy

import numpy as np
import pytest
import torch
from torch import nn

from solo_frossl.optim import LARS


class SlowLARS:
    """The update rule, one float64 array at a time."""

    def __init__(self, weights, **options):
        self.weights = [w.numpy().astype(np.float64) for w in weights]
        self.momenta = [np.zeros_like(w) for w in self.weights]
        self.options = {
            "momentum": 0.9,
            "weight_decay": 1e-4,
            "eta": 0.02,
            "clip_lr": True,
            "nesterov": False,
        } | options
        self.adapt = self.options.pop("adapt", True)

    def step(self, gradients, lr):
        o = self.options
        for w, m, g in zip(self.weights, self.momenta, gradients, strict=True):
            g = g.numpy().astype(np.float64)
            size, slope = np.sqrt((w**2).sum()), np.sqrt((g**2).sum())
            trust = 1.0
            if self.adapt and size > 0 and slope > 0:
                trust = o["eta"] * size / (slope + o["weight_decay"] * size + 1e-8)
                if o["clip_lr"]:
                    trust = min(trust / lr, 1.0) if lr > 0 else 1.0
            update = trust * (g + o["weight_decay"] * w)
            m[...] = o["momentum"] * m + update
            w -= lr * (update + o["momentum"] * m if o["nesterov"] else m)


def tensors(dtype=torch.float64):
    g = torch.Generator().manual_seed(0)
    shapes = [(3, 4), (2, 3, 2, 2), (5,), (1,)]
    scales = [1.0, 100.0, 0.01, 1.0]  # some are clipped, some are not
    return [
        (scale * torch.randn(*shape, generator=g, dtype=torch.float64)).to(dtype)
        for shape, scale in zip(shapes, scales, strict=True)
    ]


def gradients(step, dtype=torch.float64):
    g = torch.Generator().manual_seed(100 + step)
    return [torch.randn(w.shape, generator=g, dtype=torch.float64).to(dtype) for w in tensors()]


def train(optimizer, parameters, rates, dtype=torch.float64, first=0):
    for step, lr in enumerate(rates, start=first):
        for group in optimizer.param_groups:
            group["lr"] = lr
        for parameter, gradient in zip(parameters, gradients(step, dtype), strict=True):
            parameter.grad = gradient
        optimizer.step()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"clip_lr": False},
        {"nesterov": True},
        {"momentum": 0.0},
        {"weight_decay": 0.3},
        {"weight_decay": 0.0, "eta": 1.0},
        {"adapt": False, "weight_decay": 0.1},
    ],
    ids=str,
)
def test_is_the_update_rule(options):
    parameters = [nn.Parameter(w) for w in tensors()]
    slow = SlowLARS(tensors(), **options)
    rates = [0.3, 0.2, 0.1, 0.0, 0.05]  # a learning rate of zero is where a cosine ends
    train(LARS(parameters, 1.0, **options), parameters, rates)
    for step, lr in enumerate(rates):
        slow.step(gradients(step), lr)
    for parameter, weight in zip(parameters, slow.weights, strict=True):
        torch.testing.assert_close(parameter.detach(), torch.tensor(weight), rtol=1e-12, atol=1e-12)


def test_float32_agrees_to_rounding():
    parameters = [nn.Parameter(w) for w in tensors(torch.float32)]
    slow = SlowLARS(tensors(torch.float32))
    train(LARS(parameters, 1.0), parameters, [0.3, 0.2], torch.float32)
    for step, lr in enumerate([0.3, 0.2]):
        slow.step(gradients(step), lr)
    for parameter, weight in zip(parameters, slow.weights, strict=True):
        torch.testing.assert_close(parameter.detach().double(), torch.tensor(weight), rtol=1e-5, atol=1e-6)


def test_without_adaptation_is_sgd():
    for nesterov in (False, True):
        ours, theirs = ([nn.Parameter(w) for w in tensors()] for _ in range(2))
        options = {"momentum": 0.9, "weight_decay": 0.01, "nesterov": nesterov}
        train(LARS(ours, 1.0, adapt=False, **options), ours, [0.3, 0.2, 0.1])
        train(torch.optim.SGD(theirs, 1.0, **options), theirs, [0.3, 0.2, 0.1])
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-13, atol=1e-13)


def test_the_step_follows_the_size_of_the_weight_not_of_the_gradient():
    weights = [nn.Parameter(torch.tensor([[3.0, 4.0]])) for _ in range(2)]
    for weight, scale in zip(weights, (1.0, 1000.0), strict=True):
        weight.grad = scale * torch.tensor([[1.0, 2.0]])
    LARS(weights, 0.1, momentum=0.0, weight_decay=0.0, clip_lr=False).step()
    for weight in weights:
        assert (weight.detach() - torch.tensor([[3.0, 4.0]])).norm().item() == pytest.approx(0.1 * 0.02 * 5, rel=1e-4)


@pytest.mark.parametrize("clip_lr", [True, False])
def test_a_zero_gradient_still_decays_the_weight(clip_lr):
    weight = nn.Parameter(torch.tensor([[2.0, -4.0]]))
    weight.grad = torch.zeros(1, 2)
    LARS([weight], 0.5, momentum=0.0, weight_decay=0.1, clip_lr=clip_lr).step()
    torch.testing.assert_close(weight.detach(), torch.tensor([[1.9, -3.8]]))


@pytest.mark.parametrize("clip_lr", [True, False])
def test_a_zero_weight_takes_a_plain_step(clip_lr):
    weight = nn.Parameter(torch.zeros(1, 2))
    weight.grad = torch.tensor([[1.0, -2.0]])
    LARS([weight], 0.5, momentum=0.0, clip_lr=clip_lr).step()
    torch.testing.assert_close(weight.detach(), torch.tensor([[-0.5, 1.0]]))


def test_nan_is_not_hidden():
    weight = nn.Parameter(torch.ones(2, 2))
    weight.grad = torch.tensor([[1.0, float("nan")], [0.0, 0.0]])
    LARS([weight], 0.5).step()
    assert weight.isnan().any()


def test_groups_have_their_own_options():
    w, b = nn.Parameter(torch.full((2, 2), 3.0)), nn.Parameter(torch.full((2,), 3.0))
    w.grad, b.grad = torch.ones(2, 2), torch.ones(2)
    LARS([{"params": [w]}, {"params": [b], "adapt": False, "weight_decay": 0.0, "lr": 0.1}], 1.0).step()
    torch.testing.assert_close(b.detach(), torch.full((2,), 2.9))
    assert (3 - w).max() < 0.2


def test_parameters_without_gradient_and_the_gradients_themselves_stay():
    used, unused = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2, 2))
    used.grad = torch.full((2, 2), 0.5)
    optimizer = LARS([used, unused], 0.1, nesterov=True)
    optimizer.step()
    assert torch.equal(unused, torch.ones(2, 2))
    assert torch.equal(used.grad, torch.full((2, 2), 0.5))
    assert unused not in optimizer.state


def test_the_state_survives_a_file(tmp_path):
    parameters = [nn.Parameter(w) for w in tensors()]
    optimizer = LARS(parameters, 1.0)
    train(optimizer, parameters, [0.3, 0.2])
    torch.save((optimizer.state_dict(), parameters), tmp_path / "state.pt")
    train(optimizer, parameters, [0.1, 0.05], first=2)

    state, resumed = torch.load(tmp_path / "state.pt", weights_only=True)
    other = LARS(resumed, 0.7, eta=0.5, clip_lr=False)
    other.load_state_dict(state)
    train(other, resumed, [0.1, 0.05], first=2)
    assert all(torch.equal(a, b) for a, b in zip(parameters, resumed, strict=True))


def test_the_closure_is_called_with_gradients():
    weight = nn.Parameter(torch.ones(2, 2))
    optimizer = LARS([weight], 0.1)

    def closure():
        optimizer.zero_grad()
        loss = weight.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure) == 4
    assert weight.max() < 1


def test_nothing_waits_for_the_device():
    """On the meta device every read of a value fails."""
    weight = nn.Parameter(torch.empty(3, 4, device="meta"))
    weight.grad = torch.empty(3, 4, device="meta")
    LARS([weight], 0.1).step()


def test_can_be_copied():
    optimizer = LARS([nn.Parameter(torch.ones(2, 2))], 0.1)
    assert copy.deepcopy(optimizer).param_groups[0]["eta"] == 0.02


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -1.0}, "lr is -1.0"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"lr": 0.1, "momentum": 1.0}, "momentum is 1.0"),
        ({"lr": 0.1, "weight_decay": -0.1}, "weight_decay is -0.1"),
        ({"lr": 0.1, "eta": 0.0}, "eta is 0.0"),
        ({"lr": 0.1, "momentum": 0.0, "nesterov": True}, "nesterov needs a momentum"),
    ],
)
def test_values_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        LARS([nn.Parameter(torch.ones(2))], **options)


def test_sparse_gradients_are_refused():
    weight = nn.Parameter(torch.ones(2, 2))
    weight.grad = torch.ones(2, 2).to_sparse()
    with pytest.raises(RuntimeError, match="dense gradients"):
        LARS([weight], 0.1).step()

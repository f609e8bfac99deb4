"""LARS: layer-wise adaptive rate scaling (You et al. 2017, https://arxiv.org/abs/1708.03888)."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class LARS(torch.optim.Optimizer):
    r"""SGD with momentum whose step is scaled, tensor by tensor, to the size of the tensor.

    For a parameter w with gradient g, learning rate lr and weight decay wd,

        trust = eta * |w| / (|g| + wd * |w| + eps),  or with `clip_lr` min(trust / lr, 1): no longer a step than SGD's
        u     = trust * (g + wd * w)
        m    <- momentum * m + u
        w    <- w - lr * m,  or with `nesterov` w - lr * (u + momentum * m)

    A tensor whose weight or gradient is zero has the trust 1, so that it decays like any other. A parameter group with
    ``adapt=False`` has it throughout: for biases and norms. Nothing here waits for the device.

    Args:
        params: parameters, or groups with any of the options below.
        lr: learning rate, 0 or more.
        momentum: in [0, 1).
        weight_decay: wd above, 0 or more.
        eta: trust coefficient, above 0.
        clip_lr: limit the adapted learning rate to lr, as LARC does.
        nesterov: look ahead along the momentum.
        eps: keeps the quotient finite.
        adapt: false leaves the trust at 1.

    Raises:
        ValueError: for a value out of its range.
        RuntimeError: in ``step``, for sparse gradients.

    >>> w = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
    >>> optimizer = LARS([w], lr=0.1, momentum=0.0, weight_decay=0.0, clip_lr=False)
    >>> w.grad = torch.tensor([0.0, 10.0])
    >>> optimizer.step()  # |w| = 5, so the step has the length 0.1 * 0.02 * 5
    >>> w.detach()
    tensor([3.0000, 3.9900])
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float,
        *,
        momentum: float = 0.9,
        weight_decay: float = 1e-4,
        eta: float = 0.02,
        clip_lr: bool = True,
        nesterov: bool = False,
        eps: float = 1e-8,
        adapt: bool = True,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "eta": eta,
            "clip_lr": clip_lr,
            "nesterov": nesterov,
            "eps": eps,
            "adapt": adapt,
        }
        super().__init__(params, defaults)
        for group in self.param_groups:
            _check(group)

    @torch.no_grad()
    def step(self, closure: Callable[[], float | Tensor] | None = None) -> float | Tensor | None:
        """Take one step; returns what the closure returns, which is called first with gradients enabled."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if parameters:
                self._step_group(group, parameters)
        return loss

    def _step_group(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        gradients = [p.grad for p in parameters]
        if any(g.is_sparse for g in gradients):
            raise RuntimeError("LARS needs dense gradients: build the embedding with sparse=False")
        updates = torch._foreach_add(gradients, parameters, alpha=group["weight_decay"])
        if group["adapt"]:
            torch._foreach_mul_(updates, _trust(group, parameters, gradients))
        if group["momentum"]:
            for p in parameters:
                if "momentum_buffer" not in self.state[p]:
                    self.state[p]["momentum_buffer"] = torch.zeros_like(p)
            buffers = [self.state[p]["momentum_buffer"] for p in parameters]
            torch._foreach_mul_(buffers, group["momentum"])
            torch._foreach_add_(buffers, updates)
            if group["nesterov"]:
                torch._foreach_add_(updates, buffers, alpha=group["momentum"])
            else:
                updates = buffers
        torch._foreach_add_(parameters, updates, alpha=-group["lr"])


def _trust(group: dict[str, Any], parameters: list[Tensor], gradients: list[Tensor]) -> list[Tensor]:
    """What each tensor's update is multiplied with: scalars on the device."""
    weight = torch.stack(torch._foreach_norm(parameters))
    gradient = torch.stack(torch._foreach_norm(gradients))
    trust = group["eta"] * weight / (gradient + group["weight_decay"] * weight + group["eps"])
    if group["clip_lr"]:
        trust = (trust / group["lr"]).clamp(max=1)  # a learning rate of 0 gives infinity, so 1
    return list(torch.where((weight == 0) | (gradient == 0), 1.0, trust).unbind())


def _check(group: dict[str, Any]) -> None:
    for name in ("lr", "weight_decay", "eps"):
        if not group[name] >= 0:
            raise ValueError(f"LARS: {name} is {group[name]}: it must be 0 or more")
    if not 0 <= group["momentum"] < 1:
        raise ValueError(f"LARS: momentum is {group['momentum']}: it must be at least 0 and below 1")
    if not group["eta"] > 0:
        raise ValueError(f"LARS: eta is {group['eta']}: it must be above 0")
    if group["nesterov"] and not group["momentum"]:
        raise ValueError("LARS: nesterov needs a momentum above 0")

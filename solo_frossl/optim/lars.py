"""LARS: layer-wise adaptive rate scaling (You et al. 2017, https://arxiv.org/abs/1708.03888)."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class LARS(Optimizer):
    r"""SGD with momentum whose step in each tensor w is scaled by the ratio of the norms of w and its gradient g.

        rate = eta ||w|| / (||g|| + weight_decay ||w|| + eps), and 1 where ||w|| or ||g|| is zero
        with clip_lr: rate = min(rate / lr, 1)
        m <- momentum m + rate (g + weight_decay w);    w <- w - lr m

    (You et al. 2017, Alg. 1, with the learning rate outside the momentum as in PyTorch's SGD; ``clip_lr`` as in the
    code that trained the papers' tables.) A tensor of zeros still gets its weight decay. All tensors of a group are updated
    together, and nothing waits for the device.

    Args:
        params: parameters or groups of them; a group may hold any of the arguments below.
        lr: learning rate.
        momentum: in [0, 1).
        weight_decay: L2 penalty.
        eta: trust coefficient; the tables use 0.02.
        clip_lr: never let the scaling raise a tensor's rate above ``lr``.
        adapt: whether the group is scaled at all; false makes it plain SGD.
        nesterov: Nesterov momentum.
        eps: added to the denominator.

    Raises:
        ValueError: a value out of range, or a sparse gradient.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        eta: float = 0.02,
        clip_lr: bool = True,
        adapt: bool = True,
        nesterov: bool = False,
        eps: float = 1e-8,
    ) -> None:
        for name, value in {"lr": lr, "weight_decay": weight_decay, "eta": eta, "eps": eps}.items():
            if value < 0:
                raise ValueError(f"{name} is {value}: it must be at least 0")
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum is {momentum}: it must be at least 0 and below 1")
        if nesterov and momentum == 0:
            raise ValueError("Nesterov momentum needs a momentum above 0")
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "eta": eta,
            "clip_lr": clip_lr,
            "adapt": adapt,
            "nesterov": nesterov,
            "eps": eps,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """Update every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            weights = [p for p in group["params"] if p.grad is not None]
            if weights:
                self._update(weights, group)
        return loss

    def _update(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        grads = [p.grad for p in weights]
        if any(g.is_sparse for g in grads):
            raise ValueError("LARS does not take sparse gradients")
        decay, lr, momentum = group["weight_decay"], group["lr"], group["momentum"]
        decayed = torch._foreach_add(grads, weights, alpha=decay) if decay else list(grads)
        if group["adapt"]:
            rates = self._rates(weights, grads, group)
            decayed = torch._foreach_mul(decayed, rates)
        if momentum:
            states = [self.state[p] for p in weights]
            for state, p in zip(states, weights, strict=True):
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(p)
            buffers = [state["momentum"] for state in states]
            torch._foreach_mul_(buffers, momentum)
            torch._foreach_add_(buffers, decayed)
            decayed = torch._foreach_add(decayed, buffers, alpha=momentum) if group["nesterov"] else buffers
        torch._foreach_add_(weights, decayed, alpha=-lr)

    @staticmethod
    def _rates(weights: list[Tensor], grads: list[Tensor], group: dict[str, Any]) -> list[Tensor]:
        """Scale of each tensor's step, as scalars on the device."""
        weight_norms = torch.stack(torch._foreach_norm(weights))
        grad_norms = torch.stack(torch._foreach_norm(grads))
        rates = group["eta"] * weight_norms / (grad_norms + group["weight_decay"] * weight_norms + group["eps"])
        if group["clip_lr"]:
            rates = torch.clamp(rates / group["lr"], max=1) if group["lr"] else torch.ones_like(rates)
        rates = torch.where((weight_norms > 0) & (grad_norms > 0), rates, 1.0)
        return list(rates.unbind())

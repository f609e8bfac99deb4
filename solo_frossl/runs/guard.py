"""What keeps a run healthy and repeatable: a watch for non-finite losses, and seeds by step."""

import math
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from solo_frossl import distributed
from solo_frossl.seeding import seed_for


class NonFiniteError(RuntimeError):
    """A loss or a weight became NaN or infinite."""


class _Seen(NamedTuple):
    values: Tensor
    ready: torch.cuda.Event | None
    names: list[str]
    where: str


class NonFiniteGuard(Callback):
    """Stops a run whose loss is no longer finite, naming the step and the term.

    On a GPU the values of a step are looked at one step later, when they have long arrived, so that no step waits.

    Args:
        last_checkpoint: path named in the error as the place to go on from.
    """

    def __init__(self, last_checkpoint: Any = None) -> None:
        self.last_checkpoint = last_checkpoint
        self._pending: _Seen | None = None

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look at the step before, then note this one."""
        terms: dict[str, Tensor] = outputs["terms"]
        where = f"epoch {trainer.current_epoch + 1}, batch {batch_idx + 1} (step {trainer.global_step})"
        values = torch.stack([value.detach().float() for value in terms.values()])
        if values.is_cuda:
            self.check(trainer)
            host = torch.empty_like(values, device="cpu", pin_memory=True).copy_(values, non_blocking=True)
            ready = torch.cuda.Event()
            ready.record()
            self._pending = _Seen(host, ready, list(terms), where)
        else:
            self._pending = _Seen(values, None, list(terms), where)
            self.check(trainer)

    def on_validation_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Look at the last step and at its weights, before their features are measured."""
        self.check(trainer)
        assert_finite_weights(trainer, module)

    def check(self, trainer: Trainer) -> None:
        """Look at what is still unseen.

        Raises:
            NonFiniteError: a term is NaN or infinite.
        """
        seen, self._pending = self._pending, None
        if seen is None:
            return
        if seen.ready is not None:
            seen.ready.synchronize()
        if not bool(seen.values.isfinite().all()):
            values = dict(zip(seen.names, seen.values.tolist(), strict=True))
            listed = ", ".join(f"{name} {value:g}" for name, value in values.items())
            first = next(name for name in reversed(values) if not math.isfinite(values[name]))
            raise NonFiniteError(
                f"train/{first} is not finite at {seen.where}: {listed}. {self._remedy()}"
                " Lower the learning rate, warm up longer, or use --trainer.precision 32-true."
            )

    def _remedy(self) -> str:
        path = self.last_checkpoint
        return f"The last good checkpoint is {path}." if path and path.exists() else "No checkpoint was written yet."


def assert_finite_weights(trainer: Trainer, module: LightningModule) -> None:
    """Refuse to go on with NaN or infinite weights, which a finite loss can still leave behind.

    Raises:
        NonFiniteError: naming the first such parameter.
    """
    weights = [p.detach() for p in module.parameters() if p.is_floating_point()]
    if bool(torch.stack(torch._foreach_norm(weights, float("inf"))).isfinite().all()):
        return
    name = next(n for n, p in module.named_parameters() if not bool(p.detach().isfinite().all()))
    raise NonFiniteError(
        f"the weight {name} is not finite after step {trainer.global_step} (epoch {trainer.current_epoch + 1}):"
        " no checkpoint was written over the last good one. Lower the learning rate or warm up longer."
    )


class SeedEachStep(Callback):
    """Seeds torch's global generators from (seed, epoch, step, process), for dropout and its like.

    Args:
        seed: the run's seed.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: Trainer, module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Seed for this step."""
        torch.manual_seed(seed_for(self.seed, "torch", trainer.current_epoch, batch_idx, distributed.rank()))

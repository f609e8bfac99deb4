"""The callback that watches the spectrum of each run: measured beside training, kept in a file, logged by epoch."""

import math
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from tqdm import tqdm

from solo_frossl.distributed import reduce_sum
from solo_frossl.run_files import TOP, SpectraFile, condition_number, effective_rank, shannon_entropy
from solo_frossl.spectrum.collapse import CollapseStop, CollapseWatch
from solo_frossl.spectrum.measure import Moments, batch_moments, spectrum_of
from solo_frossl.spectrum.saturation import saturation_step

_COLLAPSED = "the embeddings have collapsed"
"""What every process knows of it."""


@dataclass(frozen=True)
class SpectrumConfig:
    """Eigenvalues of the training batch's embeddings and features, and the watch for collapse.

    Args:
        every_n_steps: measured in the first step, every so many optimiser steps, and in the last step of each epoch;
            0 for never.
        collapse_rank: embeddings whose effective rank stays below this have collapsed; 0 for no watch by effective
            rank.
        collapse_checks: measurements in a row, every_n_steps apart, after which that is reported; null for as many as
            1000 steps have, and at least 3. Of a run that ends sooner its summary tells.
    """

    every_n_steps: int = 50
    collapse_rank: float = 1.2
    collapse_checks: int | None = None

    def __post_init__(self) -> None:
        if self.every_n_steps < 0:
            raise ValueError(f"spectrum.every_n_steps is {self.every_n_steps}: it must be 0 (never) or more")
        if not self.collapse_rank >= 0:
            raise ValueError(f"spectrum.collapse_rank is {self.collapse_rank}: it must be 0 (no watch) or more")
        if self.collapse_checks is not None and self.collapse_checks < 1:
            raise ValueError(f"spectrum.collapse_checks is {self.collapse_checks}: it must be null or at least 1")


class _Pending(NamedTuple):
    step: int
    epoch: float
    spectrum: Future[dict[str, Tensor] | None]


class SpectrumCallback(Callback):
    """Measures the spectrum of the batch's own embeddings and features, view 1, over the global batch.

    A check takes the tensors that ``training_step`` returned, so it costs no forward pass, draws nothing at random and
    changes nothing. On a GPU the moments are made there, and a thread turns them into eigenvalues while training goes
    on; they are taken up at the next check, at the end of the epoch, or before a checkpoint is written. Elsewhere they
    are there at once. Only the first process does more than gather.

    Every check is a record of ``spectrum.bin`` (:class:`~solo_frossl.run_files.Spectra`). Everything else follows from
    these records, as they stand in the file, so that a resumed run goes on where it was. After each epoch the last of
    them is logged, for ``embeddings`` and ``features``:

        spectrum/embeddings/l1 ... l14          the largest eigenvalues, as many as there are
        spectrum/embeddings/condition_number    l1 / l14
        spectrum/embeddings/entropy             nats
        spectrum/embeddings/effective_rank
        spectrum/embeddings/rankme
        spectrum/view_correlation               mean over dimensions
        spectrum/saturation_step                of l14 of the embeddings; see saturation_step
        spectrum/predictor/l1 ... l14           of a closed-form predictor
        spectrum/predictor/alignment            mean over the directions of the batch

    What does not exist is left out: the 14th eigenvalue and what follows from it where there are fewer, a condition
    number over an eigenvalue of 0, a saturation that is not reached.

    Args:
        path: ``spectrum.bin``.
        config: how often, and what a collapse is.
        on_collapse: what follows after a collapse was reported: nothing, or the end of the run
            (:class:`CollapseStop`; in an epoch's last step by ``trainer.should_stop`` after its validation, and then
            by :meth:`raise_if_stopped`).

    """

    def __init__(
        self,
        path: str | Path,
        config: SpectrumConfig = SpectrumConfig(),
        on_collapse: Literal["warn", "stop"] = "warn",
    ) -> None:
        self.config = config
        self.on_collapse = on_collapse
        self._stopped = False
        self._file = SpectraFile(path)
        every = config.every_n_steps or 1
        self._watch = CollapseWatch(config.collapse_rank, config.collapse_checks or max(3, -(-1000 // every)), every)
        self._last: np.void | None = None
        self._steps: list[int] = []
        self._fourteenth: list[float] = []
        self._collapse: str | None = None
        self._pending: _Pending | None = None
        self._thread: ThreadPoolExecutor | None = None

    # ------------------------------------------------------------------------------------------------------ the hooks

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Go on with the records of the steps that are not run again."""
        if self.config.every_n_steps and trainer.is_global_zero:
            records = self._file.continue_from(trainer.global_step)
            for record in records:
                self._note(record)
            self._watch.restore(reversed(records))

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Check, if it is time."""
        step = trainer.global_step - 1  # the batch was embedded by the weights before this optimiser step
        every = self.config.every_n_steps
        if not every or trainer.fit_loop._should_accumulate() or not (step % every == 0 or trainer.is_last_batch):
            return
        self._take_up(module)
        moments = batch_moments(outputs["features"], outputs["embeddings"], module.linear_predictor())
        if trainer.is_global_zero:
            self._pending = _Pending(step, step / module.progress.steps_per_epoch, self._begin(moments))
            if self._pending.spectrum.done():
                self._take_up(module)
        if not trainer.is_last_batch and self._must_stop(module):
            raise CollapseStop(self._collapse or _COLLAPSED)

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Log the epoch's last check, and end the run if it found a collapse."""
        if not self.config.every_n_steps:
            return
        self._take_up(module)
        if self._last is not None and int(self._last["epoch"]) == trainer.current_epoch:
            for name, value in self._metrics(self._last).items():
                if math.isfinite(value):
                    module.log(f"spectrum/{name}", value, rank_zero_only=True)
        if self._must_stop(module) and trainer.current_epoch + 1 < (trainer.max_epochs or math.inf):
            self._stopped = trainer.should_stop = True

    def on_save_checkpoint(self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """The file holds every check up to the checkpoint before the checkpoint is written."""
        self._take_up(module)
        if trainer.is_global_zero:
            self._file.sync()

    def teardown(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        """End the thread."""
        if self._thread is not None:
            self._thread.shutdown()
            self._thread = None

    @property
    def effective_rank(self) -> float | None:
        """Effective rank of the features in the last check, as it is known here; None before the first one."""
        if self._last is None:
            return None
        return float(effective_rank(self._last["features"]))

    @property
    def remark(self) -> str | None:
        """What to say of the embeddings of the last check if they are collapsed; None else, and before the first one.

        A run that is shorter than a collapse must last is not reported on the way; here it is.
        """
        fault = None if self._last is None else self._watch.fault(self._last)
        if fault is None:
            return None
        what = "have collapsed" if self._watch.collapsed else "may have collapsed, or the run is too short to tell"
        return f"the embeddings {what}: at the end {fault}"

    def raise_if_stopped(self) -> None:
        """For after ``Trainer.fit``, which returns as usual when a collapse was found in an epoch's last step.

        Raises:
            CollapseStop: the run was ended so.
        """
        if self._stopped:
            raise CollapseStop(self._collapse or _COLLAPSED)

    # ------------------------------------------------------------------------------------------------------ the checks

    def _begin(self, moments: Moments) -> Future[dict[str, Tensor] | None]:
        """The spectrum to come; it has come already unless the moments are on a GPU."""
        if not moments.view_correlation.is_cuda:
            done: Future[dict[str, Tensor] | None] = Future()
            done.set_result(_solve(moments))
            return done
        host = moments.map(_to_pinned)
        ready = torch.cuda.Event()
        ready.record()
        self._thread = self._thread or ThreadPoolExecutor(1, "spectrum")
        return self._thread.submit(lambda: (ready.synchronize(), _solve(host))[1])

    def _take_up(self, module: LightningModule) -> None:
        """Keep the check that is under way, and report the collapse that it may complete."""
        pending, self._pending = self._pending, None
        spectrum = pending and pending.spectrum.result()
        if spectrum is None:
            return
        record = self._file.append(step=pending.step, epoch=pending.epoch, **spectrum)
        if self._file.records == 1:  # the first one, or the first after the old file was put aside
            self._steps, self._fourteenth = [], []
        self._note(record)
        if fault := self._watch.update(record):
            place = f"in epoch {int(pending.epoch) + 1}/{module.trainer.max_epochs}, step {pending.step + 1}"
            self._collapse = f"{_COLLAPSED} {place}: {fault}"
            then = "Training goes on, for early in a run this can pass; --on_collapse stop would end it."
            if self.on_collapse == "stop":
                then = "The run ends, as --on_collapse stop says."
            causes = "; ".join(module.collapse_causes())
            tqdm.write(f"T{self._collapse[1:]}. Likely causes: {causes}. {then}", file=sys.stderr)

    def _note(self, record: np.void) -> None:
        if len(record["embeddings"]) >= TOP:
            self._steps.append(int(record["step"]))
            self._fourteenth.append(float(record["embeddings"][TOP - 1]))
        self._last = record

    def _must_stop(self, module: LightningModule) -> bool:
        """Whether the first process found a collapse that is to end the run; all processes ask at the same step."""
        if self.on_collapse == "warn":
            return False
        return bool(reduce_sum(torch.tensor(self._collapse is not None, device=module.device)))

    def _metrics(self, record: np.void) -> dict[str, float]:
        """What is logged of a record, by name; NaN or infinite where it does not exist."""
        metrics = {}
        for name in ("embeddings", "features"):
            eigenvalues = record[name]
            metrics |= {f"{name}/l{i}": float(value) for i, value in enumerate(eigenvalues[:TOP], start=1)}
            metrics[f"{name}/condition_number"] = float(condition_number(eigenvalues))
            metrics[f"{name}/entropy"] = float(shannon_entropy(eigenvalues))
            metrics[f"{name}/effective_rank"] = float(effective_rank(eigenvalues))
            metrics[f"{name}/rankme"] = float(record[f"{name}_rankme"])
        if len(record["view_correlation"]):
            metrics["view_correlation"] = float(record["view_correlation"].mean())
        if (step := saturation_step(self._steps, self._fourteenth)) is not None:
            metrics["saturation_step"] = step
        if len(record["predictor"]):
            metrics |= {f"predictor/l{i}": float(value) for i, value in enumerate(record["predictor"][:TOP], start=1)}
            known = record["alignment"][np.isfinite(record["alignment"])]
            metrics["predictor/alignment"] = float(known.mean()) if len(known) else math.nan
        return metrics


def _solve(moments: Moments) -> dict[str, Tensor] | None:
    """The spectrum; None where there is none to be had, for no run is lost for want of it."""
    try:
        return spectrum_of(moments)
    except torch.linalg.LinAlgError:
        return None


def _to_pinned(x: Tensor) -> Tensor:
    return torch.empty_like(x, device="cpu", pin_memory=True).copy_(x, non_blocking=True)

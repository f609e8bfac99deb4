"""A run on Weights & Biases: one row an epoch, the same numbers as in ``metrics.csv``; offline without an API key."""

import math
import os
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.exceptions import SIGTERMException
from tqdm import tqdm

from solo_frossl.run_files import TOP, MetricsFileError, RunFolder, SpectraFileError, read_metrics, read_spectra

_CHART_POINTS = 200
_CHART_GROWTH = 1.2
"""How much longer the run is at each chart than at the one before."""
_FLUSH_INTERVAL = 1.0
"""Seconds after which W&B's own process writes to its file what it was sent; by itself it waits for 15."""
_SAFE_OFFLINE, _SAFE_ONLINE = 3.0, 60.0
"""Seconds after which a row is surely in W&B's file, or with its server, which is sent to every 15 seconds."""
_LONGEST_TAG = 64
_KILLED = 255
"""The exit code that W&B itself gives to a run that Ctrl-C ended at once."""


class WandbRun(Callback):
    """Sends a run's metrics to Weights & Biases, from the first process.

    Each epoch is one row: its row of ``metrics.csv``, and ``epoch``, counted from 1, which is the x axis of everything.
    The summary has ``best/online_top1`` and its ``best/epoch``, and ``last/online_top1``. The spectra in
    ``spectrum.bin`` become the chart ``spectrum/eigenvalues``, a row of its own with its epoch: after every epoch at
    first, then each time that the run is a fifth longer, and at its end. A run that is stopped and saved is one that
    W&B calls preempted.

    A resumed run goes on under the id in ``wandb-id.txt``; ``wandb-epochs.txt`` says how many epochs W&B has for good,
    so that each is sent once, also those of a part that ran without W&B. Of a run that is killed, its W&B process dies
    with what it has not yet written: an epoch counts some seconds after it was sent, and is sent again if a kill came
    before.

    Args:
        run: the run's folder; W&B's files go there too.
        project: W&B's project.
        config: the resolved configuration, nested plain values.
        group: runs that differ in their seed only.
        tags: to be found by; those in the environment variable ``WANDB_TAGS`` are added.
        checkpoints: send the best and the last checkpoint when training has ended, as one artifact of type ``model``
            whose versions are called ``best`` and ``last``.
    """

    def __init__(
        self,
        run: RunFolder,
        *,
        project: str,
        config: Mapping[str, Any],
        group: str,
        tags: Sequence[str],
        checkpoints: bool = False,
    ) -> None:
        self.run, self.project, self.config = run, project, config
        self.group, self.tags, self.checkpoints = group, tags, checkpoints
        self._wandb: Any = None
        self._sent = self._drawn = 0
        self._unsafe: list[tuple[int, float]] = []
        self._safe_after = _SAFE_ONLINE

    def on_fit_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Start the W&B run, or take it up again.

        Raises:
            ValueError: W&B refuses; names its reason and the remedies.
        """
        if not trainer.is_global_zero:
            return
        import wandb

        asked = os.environ.get("WANDB_MODE") == "offline"
        tags = dict.fromkeys([*self.tags, *filter(None, os.environ.get("WANDB_TAGS", "").split(","))])
        try:
            offline = asked or not wandb.login(prompt=False, verify=False)
            if offline:
                why = "WANDB_MODE is offline" if asked else "W&B has no API key: logging offline"
                tqdm.write(f"{why}; later: wandb sync {self.run.path}/wandb/offline-run-*")
            self._wandb = wandb.init(
                project=self.project,
                id=self._id(),
                name=self.run.path.name,
                group=self.group,
                job_type="pretrain",
                tags=[tag[:_LONGEST_TAG] for tag in tags],
                dir=self.run.path,
                resume="allow",
                mode="offline" if offline else None,
                settings=wandb.Settings(quiet=True, x_transaction_log_flush_interval=_FLUSH_INTERVAL),
            )
        except wandb.Error as error:
            raise ValueError(
                f"W&B does not take the run: {str(error).rstrip('.')}. Log in anew with `wandb login`, or set"
                " WANDB_MODE=offline and synchronise later"
            ) from error
        self._wandb.config.update(dict(self.config), allow_val_change=True)
        self._wandb.define_metric("epoch")
        self._wandb.define_metric("*", step_metric="epoch")
        self._sent = self._drawn = self._sent_before() if offline or self._wandb.resumed else 0
        self._safe_after = _SAFE_OFFLINE if offline else _SAFE_ONLINE

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Send the epochs that were done before, as far as they were not sent."""
        self._send(trainer)

    def on_train_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Send the epoch that has just ended: its row is complete now."""
        self._send(trainer)
        if self._sent >= _CHART_GROWTH * self._drawn:
            self._send_chart()

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        """Note the epochs that W&B has for good by now."""
        self._note_safe(time.monotonic() - self._safe_after)

    def on_fit_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Send the last epoch, the chart and, if wanted, the checkpoints."""
        self._send(trainer)
        self._send_chart()
        if self._wandb is not None and self.checkpoints:
            self._send_checkpoints()
        self._finish(0)

    def on_exception(self, trainer: Trainer, module: LightningModule, exception: BaseException) -> None:
        """Send what there is, and let W&B know whether the run was stopped or failed."""
        self._send(trainer)
        self._send_chart()
        stopped = type(exception) is SIGTERMException  # and not its CollapseStop, after which nothing is to go on
        if stopped and self._wandb is not None:
            self._wandb.mark_preempting()
        self._finish(_KILLED if isinstance(exception, KeyboardInterrupt) else 1)

    def _id(self) -> str:
        """An id that no other run has, kept in the run's folder so that a resumed run goes on under it."""
        file = self.run.path / "wandb-id.txt"
        if not file.exists():
            file.write_text(secrets.token_hex(8), encoding="utf-8")
        return file.read_text(encoding="utf-8").strip()

    def _sent_before(self) -> int:
        try:
            return int((self.run.path / "wandb-epochs.txt").read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return 0

    def _send(self, trainer: Trainer) -> None:
        if self._wandb is None:
            return
        try:
            rows = read_metrics(self.run.metrics)
        except (FileNotFoundError, MetricsFileError):  # none yet, or one that EpochCSV is about to put aside
            return
        done = {epoch + 1: row for epoch, row in sorted(rows.items()) if epoch < trainer.current_epoch}
        for epoch, row in done.items():
            if epoch > self._sent:
                self._wandb.log({**row, "epoch": epoch})
                self._sent = epoch
                self._unsafe.append((epoch, time.monotonic()))
        online = {e: row["online/top1"] for e, row in done.items() if math.isfinite(row.get("online/top1", math.nan))}
        if online:
            best = max(online, key=online.__getitem__)
            last = {"best/online_top1": online[best], "best/epoch": best, "last/online_top1": online[max(online)]}
            self._wandb.summary.update(last)

    def _note_safe(self, before: float) -> None:
        """Note the epochs that were sent before a moment of :func:`time.monotonic`."""
        while self._unsafe and self._unsafe[0][1] < before:
            epoch, _ = self._unsafe.pop(0)
            (self.run.path / "wandb-epochs.txt").write_text(str(epoch), encoding="utf-8")

    def _send_chart(self) -> None:
        """The largest eigenvalues of the embeddings' covariance over the epochs, if there are new ones."""
        if self._wandb is None or self._sent == self._drawn:
            return
        import wandb

        try:
            spectra = read_spectra(self.run.spectrum)
        except (FileNotFoundError, SpectraFileError):
            return
        if not len(spectra.step):
            return
        shown = np.unique(np.linspace(0, len(spectra.step) - 1, _CHART_POINTS).round().astype(int))
        values = np.log10(spectra.embeddings[shown, :TOP].clip(min=1e-12)).T
        chart = wandb.plot.line_series(
            xs=spectra.epoch[shown].tolist(),
            ys=values.tolist(),
            keys=[f"l{i + 1}" for i in range(len(values))],
            title="log10 of the largest eigenvalues of the embeddings' covariance",
            xname="epochs trained",
        )
        self._wandb.log({"spectrum/eigenvalues": chart, "epoch": self._sent})
        self._drawn = self._sent

    def _send_checkpoints(self) -> None:
        import wandb

        name = re.sub(r"[^\w.-]", "-", f"{self.run.path.name}-{self._wandb.id}")
        for alias, path in (("best", self.run.best), ("last", self.run.last)):
            if path.exists():
                artifact = wandb.Artifact(name, type="model", metadata={"epochs": self._sent})
                artifact.add_file(str(path), name="model.ckpt")
                self._wandb.log_artifact(artifact, aliases=[alias])

    def _finish(self, exit_code: int) -> None:
        if self._wandb is not None:
            self._wandb.finish(exit_code=exit_code)
            self._wandb = None
            self._note_safe(math.inf)

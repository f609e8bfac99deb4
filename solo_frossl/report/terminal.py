"""The progress bar: one line at the foot of a terminal, redrawn in place, above which everything else is printed."""

import sys
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from torch import Tensor
from tqdm import tqdm

from solo_frossl.batch import Views
from solo_frossl.terminal import COLUMNS

_SECONDS_BETWEEN_DRAWINGS = 0.5
_LEAST_BAR = 4
_COLUMNS_LEFT_FREE = 3
"""For the ^C that a terminal echoes: it must not begin another line."""

_LAYOUTS = (
    (
        "epoch {epoch}/{epochs}  {phase} {batch}/{batches}",
        ("online {online} %", "eff. rank {rank}", "{speed} images/s", "epoch {epoch_left} left", "run {run_left} left"),
    ),
    (
        "epoch {epoch}/{epochs}  {phase} {batch}/{batches}",
        ("online {online} %", "rank {rank}", "{speed} images/s", "{run_left} left"),
    ),
    ("epoch {epoch}/{epochs}  {batch}/{batches}", ("{online} %", "rank {rank}", "{speed}/s", "{run_left} left")),
    ("{epoch}/{epochs}  {batch}/{batches}", ("{online} %", "rank {rank}", "{speed}/s", "{run_left} left")),
    ("{epoch}/{epochs}  {batch}/{batches}", ("{online} %", "rank {rank}", "{run_left} left")),
    ("{epoch}/{epochs}  {batch}/{batches}", ("{run_left} left",)),
    ("{epoch}/{epochs}", ("{run_left} left",)),
)
"""What stands left and right of the bar, from wide terminals to narrow ones."""


class Moment(NamedTuple):
    """What can be told at one moment of a run; None is not known.

    Attributes:
        epoch: the epoch that is trained, from 1.
        epochs: epochs of the run.
        batch: batches done of this epoch's training or validation.
        batches: how many these are.
        validating: whether they are those of validation.
        online_top1: online accuracy, percent.
        effective_rank: of the features.
        images_per_second: trained by all processes.
        epoch_left: seconds left of the epoch's training.
        run_left: seconds left of the run.
    """

    epoch: int
    epochs: int
    batch: int
    batches: int
    validating: bool = False
    online_top1: float | None = None
    effective_rank: float | None = None
    images_per_second: float | None = None
    epoch_left: float | None = None
    run_left: float | None = None


def texts(moment: Moment, columns: int) -> tuple[str, str]:
    """What to write left and right of the bar: the most telling layout that fits; what is not known is left out.

    Args:
        moment: what is to be told.
        columns: of the line.

    >>> moment = Moment(3, 100, 87, 189, False, 58.31, 18.24, 1234.0, 32.0, 3753.0)
    >>> for columns in (120, 90, 70, 57, 30):
    ...     print(*texts(moment, columns), sep=" | ")
    epoch 3/100  step 87/189 | online 58.3 %  eff. rank 18.2  1,234 images/s  epoch 00:32 left  run 1:02:33 left
    epoch 3/100  step 87/189 | online 58.3 %  rank 18.2  1,234 images/s  1:02:33 left
    epoch 3/100  87/189 | 58.3 %  rank 18.2  1,234/s  1:02:33 left
    3/100  87/189 | 58.3 %  rank 18.2  1,234/s  1:02:33 left
    3/100  87/189 | 1:02:33 left
    """
    words = {"epoch": moment.epoch, "epochs": moment.epochs, "batch": moment.batch, "batches": moment.batches}
    words["phase"] = "validation" if moment.validating else "step"
    known: dict[str, tuple[Callable[[float], str], float | None]] = {
        "online": ("{:.1f}".format, moment.online_top1),
        "rank": ("{:.1f}".format, moment.effective_rank),
        "speed": ("{:,.0f}".format, moment.images_per_second),
        "epoch_left": (tqdm.format_interval, moment.epoch_left),
        "run_left": (tqdm.format_interval, moment.run_left),
    }
    words |= {name: form(value) for name, (form, value) in known.items() if value is not None}
    found = ("", "")
    for left, parts in _LAYOUTS:
        told = [part for part in parts if part[part.index("{") + 1 : part.index("}")] in words]
        found = left.format(**words), "  ".join(told).format(**words)
        if sum(map(len, found)) + 2 <= columns:
            break
    return found


class _Line(tqdm):
    """tqdm's bar between texts, which are chosen anew for the terminal's width each time it is drawn."""

    def __init__(self, tell: Callable[[float | None], Moment], **kwargs: Any) -> None:
        """``tell`` says what is to be told, given the batches a second."""
        self.tell = tell
        super().__init__(**kwargs)

    @property
    def nrows(self) -> int | None:
        """Rows of the terminal; None of one that does not know its size, as ``script`` makes it without a window."""
        return self._rows

    @nrows.setter
    def nrows(self, rows: int | None) -> None:
        self._rows = rows if rows is not None and rows > 0 else None

    @property
    def format_dict(self) -> dict[str, Any]:
        """tqdm's values, and the texts of both sides."""
        values = super().format_dict
        known = values["ncols"] if (values["ncols"] or 0) > 0 else COLUMNS
        columns = max(1, known - _COLUMNS_LEFT_FREE)
        left, right = texts(self.tell(values["rate"]), columns)
        room = columns - len(left) - len(right) - 2
        form = "{left} {bar} {right}" if room >= _LEAST_BAR else "{left}  {right}"
        return values | {"ncols": columns, "left": left, "right": right, "bar_format": form}


class TerminalBar(ProgressBar):
    """A progress bar for a run at a terminal: epoch, step, online top-1, effective rank, images/s and time left.

    It is one line of standard error, drawn twice a second at most and by the first process only. Lines printed by
    ``tqdm.write``, such as those of :class:`~solo_frossl.report.EpochTable`, and warnings stand above it whole, and
    nothing of it is left when training ends.

    The online top-1 is that of this epoch's training images so far (those of the first process), and comes from the
    device without waiting for it. The time left takes the validations to come to be as long as those of the last
    epoch.

    Args:
        epochs: the epoch after which training will stop, counted from 1; None: the Trainer's ``max_epochs``.
        effective_rank: tells the effective rank to show, or None; asked after each drawing. By default it is that of
            the last validation.
    """

    def __init__(self, epochs: int | None = None, effective_rank: Callable[[], float | None] | None = None) -> None:
        super().__init__()
        self.epochs = epochs
        self.effective_rank = effective_rank
        self._enabled = True
        self._line: _Line | None = None
        self._online = _OnlineTop1()
        self._moment = Moment(0, 0, 0, 0)
        self._batches = 0
        self._images = 0
        self._rate: float | None = None
        self._validation_began = 0.0
        self._validated = 0.0
        self._validated_last_epoch = 0.0
        self._show_warning: Any = None

    def disable(self) -> None:
        """Draw nothing."""
        self._enabled = False

    def enable(self) -> None:
        """Draw again."""
        self._enabled = True

    def print(self, *args: Any, sep: str = " ", **kwargs: Any) -> None:
        """Print above the bar."""
        tqdm.write(sep.join(map(str, args)), **kwargs)

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Draw the line; an epoch that is resumed in its middle goes on from there."""
        if not self._enabled:
            return
        self._show_warning, warnings.showwarning = warnings.showwarning, self._warn
        self._moment = Moment(trainer.current_epoch + 1, self.epochs or trainer.max_epochs, 0, 0)
        self._line = _Line(
            self._tell,
            total=1,
            leave=False,
            dynamic_ncols=True,
            mininterval=_SECONDS_BETWEEN_DRAWINGS,
            miniters=1,
            file=sys.stderr,
        )
        self._count_training(trainer, trainer.fit_loop.epoch_loop.batch_progress.current.completed)

    def on_train_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Begin with the next epoch."""
        if self._line is not None:
            self._validated_last_epoch, self._validated = self._validated or self._validated_last_epoch, 0.0
            self._moment = self._moment._replace(epoch=trainer.current_epoch + 1, online_top1=None)
            self._online = _OnlineTop1()
            self._count_training(trainer, 0)

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Views, batch_idx: int
    ) -> None:
        """A step further; after each drawing, ask for what the next one shows."""
        if self._line is not None:
            self._images = len(batch.label) * trainer.world_size
            self._moment = self._moment._replace(batch=batch_idx + 1)
            if self._line.update():
                self._moment = self._moment._replace(online_top1=self._online.look(module))
                if self.effective_rank is not None:
                    self._moment = self._moment._replace(effective_rank=self.effective_rank())

    def on_validation_start(self, trainer: Trainer, module: LightningModule) -> None:
        """The bar counts validation batches."""
        if self._line is not None:
            self._validation_began = time.monotonic()
            self._moment = self._moment._replace(validating=True, batch=0)
            self._count(int(sum(trainer.num_val_batches)), 0)

    def on_validation_batch_end(self, trainer: Trainer, module: LightningModule, *args: Any) -> None:
        """A batch further."""
        if self._line is not None:
            self._moment = self._moment._replace(batch=self._moment.batch + 1)
            self._line.update()

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Note how long it took and what it found; the bar counts training batches again."""
        if self._line is not None:
            self._validated += time.monotonic() - self._validation_began
            rank = trainer.callback_metrics.get("spectrum/effective_rank")
            if self.effective_rank is None and rank is not None:
                self._moment = self._moment._replace(effective_rank=float(rank))
            self._moment = self._moment._replace(validating=False)
            self._count_training(trainer, trainer.fit_loop.epoch_loop.batch_idx + 1)

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Leave nothing behind."""
        self._close()

    def on_exception(self, trainer: Trainer, module: LightningModule, exception: BaseException) -> None:
        """Leave nothing behind."""
        self._close()

    def _count_training(self, trainer: Trainer, done: int) -> None:
        self._batches = int(trainer.num_training_batches)
        self._count(self._batches, done)

    def _count(self, batches: int, done: int) -> None:
        """Let the bar count these batches, of which some are done."""
        self._moment = self._moment._replace(batch=done, batches=batches)
        self._line.total, self._line.initial = batches, done
        self._line.reset()
        self._line.n = self._line.last_print_n = done
        self._line.refresh()

    def _tell(self, rate: float | None) -> Moment:
        """The moment with what follows from the batches a second, those of training being remembered."""
        moment, validated = self._moment, self._validated
        if moment.validating:
            validated += time.monotonic() - self._validation_began
        else:
            self._rate = rate or self._rate
        if not self._rate:
            return moment
        epoch_left = 0.0 if moment.validating else (moment.batches - moment.batch) / self._rate
        validation = self._validated_last_epoch or validated
        further = (moment.epochs - moment.epoch) * (self._batches / self._rate + validation)
        return moment._replace(
            images_per_second=self._images * self._rate,
            epoch_left=None if moment.validating else epoch_left,
            run_left=epoch_left + max(0.0, validation - validated) + further,
        )

    def _warn(
        self, message: Any, category: Any, filename: str, lineno: int, file: Any = None, line: Any = None
    ) -> None:
        """A warning, above the line."""
        tqdm.write(warnings.formatwarning(message, category, filename, lineno, line).rstrip(), file=file or sys.stderr)

    def _close(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line, warnings.showwarning = None, self._show_warning


class _OnlineTop1:
    """The online accuracy of an epoch's training images so far, in percent, got without waiting for the device."""

    def __init__(self) -> None:
        self._percent: float | None = None
        self._sent: tuple[Tensor, torch.cuda.Event] | None = None

    def look(self, module: LightningModule) -> float | None:
        """The newest value that has arrived; on a GPU that is the one of an earlier look, and a new one is sent for."""
        means = getattr(module, "epoch_means", {})
        if "online_top1" not in means:
            return None
        if self._sent is not None and self._sent[1].query():
            self._read(self._sent[0])
            self._sent = None
        hits = torch.stack([means["online_top1"].numerator, means["online_top1"].denominator])
        if not hits.is_cuda:
            self._read(hits)
        elif self._sent is None:
            host = torch.empty_like(hits, device="cpu", pin_memory=True).copy_(hits, non_blocking=True)
            arrived = torch.cuda.Event()
            arrived.record()
            self._sent = host, arrived
        return self._percent

    def _read(self, hits: Tensor) -> None:
        correct, counted = hits.tolist()
        self._percent = 100 * correct / counted if counted else None

"""The first part of a run: all schedules as in the whole, but fewer epochs."""

from lightning.pytorch import Callback, LightningModule, Trainer


class StopAfterEpoch(Callback):
    """Ends training after an epoch, while the schedules go on to the Trainer's ``max_epochs``.

    So the first epochs of a long run can be had without the rest, and the rest later by resuming.

    Args:
        epoch: the last epoch to train, counted from 1.

    Raises:
        ValueError: it is below 1.
    """

    def __init__(self, epoch: int) -> None:
        if epoch < 1:
            raise ValueError(f"stop_after_epoch is {epoch}: it must be at least 1")
        self.epoch = epoch

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Train nothing when a resumed run is that far already."""
        trainer.should_stop = trainer.current_epoch >= self.epoch

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Stop after this epoch if it is the one."""
        trainer.should_stop |= trainer.current_epoch + 1 >= self.epoch

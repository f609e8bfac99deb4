"""A training run that takes a moment."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from solo_frossl.batch import Views
from solo_frossl.report import EpochCSV


class TinyRun(LightningModule):
    """Logs as a method does: training means in its own epoch end, which comes after the callbacks'."""

    loss_terms = ("variance", "off_diagonal")

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def training_step(self, batch: Views, batch_idx: int) -> Tensor:
        return (self.weight - 1) ** 2

    def on_train_epoch_end(self) -> None:
        self.log("train/loss", 10.0 + self.current_epoch)
        self.log("train/variance", float("nan") if self.current_epoch == 1 else -1.0)
        self.log("train/off_diagonal", 0.5)

    def validation_step(self, batch: Views, batch_idx: int) -> None:
        pass

    def on_validation_epoch_end(self) -> None:
        self.log("online/top1", 50.0 + self.current_epoch)
        if self.current_epoch % 2:
            self.log("knn/top1", 40.0 + self.current_epoch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.25)


def batches(count: int) -> DataLoader:
    """Batches of 6 images."""
    batch = Views([torch.zeros(6, 1)], torch.zeros(6, dtype=torch.int64), torch.arange(6))
    return DataLoader([batch] * count, batch_size=None)


@pytest.fixture
def fit():
    """``fit(csv_path, epochs, callbacks, resume=checkpoint)`` trains on 3 batches of 6 images an epoch."""

    def run(
        path: Path, epochs: int, callbacks: list[Callback] = (), resume: Path | None = None, **kwargs: Any
    ) -> Trainer:
        options = {"enable_progress_bar": False, "logger": EpochCSV(path)} | kwargs
        trainer = Trainer(
            accelerator="cpu",
            max_epochs=epochs,
            callbacks=list(callbacks),
            enable_checkpointing=False,
            enable_model_summary=False,
            log_every_n_steps=1,
            num_sanity_val_steps=0,
            **options,
        )
        trainer.fit(TinyRun(), batches(3), batches(2), ckpt_path=resume, weights_only=True)
        return trainer

    return run

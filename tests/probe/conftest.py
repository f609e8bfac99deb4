"""A dataset of coloured noise and a method without an objective, small enough to train in a moment."""

import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule
from torch import Tensor, nn

from solo_frossl.batch import Batch, Views
from solo_frossl.data.loaders import EpochOrder, EvaluationLoader, Resident, TrainLoader


class TinyData(LightningDataModule):
    """32 training and 22 validation images of 3 classes, 4x4 pixels; some have no label."""

    num_classes = 3
    batch_size = 8

    def __init__(self) -> None:
        super().__init__()
        g = torch.Generator().manual_seed(0)
        self.label = torch.randint(-1, 3, (54,), generator=g)
        noise = torch.randint(0, 140, (54, 3, 4, 4), generator=g)
        noise[torch.arange(54), self.label.clamp(min=0)] += 60
        images = noise.to(torch.uint8)
        self.train, self.val = Resident(images[:32], self.label[:32]), Resident(images[32:], self.label[32:])

    def train_dataloader(self) -> TrainLoader:
        return TrainLoader(self.train, EpochOrder(32, self.batch_size, seed=0))

    def val_dataloader(self) -> EvaluationLoader:
        return EvaluationLoader(self.val, torch.arange(22), batch_size=8)

    def labelled_train_dataloader(self) -> EvaluationLoader:
        return EvaluationLoader(self.train, (self.label[:32] >= 0).nonzero().flatten(), batch_size=8)

    def clean(self, batch: Batch) -> Batch:
        return batch._replace(image=batch.image / 127.5 - 1)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch | Views:
        if self.trainer.training:
            return Views([self.clean(batch).image], batch.label, batch.index)
        return self.clean(batch)


class TinyMethod(LightningModule):
    """A backbone with BatchNorm and dropout, which show whether it runs in eval mode; its learning rate is 0."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.backbone = nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(48, 6), nn.Dropout(0.5))
        self.frozen = nn.BatchNorm1d(6, affine=False).eval()

    def forward(self, images: Tensor) -> Tensor:
        return self.backbone(images)

    def training_step(self, batch: Views, batch_idx: int) -> Tensor:
        return self(batch.views[0]).square().mean()

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        return {"features": self(batch.image), "label": batch.label}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.0)


@pytest.fixture
def data() -> TinyData:
    return TinyData()


@pytest.fixture
def method() -> TinyMethod:
    return TinyMethod()

"""Fine-tuning: backbone and a linear head trained together on labelled images, often on few of them."""

import copy
import math
import warnings
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from solo_frossl.batch import Batch, Views
from solo_frossl.data.loaders import EvaluationLoader, TrainLoader
from solo_frossl.data.module import ImageDataModule
from solo_frossl.distributed import rank
from solo_frossl.methods.base import Ratio, accuracy
from solo_frossl.optim import ScheduleConfig, set_learning_rate
from solo_frossl.probe.features import extract_features
from solo_frossl.probe.linear import LinearResult, evaluate_scores
from solo_frossl.seeding import seed_for


@dataclass(frozen=True)
class FineTuneConfig:
    """Fine-tuning of the whole network; the defaults are VICReg's for 10 % of ImageNet's labels.

    What the papers' released code has for 1 % and 10 % of ImageNet's labels, all with SGD, momentum 0.9, no weight
    decay, a batch of 256 images, 20 epochs, random crops and flips:

    | paper | labels | backbone | head | schedule |
    |---|---|---|---|---|
    | SwAV (Caron et al. 2020, https://arxiv.org/abs/2006.09882) | 1 % | 0.02 | 5 | steps, factor 0.2 |
    | SwAV | 10 % | 0.01 | 0.2 | steps, factor 0.2, after epochs 12 and 16 |
    | Barlow Twins (Zbontar et al. 2021, https://arxiv.org/abs/2103.03230) | 1 % | 0.002 | 0.5 | cosine |
    | VICReg (Bardes et al. 2022, https://arxiv.org/abs/2105.04906) | 1 % | 0.03 | 0.08 | cosine |
    | VICReg | 10 % | 0.01 | 0.1 | cosine |

    Their cosine falls once an epoch, ours at every step.

    Args:
        epochs: passes over the labelled training images.
        batch_size: images of all processes together per step; fewer where fewer are labelled.
        backbone_learning_rate: peak learning rate of the backbone per 256 images of ``batch_size``; 0 leaves its
            weights as they are.
        head_learning_rate: peak learning rate of the linear head per 256 images of ``batch_size``.
        momentum: momentum of SGD.
        weight_decay: L2 penalty on all weights that learn.
        schedule: ``cosine`` falls to 0 along half a cosine; ``step`` multiplies by ``decay_factor``.
        decay_at: for ``step``, fractions of the run after which the learning rate drops.
        decay_factor: for ``step``, see ``decay_at``.
        batch_norm: ``train`` normalises by the batch and updates the running statistics; ``frozen`` normalises by the
            statistics that the backbone came with, which suits batches of a few images.

    Raises:
        ValueError: for a value out of its range.
    """

    epochs: int = 20
    batch_size: int = 256
    backbone_learning_rate: float = 0.01
    head_learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: Literal["cosine", "step"] = "cosine"
    decay_at: tuple[float, ...] = (0.6, 0.8)
    decay_factor: float = 0.2
    batch_norm: Literal["train", "frozen"] = "train"

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"finetune.{name} is {getattr(self, name)}: it must be at least 1")
        for name in ("backbone_learning_rate", "weight_decay", "decay_factor"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"finetune.{name} is {getattr(self, name)}: it must be 0 or more, and finite")
        if not 0 < self.head_learning_rate < math.inf:
            raise ValueError(
                f"finetune.head_learning_rate is {self.head_learning_rate}: it must be above 0, and finite"
            )
        if not 0 <= self.momentum < 1:
            raise ValueError(f"finetune.momentum is {self.momentum}: it must be at least 0 and below 1")
        if self.schedule not in ("cosine", "step"):
            raise ValueError(f"finetune.schedule is {self.schedule!r}: it must be cosine or step")
        if not all(0 < fraction < 1 for fraction in self.decay_at):
            raise ValueError(f"finetune.decay_at is {self.decay_at}: these are fractions of the run, between 0 and 1")
        if self.batch_norm not in ("train", "frozen"):
            raise ValueError(f"finetune.batch_norm is {self.batch_norm!r}: it must be train or frozen")

    def schedule_config(self) -> ScheduleConfig:
        """The learning rate over the run.

        >>> FineTuneConfig(schedule="step").schedule_config().milestones
        [12, 16]
        """
        if self.schedule == "cosine":
            return ScheduleConfig(warmup_epochs=0)
        milestones = sorted({round(fraction * self.epochs) for fraction in self.decay_at})
        return ScheduleConfig(name="step", warmup_epochs=0, milestones=milestones, gamma=self.decay_factor)


@dataclass(frozen=True)
class FineTuneResult(LinearResult):
    """A :class:`~solo_frossl.probe.LinearResult` after the last epoch, with the epochs before it.

    Args:
        protocol: ``finetune``.
        epochs: of each epoch its number, from 1, ``loss`` (mean cross entropy of the training views) and the validation
            images' ``top1`` and, with more than five classes, ``top5``, percent.
    """

    protocol: str
    epochs: list[dict[str, float]]


class FineTune(LightningModule):
    """A copy of a backbone and a linear head, trained together on the cross entropy.

    The head starts from zero, as the linear probe does; so nothing but the data's views and the network's own dropout
    is random, and the backbone first moves in the second step. Logs ``train/loss``, ``finetune/top1`` and
    ``finetune/top5`` by epoch.

    Args:
        backbone: maps images ``(B, C, H, W)`` to features ``(B, F)``; ``backbone.num_features`` is F. It is copied.
        class_names: the classes, different from each other.
        config: learning rates and schedule.
        seed: the run's seed, of which dropout and its like are functions.

    Attributes:
        result: what was reached, once training has ended, on every process.
    """

    def __init__(
        self,
        backbone: nn.Module,
        class_names: list[str],
        config: FineTuneConfig = FineTuneConfig(),
        seed: int = 0,
    ) -> None:
        super().__init__()
        if len(class_names) < 2 or len(set(class_names)) != len(class_names):
            raise ValueError(f"fine-tuning needs two or more classes with different names, got {class_names}")
        self.config, self.seed, self.class_names = config, seed, class_names
        self.backbone = copy.deepcopy(backbone).to(memory_format=torch.channels_last)
        self.backbone.requires_grad_(config.backbone_learning_rate > 0)
        self.head = nn.Linear(backbone.num_features, len(class_names))
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.mean_loss = Ratio()
        self.accuracy = nn.ModuleDict(
            {f"top{k}": accuracy(len(class_names), k) for k in (1, 5) if k == 1 or k < len(class_names)}
        )
        self.epochs: list[dict[str, float]] = []
        self.result: FineTuneResult | None = None
        self.train()  # a probed backbone comes in eval mode, which the Trainer would keep

    def forward(self, images: Tensor) -> Tensor:
        """Scores ``(B, C)`` of normalised images."""
        return self.head(self.backbone(images))

    def train(self, mode: bool = True) -> "FineTune":
        """Training mode, but for BatchNorm where it is frozen."""
        super().train(mode)
        if self.config.batch_norm == "frozen":
            for module in self.backbone.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def on_train_batch_start(self, batch: Views, batch_idx: int) -> None:
        """Seed torch's generators and set the learning rates, functions of the step."""
        torch.manual_seed(seed_for(self.seed, "torch", self.current_epoch, batch_idx, rank()))
        total = int(self.trainer.estimated_stepping_batches)
        set_learning_rate(
            self.trainer.optimizers[0],
            self.config.schedule_config(),
            step=self.trainer.global_step,
            steps_per_epoch=max(1, total // self.config.epochs),
            total_steps=total,
        )

    def training_step(self, batch: Views, batch_idx: int) -> Tensor:
        """Mean cross entropy; every view counts as an image."""
        scores = torch.cat([self(view) for view in batch.views])
        loss = F.cross_entropy(scores, batch.label.repeat(len(batch.views)))
        self.mean_loss.update(loss.detach())
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Count hits on clean images."""
        scores = self(batch.image)
        for metric in self.accuracy.values():
            metric.update(scores, batch.label)

    def on_validation_epoch_end(self) -> None:
        """Log the epoch; a diverged run ends here.

        Raises:
            FloatingPointError: the training loss is not finite.
        """
        loss = float(self.mean_loss.compute())
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"fine-tuning diverged in epoch {self.current_epoch + 1}: lower finetune.backbone_learning_rate"
                f" ({self.config.backbone_learning_rate:g}) or finetune.head_learning_rate"
                f" ({self.config.head_learning_rate:g}), both per 256 images"
            )
        hits = {name: 100 * float(metric.compute()) for name, metric in self.accuracy.items()}
        for metric in (self.mean_loss, *self.accuracy.values()):
            metric.reset()
        self.epochs.append({"epoch": self.current_epoch + 1, "loss": loss, **hits})
        for name, value in {"train/loss": loss, **{f"finetune/{name}": hit for name, hit in hits.items()}}.items():
            self.log(name, value, sync_dist=True)

    def on_train_end(self) -> None:
        """Evaluate clean training and validation images."""
        data = self.trainer.datamodule
        train, validation = (
            extract_features(
                self,
                loader,
                data.clean,
                self.device,
                self.trainer.precision_plugin.val_step_context,
            ).gathered()
            for loader in (data.labelled_train_dataloader(), data.val_dataloader())
        )
        result = evaluate_scores(train, validation, self.class_names, self.head.in_features)
        self.result = FineTuneResult(**vars(result), protocol="finetune", epochs=self.epochs)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD over backbone and head, each with its peak learning rate."""
        scale = self.config.batch_size / 256
        groups = [
            {"params": list(module.parameters()), "lr": scale * rate, "peak_lr": scale * rate, "scheduled": True}
            for module, rate in (
                (self.backbone, self.config.backbone_learning_rate),
                (self.head, self.config.head_learning_rate),
            )
            if rate > 0
        ]
        return torch.optim.SGD(groups, momentum=self.config.momentum, weight_decay=self.config.weight_decay)


class LabelledImages(LightningDataModule):
    """The labelled images of a dataset, in augmented batches to train on, and its validation images.

    Args:
        data: the dataset; its ``views`` are what is trained on.
        batch_size: images of all processes together per step; fewer where fewer are labelled.
    """

    def __init__(self, data: ImageDataModule, batch_size: int) -> None:
        super().__init__()
        self.data, self.batch_size = data, batch_size

    def prepare_data(self) -> None:
        """Download what is missing, on one process."""
        self.data.prepare_data()

    def setup(self, stage: str | None = None) -> None:
        """Find and read the images; ``stage`` makes no difference."""
        self.data.trainer = self.trainer
        self.data.setup(stage)

    def train_dataloader(self) -> TrainLoader:
        """Labelled training images in a new order each epoch."""
        return self.data.shuffled_labelled_dataloader(self.batch_size)

    def labelled_train_dataloader(self) -> EvaluationLoader:
        """The same in fixed order, each once."""
        return self.data.labelled_train_dataloader()

    def val_dataloader(self) -> EvaluationLoader:
        """Validation images in fixed order."""
        return self.data.val_dataloader()

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch | Views:
        """Augmented views in training, clean images else."""
        return self.data.on_after_batch_transfer(batch, dataloader_idx)

    def clean(self, batch: Batch) -> Batch:
        """The batch with clean images, normalised."""
        return self.data.clean(batch)


def fine_tune(
    backbone: nn.Module,
    data: ImageDataModule,
    config: FineTuneConfig = FineTuneConfig(),
    *,
    seed: int = 0,
    **trainer: Any,
) -> FineTuneResult:
    """Train a copy of a backbone with a linear head on the labelled training images, and evaluate it.

    The views are those of ``data``: crop and flip, as in the papers, are ``[View("crop_only")]``. With few labels call
    ``data.keep_labels(0.01)`` before. An epoch leaves out the images that do not fill a last batch. The result is that
    of the last epoch, not of the best one: choosing the epoch on the validation images would flatter it.

    Args:
        backbone: maps images ``(B, C, H, W)`` to features ``(B, F)``, F being ``backbone.num_features``; unchanged.
        data: training and validation images; set up here if it is not yet.
        config: learning rates and schedule.
        seed: the run's seed; order and views follow the data's own.
        trainer: further arguments of the Trainer: ``accelerator``, ``devices``, ``strategy``, ``precision``,
            ``callbacks``, ``logger``, ...; by default one device, and nothing is printed or written. BatchNorm is
            synchronised on GPUs; on CPUs each process normalises by its own images.

    Raises:
        ValueError: no training or no validation image is labelled.
        FloatingPointError: training diverged.
    """
    if not data.num_classes:
        raise ValueError(f"fine-tuning needs labels, and the images of {data.root} have none")
    data.prepare_data()
    data.setup("fit")
    before = data.trainer
    module = FineTune(backbone, [str(name) for name in data.class_names], config, seed)
    options = {
        "devices": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "sync_batchnorm": torch.cuda.is_available() and trainer.get("accelerator") != "cpu",  # it runs on GPUs only
    } | trainer
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r"Found \d+ module\(s\) in eval mode")  # frozen BatchNorm
            Trainer(
                **options,
                max_epochs=config.epochs,
                num_sanity_val_steps=0,
                use_distributed_sampler=False,
                log_every_n_steps=1,
            ).fit(module, datamodule=LabelledImages(data, config.batch_size))
    finally:
        data.trainer = before
    if module.result is None:
        raise RuntimeError("fine-tuning was stopped before its last epoch, so there is no result")
    return module.result

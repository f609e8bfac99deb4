"""Callbacks that watch the backbone's features beside training: k-NN accuracy and effective rank."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from solo_frossl.distributed import gather_ragged, reduce_sum
from solo_frossl.probe.features import extract_features
from solo_frossl.probe.knn import KNNConfig, knn_classify, knn_hits
from solo_frossl.spectrum import covariance_eigenvalues, effective_rank


class _ValidationFeatures(Callback):
    """Keeps what ``validation_step`` returns until validation ends.

    That is ``label (B,)``, ``features (B, F)`` and, where a target network is watched, ``target_features (B, F)``.
    """

    def __init__(self) -> None:
        self._outputs: list[dict[str, Tensor]] = []

    def measure(self, trainer: Trainer, module: LightningModule, outputs: dict[str, Tensor]) -> None:
        """Log what this process's validation features ``(N/W, F)`` and labels ``(N/W,)`` tell."""
        raise NotImplementedError

    def wanted(self, trainer: Trainer) -> bool:
        """Whether this validation is to be measured."""
        return not trainer.sanity_checking

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the batch's features."""
        if self.wanted(trainer):
            self._outputs.append(outputs)

    def on_validation_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Measure, and forget the features."""
        outputs, self._outputs = self._outputs, []
        if outputs:
            self.measure(trainer, module, {key: torch.cat([output[key] for output in outputs]) for key in outputs[0]})

    def on_exception(self, trainer: Trainer, module: LightningModule, exception: BaseException) -> None:
        """Forget the features of a validation that did not end."""
        self._outputs = []


class OnlineKNN(_ValidationFeatures):
    """Logs ``knn/top1`` in percent: validation images classified by their nearest clean training images.

    Where a target network is watched, ``knn/target_top1`` is the same by its features.

    The validation features are those that ``validation_step`` computed; those of the labelled training images are
    extracted by the backbone in eval mode, at the run's precision. Each process classifies its own validation images
    among all training images. Nothing is drawn at random. Datasets without classes are passed over.

    Args:
        config: how often, and how neighbours vote.
    """

    def __init__(self, config: KNNConfig = KNNConfig()) -> None:
        super().__init__()
        self.config = config

    def wanted(self, trainer: Trainer) -> bool:
        """At every n-th epoch and the last one, where there are classes."""
        every, epochs_done = self.config.every_n_epochs, trainer.current_epoch + 1
        due = every > 0 and (epochs_done % every == 0 or epochs_done == trainer.max_epochs)
        return due and trainer.datamodule.num_classes > 0 and super().wanted(trainer)

    def measure(self, trainer: Trainer, module: LightningModule, outputs: dict[str, Tensor]) -> None:
        """Extract the bank, classify, and count over processes."""
        self._classify(trainer, module, module, "top1", outputs["features"], outputs["label"])
        if "target_features" in outputs:
            target = module.target_backbone
            self._classify(trainer, module, target, "target_top1", outputs["target_features"], outputs["label"])

    def _classify(
        self,
        trainer: Trainer,
        module: LightningModule,
        backbone: nn.Module,
        name: str,
        features: Tensor,
        label: Tensor,
    ) -> None:
        data = trainer.datamodule
        bank = extract_features(
            backbone,
            data.labelled_train_dataloader(),
            lambda batch: data.on_after_batch_transfer(batch, 0),
            module.device,
            trainer.precision_plugin.val_step_context,
        ).gathered()
        scores = knn_classify(
            features.float(),
            bank.features,
            bank.label,
            k=self.config.k,
            temperature=self.config.temperature,
            num_classes=data.num_classes,
        )
        hits, counted = reduce_sum(knn_hits(scores, label))
        module.log(f"knn/{name}", 100 * hits / counted, sync_dist=True)


class EffectiveRank(_ValidationFeatures):
    """Logs ``spectrum/effective_rank`` of the validation features after every epoch, from 1 to their dimension."""

    def measure(self, trainer: Trainer, module: LightningModule, outputs: dict[str, Tensor]) -> None:
        """Effective rank of the features of all processes together."""
        eigenvalues = covariance_eigenvalues(gather_ragged(outputs["features"].float()))
        module.log("spectrum/effective_rank", float(effective_rank(eigenvalues.cpu())), sync_dist=True)

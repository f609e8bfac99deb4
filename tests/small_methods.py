"""Every method as its configuration file has it, but small: what the conformance tests train, and how."""

from pathlib import Path

from lightning.pytorch import Callback, LightningDataModule, Trainer, seed_everything

from solo_frossl.cli.parser import build_cli
from solo_frossl.data import DATASETS
from solo_frossl.methods import METHODS, Method
from solo_frossl.probe import extract_features, knn_accuracy, knn_classify
from solo_frossl.runs import AtomicCheckpointIO, RunCheckpoint, SeedEachStep
from solo_frossl.spectrum import covariance_eigenvalues, effective_rank

ROOT = Path(__file__).parents[1]
SMALL = [
    "--model.backbone=test_resnet",  # timm's smallest ResNet
    "--model.stem=imagenet",
    "--model.projector.hidden=64",
    "--model.projector.output=32",
    "--model.optimizer.name=sgd",
    "--model.optimizer.lr=0.4",
    "--model.optimizer.classifier_lr=1.0",
    "--model.schedule.warmup_epochs=1",
    "--data.subset=256",
    "--data.batch_size=64",
]
OWN = {
    "barlow_twins": ["--model.optimizer.lr=0.02"],
    "byol": ["--model.predictor.hidden=64", "--model.optimizer.lr=0.05"],
    "corinfomax": ["--model.optimizer.lr=0.01"],
    "dino": [
        "--model.num_prototypes=64",
        "--model.warmup_teacher_temperature_epochs=2",
        "--model.momentum.base_tau=0.99",
        "--model.projector.batch_norm=true",
    ],
    "frossl": ["--model.optimizer.lr=0.1"],
    "moco_v2": [
        "--model.queue_size=72",  # no multiple of the batch
        "--model.projector.batch_norm=true",
        "--model.optimizer.lr=0.1",
    ],
    "simsiam": ["--model.predictor.hidden=64", "--model.optimizer.lr=0.2"],
    "swav": [
        "--model.num_prototypes=24",
        "--model.queue_size=96",
        "--model.queue_from_epoch=1",
        "--model.freeze_prototypes_epochs=1",
    ],
    "vicreg": ["--model.optimizer.lr=0.01"],
    "wmse": ["--model.whitening_size=64", "--model.optimizer.lr=0.02"],
}
"""What a method has beyond that: sizes, and a learning rate at which so few steps teach it something."""
VARIANTS = {
    "frossl_no_logs": ("frossl_no_logs", ["--model.optimizer.lr=0.1"]),
    "moco_v2 without target": ("moco_v2", ["--model.momentum=null"]),
    "byol without target": ("byol", ["--model.momentum=null"]),
    "dino without target": ("dino", ["--model.momentum=null"]),
    **{
        f"{name} {similarity}{' without target' if target == 'null' else ''}": (
            name,
            [f"--model.similarity={similarity}", *([f"--model.momentum={target}"] if target else [])],
        )
        for name in ("directpred", "directcopy", "isoloss")
        for similarity, target in (("cosine", "null"), ("euclidean", ""), ("euclidean", "null"))
    },
    "directpred without stop-gradient": ("directpred", ["--model.momentum=null", "--model.stop_gradient=false"]),
    "directpred without predictor": ("directpred", ["--model.momentum=null", "--model.use_predictor=false"]),
}
"""Rows of the tables that are no method of their own: the configuration, and what is changed in it."""
VIT = ["--model.backbone=test_vit", "--data.image_size=32", "--model.projector.batch_norm=false"]
"""A network without BatchNorm, which would see the images of one process: SyncBatchNorm runs on GPUs only."""
NO_BATCH_NORM = {
    "simsiam": ["--model.projector.output_batch_norm=false", "--model.predictor.batch_norm=false"],
    "byol": ["--model.predictor.batch_norm=false"],
}
"""What a method has to leave out beyond that."""


def build(name: str, *arguments: str) -> tuple[Method, LightningDataModule]:
    """A method and 256 digits, small enough to train in a second or two.

    Args:
        name: the method's.
        arguments: as on the command line; they come last.
    """
    parsed = build_cli(
        ["--config", str(ROOT / f"configs/digits/{name}.yaml"), *SMALL, *OWN.get(name, []), *arguments],
        methods=METHODS,
        datasets=DATASETS,
        add_arguments=lambda parser: None,
    )
    seed_everything(0, verbose=False)
    built = parsed.instantiate()
    return built.model, built.data


def trainer(*callbacks: Callback, epochs: int, **kwargs) -> Trainer:
    """A Trainer on the CPU that prints nothing and keeps what the callbacks keep."""
    return Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        logger=False,
        enable_checkpointing=any(isinstance(callback, RunCheckpoint) for callback in callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[SeedEachStep(0), *callbacks],
        plugins=[AtomicCheckpointIO()],
        **kwargs,
    )


class Losses(Callback):
    """The objective's value of every step, in ``values``."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        self.values.append(float(outputs["terms"]["loss"]))

    def by_epoch(self, steps: int) -> list[float]:
        """Means of every so many steps."""
        return [sum(self.values[i : i + steps]) / steps for i in range(0, len(self.values), steps)]


def quality(model: Method, data: LightningDataModule) -> tuple[float, float]:
    """k-NN accuracy in percent, and effective rank, of the backbone's features."""
    train, validation = (
        extract_features(model, loader, data.clean, "cpu")
        for loader in (data.labelled_train_dataloader(), data.val_dataloader())
    )
    scores = knn_classify(validation.features, train.features, train.label, k=5, num_classes=10)
    rank = effective_rank(covariance_eigenvalues(validation.features))
    return float(knn_accuracy(scores, validation.label)), float(rank)

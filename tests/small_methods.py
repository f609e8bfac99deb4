"""Every method as its configuration file has it, but small: what the conformance tests train."""

from pathlib import Path

from lightning.pytorch import LightningDataModule, seed_everything

from solo_frossl.cli.parser import build_cli
from solo_frossl.data import DATASETS
from solo_frossl.methods import METHODS, Method

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
    "byol": ["--model.predictor.hidden=64"],
    "corinfomax": ["--model.optimizer.lr=0.04"],
    "dino": [
        "--model.num_prototypes=64",
        "--model.warmup_teacher_temperature_epochs=2",
        "--model.momentum.base_tau=0.99",
        "--model.projector.batch_norm=true",
    ],
    "moco_v2": ["--model.queue_size=72", "--model.projector.batch_norm=true"],  # the queue is no multiple of the batch
    "simsiam": ["--model.predictor.hidden=64", "--model.optimizer.lr=1.0"],
    "swav": [
        "--model.num_prototypes=24",
        "--model.queue_size=96",
        "--model.queue_from_epoch=1",
        "--model.freeze_prototypes_epochs=1",
    ],
    "vicreg": ["--model.optimizer.lr=0.04"],
    "wmse": ["--model.whitening_size=64"],
}
"""Sizes that a method has beyond those of all."""


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

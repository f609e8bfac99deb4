"""``solo-frossl features``: the features of a whole dataset, as a file and as a picture."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from lightning.pytorch.cli import LightningArgumentParser
from torch import Tensor

from solo_frossl.cli.errors import ConfigError, one_message
from solo_frossl.cli.pretrain import quiet
from solo_frossl.cli.probing import (
    Probing,
    add_backbone_options,
    add_device_options,
    add_zoo_options,
    prepare,
    writable,
)
from solo_frossl.probe import Features, features_path, knn_top1, write_features
from solo_frossl.report import LEAST_DRAWN, draw_features
from solo_frossl.seeding import generator

PROGRAM = "solo-frossl features"
MOST_UNLABELLED = 10_000
"""Images without a label that a picture shows at most; more would hide one another."""


def features(argv: Sequence[str] | None = None) -> int:
    """Write and draw features; the exit code is 0, or 2 for what cannot be done.

    Args:
        argv: the command line without the program's name; ``sys.argv`` by default.
    """
    quiet()
    with one_message(PROGRAM):
        probing = prepare(
            list(sys.argv[1:] if argv is None else argv),
            add_arguments=_add_options,
            description="Write the features that a backbone has for all training and validation images of a dataset,"
            " with their labels (-1: none); and draw in the plane those of the validation images, coloured by class,"
            " and of the images without a label, in grey.",
            prog=PROGRAM,
            unlabelled=True,
        )
        try:
            return _features(probing)
        except (OSError, ValueError, ImportError) as error:
            raise ConfigError(str(error)) from error


def _add_options(parser: LightningArgumentParser) -> None:
    add_backbone_options(parser)
    add_zoo_options(parser)
    parser.add_argument(
        "--out",
        type=str | None,
        help="The file, ending in .npz or .safetensors; by default features/features.npz in the run's folder.",
    )
    parser.add_argument(
        "--picture",
        type=Literal["pca", "umap", "none"],
        default="pca",
        help="Draw features beside the file (.png): their two principal components, UMAP, or nothing.",
    )
    add_device_options(parser)


def _features(probing: Probing) -> int:
    options, names = probing.options, [str(name) for name in probing.data.class_names]
    out = features_path(options.out or probing.folder("features") / "features.npz")
    writable(out.parent)
    train, validation = (Features(*(part.cpu() for part in split)) for split in probing.features(unlabelled=True))
    files = probing.data.image_files or (None, None)
    of_rows = [of and [of[i] for i in part.index.tolist()] for of, part in zip(files, (train, validation), strict=True)]
    write_features(out, train, validation, names, probing.about(), *of_rows)
    print(
        f"features of {probing.backbone.name} on {options.dataset}: {len(train.label):,} training and"
        f" {len(validation.label):,} validation images, dimension {train.features.shape[1]}"
    )
    without = [int((part.label < 0).sum()) for part in (train, validation)]
    if any(without):
        print(f"without a label, -1 in the file: {without[0]:,} training and {without[1]:,} validation images")
    if probing.data.num_skipped:
        print(f"left out: {probing.data.num_skipped:,} image file(s) that cannot be read")
    written = [out]
    if options.picture != "none":
        picture = out.with_name(f"{out.stem}-{options.picture}.png")
        written += [picture] if _draw(probing, train, validation, picture) else []
    print(f"Written to {', '.join(map(str, written))}")
    return 0


def _draw(probing: Probing, train: Features, validation: Features, picture: Path) -> bool:
    """Whether there was something to draw."""
    options, names = probing.options, [str(name) for name in probing.data.class_names]
    shown, labels = _drawn(train, validation, options.seed_everything)
    if len(labels) < LEAST_DRAWN:
        print(
            f"no picture: it needs {LEAST_DRAWN} validation images, or images without a label; here are {len(labels)}"
        )
        return False
    without = sum(int((part.label < 0).sum()) for part in (train, validation))
    *folders, file = probing.backbone.name.split("/")
    name = "/".join([*(["…", *folders[-2:]] if len(folders) > 2 else folders), file]) + f" on {options.dataset}"
    scored = len(train.labelled().label) > 0 < len(validation.labelled().label)
    draw_features(
        shown.numpy(),
        labels.numpy(),
        names,
        picture,
        method=options.picture,
        name=f"{name}, k-NN" if scored else name,
        accuracy=knn_top1(train, validation, len(names)) if scored else None,
        unlabelled=without,
        seed=options.seed_everything,
    )
    if without > MOST_UNLABELLED:
        print(f"the picture has {MOST_UNLABELLED:,} of the {without:,} images without a label")
    return True


def _drawn(train: Features, validation: Features, seed: int) -> tuple[Tensor, Tensor]:
    """Features and labels that are drawn: the labelled validation images, and the unlabelled images of both splits.

    Of the latter :data:`MOST_UNLABELLED` at most, chosen by the seed: STL-10 has 100,000 of them.
    """
    count = len(validation.label)
    unlabelled = (torch.cat([validation.label, train.label]) < 0).nonzero().flatten()
    if len(unlabelled) > MOST_UNLABELLED:
        order = torch.randperm(len(unlabelled), generator=generator(seed, "picture"))
        unlabelled = unlabelled[order[:MOST_UNLABELLED]]
    labelled = validation.labelled()
    of_validation, of_train = unlabelled[unlabelled < count], unlabelled[unlabelled >= count] - count
    features = torch.cat([labelled.features, validation.features[of_validation], train.features[of_train]])
    return features, torch.cat([labelled.label, torch.full_like(unlabelled, -1)])

"""``solo-frossl features``: the features of a whole dataset, as a file and as a picture."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from lightning.pytorch.cli import LightningArgumentParser

from solo_frossl.cli.errors import ConfigError, one_message
from solo_frossl.cli.pretrain import quiet
from solo_frossl.cli.probing import Probing, add_backbone_options, add_device_options, add_zoo_options, prepare
from solo_frossl.probe import Features, knn_top1, write_features
from solo_frossl.report import draw_features

PROGRAM = "solo-frossl features"


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
            description="Write the features that a backbone has for a dataset's labelled training images and"
            " validation images, and draw those of the validation images in the plane, coloured by class.",
            prog=PROGRAM,
        )
        try:
            return _features(probing)
        except (ValueError, ImportError) as error:
            raise ConfigError(str(error)) from error
        except OSError as error:
            raise ConfigError(
                f"{error.filename or error} cannot be written ({error}); choose another with --out"
            ) from error


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
        help="Draw validation features beside the file (.png): their two principal components, UMAP, or nothing.",
    )
    add_device_options(parser)


def _features(probing: Probing) -> int:
    options, names = probing.options, [str(name) for name in probing.data.class_names]
    out = Path(options.out) if options.out else probing.folder("features") / "features.npz"
    train, validation = (Features(*(part.cpu() for part in split)) for split in probing.features())
    write_features(out, train, validation, names, probing.about())
    print(
        f"features of {probing.backbone.name} on {options.dataset}: {len(train.label):,} training and"
        f" {len(validation.label):,} validation images, dimension {train.features.shape[1]}"
    )
    written = [str(out)]
    if options.picture != "none":
        picture = out.with_name(f"{out.stem}-{options.picture}.png")
        draw_features(
            validation.features.numpy(),
            validation.label.numpy(),
            names,
            picture,
            method=options.picture,
            name=f"{probing.backbone.name} on {options.dataset}, k-NN",
            accuracy=knn_top1(train, validation, len(names)),
            seed=options.seed_everything,
        )
        written.append(str(picture))
    print(f"Written to {', '.join(written)}")
    return 0

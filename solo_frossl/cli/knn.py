"""``solo-frossl knn``: how good the features of a frozen backbone are, by their nearest neighbours."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from lightning.pytorch.cli import LightningArgumentParser

from solo_frossl.cli.errors import ConfigError, one_message
from solo_frossl.cli.pretrain import quiet
from solo_frossl.cli.probing import (
    Probing,
    add_backbone_options,
    add_device_options,
    add_label_options,
    add_zoo_options,
    prepare,
)
from solo_frossl.probe import knn_accuracy, knn_sweep
from solo_frossl.replacing import replacing

PROGRAM = "solo-frossl knn"


def knn(argv: Sequence[str] | None = None) -> int:
    """Classify validation images by the nearest training images; the exit code is 0, or 2 for what cannot be probed.

    Args:
        argv: the command line without the program's name; ``sys.argv`` by default.
    """
    quiet()
    with one_message(PROGRAM):
        probing = prepare(
            list(sys.argv[1:] if argv is None else argv),
            add_arguments=_add_options,
            description="Classify the validation images by their nearest training images in the features of a frozen"
            " backbone, for several numbers of neighbours (Wu et al. 2018).",
            prog=PROGRAM,
        )
        try:
            return _knn(probing)
        except (OSError, ValueError) as error:
            raise ConfigError(str(error)) from error


def _add_options(parser: LightningArgumentParser) -> None:
    add_backbone_options(parser)
    add_zoo_options(parser)
    parser.add_argument(
        "--k",
        type=int,
        nargs="+",
        default=[1, 5, 10, 20, 50, 100, 200],
        help="Numbers of neighbours that vote; top-5 is told of 5 and more.",
    )
    parser.add_argument(
        "--temperature",
        type=float,
        default=0.07,
        help="A neighbour at cosine similarity s votes with weight exp(s / temperature).",
    )
    add_label_options(parser)
    parser.add_argument(
        "--out",
        type=str | None,
        help="Folder for the results; by default 'knn' in the run's folder, or in FILE-probes beside a file.",
    )
    add_device_options(parser)


def _knn(probing: Probing) -> int:
    options, classes = probing.options, probing.data.num_classes
    if min(options.k) < 1 or not options.temperature > 0:
        raise ConfigError(
            f"--k is {' '.join(map(str, options.k))} and --temperature {options.temperature:g}: neighbours must be 1 or"
            " more, the temperature above 0"
        )
    out = probing.folder("knn")
    train, validation = probing.features()
    labelled = train.labelled()
    if not len(validation.labelled().label):
        raise ConfigError(f"k-NN needs labelled validation images, and those of {probing.data.root} have no label")
    ks = sorted({min(k, len(labelled.label)) for k in options.k})
    votes = knn_sweep(
        validation.features,
        train.features,
        train.label,
        ks=ks,
        temperature=options.temperature,
        num_classes=classes,
    )
    places = (1, 5) if classes > 5 else (1,)
    rows = [  # fewer neighbours than places vote for fewer classes: the others would be drawn by lot
        {"k": k}
        | {f"top{p}": float(knn_accuracy(scores, validation.label, top_k=p)) if p <= k else None for p in places}
        for k, scores in votes.items()
    ]
    print(
        f"k-NN of {probing.backbone.name} on {options.dataset}: {len(validation.labelled().label):,} validation images"
        f" among {len(labelled.label):,} labelled training images, temperature {options.temperature:g}\n"
    )
    print("    k" + "".join(f"  top-{place} %" for place in places))
    for row in rows:
        print(f"{row['k']:>5}" + "".join(f"  {_percent(row[f'top{place}'])}" for place in places))
    file = out / ("knn.json" if options.labels is None else f"knn-labels-{Path(str(options.labels)).name}.json")
    about = {**probing.about(), "temperature": options.temperature, "num_train": len(labelled.label), "results": rows}
    with replacing(file) as part:
        part.write_text(json.dumps(about, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    print(f"\nWritten to {file}")
    return 0


def _percent(value: float | None) -> str:
    return f"{'-':>7}" if value is None else f"{value:>7.2f}"

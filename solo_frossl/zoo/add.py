"""Making an entry of the zoo from a trained backbone: its file, its accuracy measured from that file, its card."""

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from solo_frossl.report import draw_curves
from solo_frossl.run_files import MetricsFileError, RunFolder, read_metrics
from solo_frossl.weights import Pretrained
from solo_frossl.zoo.card import model_card
from solo_frossl.zoo.errors import ZooError
from solo_frossl.zoo.files import write_weights
from solo_frossl.zoo.index import PRECISIONS, Entry, changing, check_name, read_index, shipped_index

WEIGHTS, CARDS = "weights", "cards"
"""Folders beside the index."""


def add_checkpoint(
    backbone: Pretrained,
    run: RunFolder,
    index_path: str | Path,
    *,
    name: str,
    measure: Callable[[Path], Mapping[str, float]],
    validation_images: int,
    dataset: str | None = None,
    options: str = "",
    precision: str = "float16",
    licence: str = "MIT",
    places: Sequence[str] = (),
) -> Entry:
    """Write a backbone's file, measure it, and put entry and card into an index.

    The file holds the backbone alone, without projector, classifier and optimiser. All is made in a folder of its own
    beside the index, and moved to its place as the entry is written, so that what fails before leaves nothing, whoever
    else adds an entry of that name.

    Args:
        backbone: of the run.
        run: the folder of its run, for epochs, online accuracy and the picture.
        index_path: the index; an index that does not exist is started.
        name: of the entry.
        measure: from the file to its accuracies in percent: ``linear_top1``, ``knn_top1``.
        validation_images: on how many images it measures.
        dataset: what to call the images it was trained on; none given: as the run's configuration does.
        options: what the commands that measure it need beside its name to find the images.
        precision: ``float16`` or ``float32``: what the tensors are stored in.
        licence: of the weights.
        places: further places where the file will be had, after the one beside the index.

    Raises:
        ZooError: the name is taken or cannot be one, a weight does not fit the precision, the weights were saved within
            an epoch, or the run has no metrics of their epoch.
    """
    check_name(name)
    index_path = Path(index_path)
    if index_path.is_file():
        _refuse_taken(read_index(index_path).entries, name, index_path)
    row = _last_row(run, backbone)
    stored = _stored(backbone, precision)
    about = backbone.about() | {
        "name": name,
        "dataset": dataset or (backbone.config or {}).get("dataset"),
        "precision": precision,
    }
    folder = index_path.absolute().parent
    shipped = index_path.resolve() == shipped_index().resolve()
    more = "".join(f" {option}" for option in ("" if shipped else f"--index {index_path.name}", options) if option)
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".adding-", dir=folder) as scratch:
        weights, picture, card = (Path(scratch) / f"{name}{end}" for end in (".safetensors", ".png", ".md"))
        write_weights(weights, stored, about)
        digest = hashlib.sha256(weights.read_bytes()).hexdigest()
        file = f"{name}-{digest[:8]}.safetensors"
        online = row.get("online/top1") if backbone.encoder == "backbone" else None
        accuracy = {} if online is None else {"online_top1": round(online, 2)}
        accuracy |= {key: round(value, 2) for key, value in measure(weights).items()}
        entry = Entry(
            **about,
            num_features=backbone.num_features,
            accuracy=accuracy,
            measured_by="; ".join(f"solo-frossl {probe} --backbone zoo:{name}{more}" for probe in ("linear", "knn")),
            licence=licence,
            file=file,
            size=weights.stat().st_size,
            sha256=digest,
            places=(f"file:{WEIGHTS}/{file}", *places),
        )
        draw_curves(run.metrics, picture)
        text = model_card(
            entry,
            validation_images=validation_images,
            picture=picture.name,
            index=None if shipped else index_path.name,
        )
        card.write_text(text, encoding="utf-8")
        finals = {weights: folder / WEIGHTS / file, **{part: folder / CARDS / part.name for part in (picture, card)}}
        moved: list[Path] = []
        try:
            with changing(index_path) as entries:
                _refuse_taken(entries, name, index_path)  # others may have added theirs by now
                for part, final in finals.items():
                    final.parent.mkdir(exist_ok=True)
                    os.replace(part, final)
                    moved.append(final)
                entries[name] = entry
        except BaseException:  # the index could not be written
            for final in moved:
                final.unlink(missing_ok=True)
            raise
    return entry


def _refuse_taken(entries: Mapping[str, Entry], name: str, index_path: Path) -> None:
    if name in entries:
        raise ZooError(f"{index_path} has an entry {name} already: choose another --name, or remove that one first")


def _stored(backbone: Pretrained, precision: str) -> dict[str, torch.Tensor]:
    """The backbone's tensors as they are stored."""
    if precision not in PRECISIONS:
        raise ZooError(f"precision is {precision!r}: it must be {' or '.join(PRECISIONS)}")
    kind = getattr(torch, precision)
    tensors = {}
    for key, value in backbone.backbone.state_dict().items():
        tensors[key] = value.to(kind) if value.is_floating_point() else value
        if not tensors[key].isfinite().all():
            raise ZooError(f"{key} does not fit {precision} (its largest magnitude is {float(value.abs().max()):.3g})")
    return tensors


def _last_row(run: RunFolder, backbone: Pretrained) -> Mapping[str, float]:
    """What the run measured in the epoch after which these weights were saved."""
    if backbone.epochs is None:
        raise ZooError(
            f"{backbone.name} was saved within an epoch, and an entry says how many epochs its weights have: let the"
            " run end one (--resume)"
        )
    try:
        rows = read_metrics(run.metrics)
    except (FileNotFoundError, MetricsFileError) as error:
        raise ZooError(f"the metrics of the run cannot be read: {error}") from error
    if backbone.epochs - 1 not in rows:
        raise ZooError(
            f"{backbone.name} has weights of {backbone.epochs} epochs, and {run.metrics} no row of the last one"
        )
    return rows[backbone.epochs - 1]

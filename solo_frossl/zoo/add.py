"""Making an entry of the zoo from a trained backbone: its file, its accuracy measured from that file, its card."""

import copy
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from solo_frossl.report import draw_curves
from solo_frossl.run_files import MetricsFileError, RunFolder, read_metrics
from solo_frossl.weights import Pretrained
from solo_frossl.weights.layouts import Role
from solo_frossl.zoo.card import model_card
from solo_frossl.zoo.errors import ZooError
from solo_frossl.zoo.files import write_weights
from solo_frossl.zoo.index import PRECISIONS, Entry, check_name, read_index, shipped_index, write_index

WEIGHTS, CARDS = "weights", "cards"
"""Folders beside the index."""


def add_checkpoint(
    backbone: Pretrained,
    run: RunFolder,
    index_path: str | Path,
    *,
    name: str,
    mean: Sequence[float],
    std: Sequence[float],
    image_size: int,
    measure: Callable[[Path], Mapping[str, float]],
    validation_images: int,
    dataset: str | None = None,
    options: str = "",
    encoder: Role = "backbone",
    precision: str = "float16",
    licence: str = "MIT",
    places: Sequence[str] = (),
) -> Entry:
    """Write a backbone's file, measure it, and put entry and card into an index.

    The file holds the backbone alone, without projector, classifier and optimiser. The index is written last; when
    anything fails before, no file is left.

    Args:
        backbone: of the run.
        run: the folder of its run, for epochs, online accuracy and the picture.
        index_path: the index; an index that does not exist is started.
        name: of the entry.
        mean: of each channel, as the run's images were normalised.
        std: likewise.
        image_size: side of the run's images, pixels.
        measure: from the file to its accuracies in percent: ``linear_top1``, ``knn_top1``.
        validation_images: on how many images it measures.
        dataset: what to call the images it was trained on; none given: as the run's configuration does.
        options: what the commands that measure it need beside its name to find the images.
        encoder: which encoder of the run it is; the online accuracy is that of ``backbone``, and no other's.
        precision: ``float16`` or ``float32``: what the tensors are stored in.
        licence: of the weights.
        places: further places where the file will be had, after the one beside the index.

    Raises:
        ZooError: the name is taken or cannot be one, a weight does not fit the precision, or the run has no epoch.
    """
    check_name(name)
    index_path = Path(index_path)
    _refuse_taken(index_path, name)
    config = _without_paths(backbone.config or {})
    rows = _rows(run)
    stored = _stored(backbone, precision)
    architecture = backbone.architecture.to_dict() | {"image_size": image_size}
    about = {
        "name": name,
        "method": config.get("method"),
        **({} if encoder == "backbone" else {"encoder": encoder}),
        "dataset": dataset or config.get("dataset"),
        "architecture": architecture,
        "mean": list(mean),
        "std": list(std),
        "epochs": max(rows) + 1,
        "seed": config.get("seed_everything", 0),
        "config": config,
        "precision": precision,
    }
    folder = index_path.absolute().parent
    shipped = index_path.resolve() == shipped_index().resolve()
    more = "".join(f" {option}" for option in ("" if shipped else f"--index {index_path.name}", options) if option)
    written: list[Path] = []
    try:
        part = folder / WEIGHTS / f"{name}.safetensors"
        written.append(part)
        write_weights(part, stored, about)
        digest = hashlib.sha256(part.read_bytes()).hexdigest()
        file = part.with_name(f"{name}-{digest[:8]}.safetensors")
        os.replace(part, file)
        written.append(file)
        online = rows[max(rows)].get("online/top1") if encoder == "backbone" else None
        accuracy = {} if online is None else {"online_top1": round(online, 2)}
        accuracy |= {key: round(value, 2) for key, value in measure(file).items()}
        entry = Entry(
            **about,
            num_features=backbone.num_features,
            accuracy=accuracy,
            measured_by="; ".join(f"solo-frossl {probe} --backbone zoo:{name}{more}" for probe in ("linear", "knn")),
            licence=licence,
            file=file.name,
            size=file.stat().st_size,
            sha256=digest,
            places=(f"file:{WEIGHTS}/{file.name}", *places),
        )
        picture = folder / CARDS / f"{name}.png"
        written.append(picture)
        draw_curves(run.metrics, picture)
        card = folder / CARDS / f"{name}.md"
        written.append(card)
        text = model_card(
            entry,
            validation_images=validation_images,
            picture=picture.name,
            index=None if shipped else index_path.name,
        )
        card.write_text(text, encoding="utf-8")
        with FileLock(index_path.with_name(index_path.name + ".lock")):  # others may have added theirs by now
            write_index(index_path, [*_refuse_taken(index_path, name), entry])
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        raise
    return entry


def _refuse_taken(index_path: Path, name: str) -> list[Entry]:
    """The entries so far, none of them of this name."""
    entries = read_index(index_path).entries if index_path.is_file() else {}
    if name in entries:
        raise ZooError(f"{index_path} has an entry {name} already: choose another --name, or remove that one first")
    return list(entries.values())


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


def _rows(run: RunFolder) -> Mapping[int, Mapping[str, float]]:
    try:
        rows = read_metrics(run.metrics)
    except (FileNotFoundError, MetricsFileError) as error:
        raise ZooError(f"the metrics of the run cannot be read: {error}") from error
    if not rows:
        raise ZooError(f"the run {run.path} has not finished an epoch")
    return rows


def _without_paths(config: Mapping[str, Any]) -> dict[str, Any]:
    """A run's configuration with absolute paths cut to their last part: they say where its author's files lay."""
    config = copy.deepcopy(dict(config))
    for group in (config, config.get("data") or {}):
        for key, value in group.items():
            if isinstance(value, str) and os.path.isabs(value):
                group[key] = os.path.basename(value.rstrip("/")) or "/"
    return config

"""Made-up run folders: curves that rise as real ones do, without any training."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from solo_frossl.run_files import record_type

TERMS = {"frossl": ("variance", "invariance"), "barlow_twins": ("on_diagonal", "off_diagonal")}


def config(method: str, seed: int, epochs: int, dataset: str = "stl10", **model: Any) -> dict[str, Any]:
    """A configuration as a run folder keeps it, the keys that matter."""
    return {
        "method": method,
        "dataset": dataset,
        "name": f"{method}-seed{seed}",
        "runs_dir": "runs",
        "seed_everything": seed,
        "model": {"backbone": "resnet18", "optimizer": {"name": "lars", "lr": 0.3}, **model},
        "data": {
            "root": f"/data/{dataset}",
            "batch_size": 256,
            "subset": None,
            "views": [{"recipe": "weak", "size": None}],
        },
        "trainer": {"max_epochs": epochs, "devices": 1 + seed, "sync_batchnorm": True},
    }


def metrics(method: str, seed: int, epochs: int, speed: float = 1.0) -> dict[int, dict[str, float]]:
    """What each epoch, from 0, would have measured."""
    rows = {}
    for epoch in range(epochs):
        done = 1 - math.exp(-speed * (epoch + 1) / 20)
        wave = 0.6 * math.sin(1.7 * epoch + seed)
        rows[epoch] = {
            "knn/top1": 20 + 55 * done + wave,
            "spectrum/effective_rank": 5 + 60 * done * speed,
            "online/top1": 10 + 65 * done + wave,
            "online/top5": 60 + 35 * done,
            "images_per_second": 1000 / speed + 10 * math.sin(epoch),
            "device_seconds": 100.0 * speed + seed,
            "learning_rate": 0.3 * (1 + math.cos(math.pi * epoch / epochs)) / 2,
            "train/loss": 4 - 3 * done,
            **{f"train/{term}": (3 - 2 * done) / (i + 1) for i, term in enumerate(TERMS.get(method, ()))},
            "train/online_top1": 8 + 60 * done,
            **{f"spectrum/embeddings/l{i}": 10 * math.exp(-i * (1 - 0.6 * done)) for i in range(1, 15)},
            "spectrum/embeddings/condition_number": math.exp(13 * (1 - 0.6 * done)),
            "spectrum/embeddings/entropy": 1 + 2 * done,
            "spectrum/embeddings/effective_rank": math.exp(1 + 2 * done),
            "spectrum/view_correlation": 0.9 - 0.3 * done,
        }
    if epochs > 3:
        rows[epochs - 1]["spectrum/saturation_step"] = 120.0 / speed
    return rows


def write_csv(path: Path, rows: Mapping[int, Mapping[str, float]]) -> None:
    """metrics.csv as a run writes it."""
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    lines = [",".join(["epoch", *columns])]
    lines += [
        ",".join([str(epoch), *(repr(row[c]) if c in row else "" for c in columns)]) for epoch, row in rows.items()
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_spectra(path: Path, steps: int, every: int, steps_an_epoch: int, width: int = 32, speed: float = 1.0) -> None:
    """spectrum.bin as a run writes it."""
    sizes = {"embeddings": width, "features": width, "predictor": 0, "view_correlation": width}
    records = np.zeros(len(range(0, steps, every)), record_type(sizes))
    records["step"] = range(0, steps, every)
    records["epoch"] = records["step"] / steps_an_epoch
    done = 1 - np.exp(-speed * records["step"][:, None] / (5 * steps_an_epoch))
    for number, name in enumerate(("embeddings", "features")):
        records[name] = 10 * np.exp(-np.arange(1, width + 1) * (1 - (0.6 + 0.1 * number) * done))
    path.write_bytes(json.dumps({"version": 1, **sizes}).encode() + b"\n" + records.tobytes())


def write_run(
    folder: Path,
    method: str = "frossl",
    seed: int = 0,
    epochs: int = 12,
    *,
    planned: int | None = None,
    dataset: str = "stl10",
    speed: float = 1.0,
    spectra: bool = True,
    **model: Any,
) -> Path:
    """A run folder; ``speed`` is how fast its curves rise."""
    folder.mkdir(parents=True)
    settings = config(method, seed, planned or epochs, dataset, **model)
    (folder / "config.yaml").write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    write_csv(folder / "metrics.csv", metrics(method, seed, epochs, speed))
    if spectra:
        write_spectra(folder / "spectrum.bin", 40 * epochs, 5, 40, speed=speed)
    return folder

"""From a table to the runs it needs: seeds, scale, and the dataset they are trained on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from solo_frossl.optim import ScheduleConfig
from solo_frossl.reproduce.tables import Run, Table

Lookup = Callable[[str, str], Any]
"""From a configuration (``configs/stl10/frossl.yaml``) and a dotted key to its value; None where it gives none."""

LONGEST_WARMUP = 1 / 5
"""Part of a run with fewer epochs that its warm-up takes at most."""
LONGEST_QUEUE = 1 / 3
"""Part of the training images that MoCo's queue holds at most, when they are fewer than the table's."""


@dataclass(frozen=True)
class Scale:
    """How much smaller than the table's its runs are made; None keeps what the table has.

    With fewer ``epochs`` the warm-up takes at most a fifth of them. With a ``subset``, MoCo's queue holds at most a
    third of its images. With a smaller ``batch_size`` W-MSE whitens at most a batch, and half as many dimensions.

    Args:
        epochs: length of the runs, schedules included.
        stop: the last epoch, counted from 1, that is trained; schedules are still those of the whole run.
        subset: training images, as ``data.subset``.
        batch_size: global batch of runs with the table's usual one; that of others changes in proportion.
        image_size: side of the views, pixels.
        stem: first layers of the ResNet: ``imagenet`` (with max-pool, 16 times cheaper) or ``cifar``.

    Raises:
        ValueError: a value is out of range.
    """

    epochs: int | None = None
    stop: int | None = None
    subset: int | float | None = None
    batch_size: int | None = None
    image_size: int | None = None
    stem: str | None = None

    def __post_init__(self) -> None:
        for name, value in self.given().items():
            if name == "stem":
                if value not in ("imagenet", "cifar"):
                    raise ValueError(f"stem is {value!r}: it must be imagenet or cifar")
            elif value <= 0:
                raise ValueError(f"{name} is {value}: it must be above 0")

    def given(self) -> dict[str, Any]:
        """What is changed, by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}

    def in_words(self) -> str:
        """One line; empty when nothing is changed.

        >>> Scale(epochs=8, subset=5000).in_words()
        '8 epochs a run, 5000 training images'
        >>> Scale(subset=0.1).in_words()
        '0.1 of the training images'
        """
        words = {
            "epochs": f"{{}} epoch{'' if self.epochs == 1 else 's'} a run",
            "stop": "trained up to epoch {}",
            "subset": "{:g} of the training images" if isinstance(self.subset, float) else "{} training images",
            "batch_size": "batch {}",
            "image_size": "{} pixels",
            "stem": "stem {}",
        }
        return ", ".join(words[name].format(value) for name, value in self.given().items())


@dataclass(frozen=True)
class Cell:
    """One run to be trained.

    Attributes:
        name: name of its folder.
        row: row of the table.
        dataset: dataset whose column it stands in.
        seed: its seed.
        config: as ``--config`` takes it.
        options: values by dotted key that are given beside it.
        epochs: epochs after which it is trained as far as the table needs.
        probe: options of the linear probe by dotted key; None for no probe.
    """

    name: str
    row: str
    dataset: str
    seed: int
    config: str
    options: Mapping[str, Any]
    epochs: int
    probe: Mapping[str, Any] | None = None


def plan(
    table: Table,
    lookup: Lookup,
    *,
    root: str,
    images: str | None = None,
    seeds: Sequence[int] | None = None,
    rows: Sequence[str] | None = None,
    datasets: Sequence[str] | None = None,
    scale: Scale = Scale(),
) -> list[Cell]:
    """The runs of a table, all rows for the first seed first.

    Args:
        table: the table.
        lookup: reads configurations.
        root: folder of the images.
        images: name of another dataset to train on, with the settings of the table's first dataset (or that given by
            `datasets`); None for the table's own.
        seeds: None for the table's.
        rows: only these; None for all.
        datasets: only these of the table's; None for all.
        scale: how much smaller.

    Raises:
        ValueError: the table has no such row or dataset.
    """
    chosen = _chosen("dataset", datasets, table.datasets, table.name)
    if images is not None:
        chosen = chosen[:1]
    kept_rows = _chosen("row", rows, table.rows, table.name)
    runs = [run for run in table.runs if run.dataset in chosen and run.row in kept_rows]
    several = len(table.datasets) > 1
    cells = []
    for seed in table.seeds if seeds is None else seeds:
        for run in runs:
            options = {"data.root": root, **({"dataset": images} if images else {}), **run.options}
            if run.views_of:
                options["data.views"] = lookup(run.config_of(run.views_of), "data.views")
            options |= _scaled(run, scale, lookup)
            epochs = options.get("trainer.max_epochs") or lookup(run.config, "trainer.max_epochs")
            trained = min(scale.stop or table.stop_after or epochs, epochs)
            if trained < epochs:
                options["stop_after_epoch"] = trained
            cells.append(
                Cell(
                    name=f"{run.dataset}-{run.row}-seed{seed}" if several else f"{run.row}-seed{seed}",
                    row=run.row,
                    dataset=run.dataset,
                    seed=seed,
                    config=run.config,
                    options=options,
                    epochs=trained,
                    probe=table.probe if trained == epochs else None,
                )
            )
    return cells


def _chosen(kind: str, asked: Sequence[str] | None, there: Sequence[str], table: str) -> list[str]:
    if unknown := [name for name in asked or () if name not in there]:
        raise ValueError(f"{table} has no {kind} {', '.join(unknown)}; its {kind}s are {', '.join(there)}")
    return [name for name in there if asked is None or name in asked]


def _scaled(run: Run, scale: Scale, lookup: Lookup) -> dict[str, Any]:
    """The options that make a run smaller, and what must follow for it to run at all."""

    def own(key: str, default: Any = None) -> Any:
        value = run.options.get(key, lookup(run.config, key))
        return default if value is None else value

    options: dict[str, Any] = {}
    if scale.epochs is not None:
        options["trainer.max_epochs"] = scale.epochs
        longest = LONGEST_WARMUP * scale.epochs
        if own("model.schedule.warmup_epochs", ScheduleConfig().warmup_epochs) > longest:
            options["model.schedule.warmup_epochs"] = longest
    if scale.subset is not None:
        options["data.subset"] = scale.subset
        queue = own("model.queue_size")
        if run.method == "moco_v2" and scale.subset > 1 and queue > LONGEST_QUEUE * scale.subset:
            options["model.queue_size"] = max(1, int(LONGEST_QUEUE * scale.subset))
    if scale.batch_size is not None:
        usual = lookup(run.config, "data.batch_size")
        batch = max(2, round(own("data.batch_size") * scale.batch_size / usual))
        options["data.batch_size"] = batch
        if run.method == "wmse" and batch < own("model.whitening_size"):
            options["model.whitening_size"] = batch
            options["model.projector.output"] = min(own("model.projector.output"), batch // 2)
    direct = {"data.image_size": scale.image_size, "model.stem": scale.stem}
    return options | {key: value for key, value in direct.items() if value is not None}

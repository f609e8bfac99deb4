"""Runs that belong together: seeds of one configuration, and what sets configurations apart."""

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from solo_frossl.compare.convergence import position_to_reach
from solo_frossl.compare.names import method_name, method_order
from solo_frossl.compare.read import Run

_HOW_IT_RAN = (
    *("seed_everything", "name", "runs_dir", "stop_after_epoch", "checkpoint", "wandb", "spectrum", "on_collapse"),
    *("knn.every_n_epochs", "data.download", "data.workers", "data.residency", "data.eval_batch_size", "data.on_error"),
    *("trainer.accelerator", "trainer.devices", "trainer.num_nodes", "trainer.strategy", "trainer.logger"),
    *(
        "trainer.callbacks",
        "trainer.enable",
        "trainer.default_root_dir",
        "trainer.profiler",
        "trainer.log_every_n_steps",
    ),
    *("trainer.check_val_every_n_epoch", "trainer.num_sanity_val_steps", "trainer.detect_anomaly", "trainer.max_time"),
)
"""Beginnings of the keys that do not change what is learned: the seed, names, paths, devices, and what is watched."""


class Band(NamedTuple):
    """A metric of several seeds by epoch, at the epochs at which any of them measured it.

    Attributes:
        epochs: epochs trained, increasing.
        mean: mean over the seeds that have measured the epoch.
        low: lowest seed.
        high: highest seed.
        count: how many seeds have measured the epoch.
    """

    epochs: list[int]
    mean: list[float]
    low: list[float]
    high: list[float]
    count: list[int]


@dataclass(frozen=True)
class Group:
    """The seeds of one configuration: one curve.

    Attributes:
        label: its name, which no other group of its dataset has.
        runs: by seed.
    """

    label: str
    runs: tuple[Run, ...]

    @property
    def row(self) -> str:
        """Its row in the papers' tables."""
        return self.runs[0].row

    @property
    def dataset(self) -> str:
        """What it trained on."""
        return self.runs[0].dataset

    @property
    def epochs(self) -> int:
        """Epochs that its longest run has trained."""
        return max(run.epochs for run in self.runs)

    @cached_property
    def metrics(self) -> list[str]:
        """What its runs measured, in order of first appearance."""
        return list(dict.fromkeys(name for run in self.runs for row in run.metrics.values() for name in row))

    def curves(self, metric: str) -> list[dict[int, float]]:
        """The metric by epoch of each run that measured it."""
        return [curve for run in self.runs if (curve := run.curve(metric))]

    def band(self, metric: str) -> Band:
        """The metric over its runs."""
        curves = self.curves(metric)
        epochs = sorted({epoch for curve in curves for epoch in curve})
        values = [[curve[epoch] for curve in curves if epoch in curve] for epoch in epochs]
        return Band(
            epochs,
            [statistics.fmean(v) for v in values],
            [min(v) for v in values],
            [max(v) for v in values],
            [len(v) for v in values],
        )

    def at(self, metric: str, epoch: int) -> list[float]:
        """The metric after an epoch, of each run that measured it then."""
        return [curve[epoch] for curve in self.curves(metric) if epoch in curve]

    def last_epoch(self, metric: str) -> int | None:
        """The last epoch after which every run that has the metric measured it; None if there is none."""
        measured = [set(curve) for curve in self.curves(metric)]
        return max(set.intersection(*measured), default=None) if measured else None

    def final(self, metric: str) -> list[float]:
        """The metric after the last epoch that all runs with it have measured; ``linear/...``: of each probed run."""
        if metric.startswith("linear/"):
            name = metric.removeprefix("linear/")
            return [run.linear[name] for run in self.runs if name in run.linear]
        last = self.last_epoch(metric)
        return [] if last is None else self.at(metric, last)

    def at_end(self, metric: str) -> list[float]:
        """The metric after the last epoch of each run, of the runs that measured it then."""
        return [run.metrics[run.epochs][metric] for run in self.runs if metric in run.metrics.get(run.epochs, {})]

    def best(self, metric: str) -> list[tuple[float, int]]:
        """The highest value of each run that measured the metric, and the epoch it has it after (the first such)."""
        firsts = [max(curve, key=lambda epoch: (curve[epoch], -epoch)) for curve in self.curves(metric)]
        return [(curve[epoch], epoch) for curve, epoch in zip(self.curves(metric), firsts, strict=True)]

    def epochs_to_reach(self, metric: str, target: float) -> list[float | None]:
        """Epochs after which each run that measured the metric is at a value; None for a run that never is."""
        return [position_to_reach(list(curve), list(curve.values()), target) for curve in self.curves(metric)]

    @property
    def estimated(self) -> bool:
        """Whether device-seconds of its runs are estimates."""
        return any(run.estimated for run in self.runs)

    def last_seconds(self, metric: str) -> list[float]:
        """Device-seconds after which each run measured the metric last; empty where a run does not know them."""
        measured = [(max(curve), run.device_seconds) for run in self.runs if (curve := run.curve(metric))]
        known = all(epoch in seconds for epoch, seconds in measured)
        return [seconds[epoch] for epoch, seconds in measured] if known else []

    def seconds_to_reach(self, metric: str, target: float) -> list[float | None]:
        """Device-seconds after which each run is at a value; None for a run that never is.

        Empty where a run does not know its device-seconds.
        """
        reached = []
        for run in self.runs:
            curve, seconds = run.curve(metric), run.device_seconds
            if not curve:
                continue
            if not set(curve) <= set(seconds):
                return []
            reached.append(position_to_reach([seconds[epoch] for epoch in curve], list(curve.values()), target))
        return reached


def group_runs(runs: Iterable[Run]) -> list[Group]:
    """Put runs of one dataset that differ only in their seed, or in where and how they ran, into one group.

    Groups are sorted by dataset and method; their labels say in what they differ from groups of the same method.
    """
    alike: dict[Any, list[Run]] = defaultdict(list)
    for run in runs:
        settings = tuple(sorted((key, repr(value)) for key, value in learning_settings(run).items()))
        alike[run.dataset, settings].append(run)
    siblings: dict[Any, list[list[Run]]] = defaultdict(list)
    for (dataset, _), members in alike.items():
        members.sort(key=lambda run: (run.seed is None, run.seed or 0, run.name))
        siblings[dataset, method_order(members[0].row)].append(members)
    groups = []
    for _, family in sorted(siblings.items(), key=lambda item: item[0]):
        family.sort(key=lambda members: members[0].name)
        groups += [Group(label, tuple(members)) for label, members in zip(_labels(family), family, strict=True)]
    return groups


def learning_settings(run: Run) -> dict[str, Any]:
    """The part of a configuration that decides what is learned, by dotted keys; nulls are left out, as if not given."""
    own_images = run.config.get("dataset") == "folder"
    ignored = _HOW_IT_RAN if own_images else (*_HOW_IT_RAN, "data.root")
    return {
        key: value
        for key, value in flatten(run.config).items()
        if value is not None and not any(key == k or key.startswith((f"{k}.", f"{k}_")) for k in ignored)
    }


def flatten(config: Mapping[str, Any]) -> dict[str, Any]:
    """A nested configuration by dotted keys; lists and empty mappings are values.

    >>> flatten({"model": {"lr": 1, "betas": [0.9, 0.99]}, "seed": 0})
    {'model.lr': 1, 'model.betas': [0.9, 0.99], 'seed': 0}
    """
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            flat |= {f"{key}.{inner}": v for inner, v in flatten(value).items()}
        else:
            flat[str(key)] = value
    return flat


class Difference(NamedTuple):
    """A key of the configuration that not all groups have the same value of.

    Attributes:
        key: dotted.
        shared: whether every group has the key.
        values: each value, as YAML writes it, with the labels of the groups that have it.
    """

    key: str
    shared: bool
    values: list[tuple[str, list[str]]]


def differences(groups: Sequence[Group]) -> list[Difference]:
    """What the configurations of groups differ in: first the keys that all have, then those that some have."""
    settings = {group.label: learning_settings(group.runs[0]) for group in groups}
    found = []
    for key in dict.fromkeys(key for values in settings.values() for key in values):
        by_value: dict[str, list[str]] = defaultdict(list)
        for label, values in settings.items():
            if key in values:
                by_value[as_yaml(values[key])].append(label)
        shared = sum(map(len, by_value.values())) == len(groups)
        if not shared or len(by_value) > 1:
            found.append(Difference(key, shared, list(by_value.items())))
    return sorted(found, key=lambda difference: not difference.shared)


def as_yaml(value: Any) -> str:
    """A plain value or a list as YAML writes it in one line; what is not set in its mappings is left out.

    >>> as_yaml(True), as_yaml([{"recipe": "weak", "size": None}]), as_yaml(None), as_yaml(1e-06)
    ('true', '[{recipe: weak}]', 'null', '1e-06')
    """
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k}: {as_yaml(v)}" for k, v in value.items() if v is not None) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(as_yaml, value)) + "]"
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    return str(value)


def _labels(family: Sequence[Sequence[Run]]) -> list[str]:
    """A label for each configuration of one method: what differs if that is short, else the run's name."""
    name = method_name(family[0][0].row)
    if len(family) == 1:
        return [name]
    settings = [learning_settings(members[0]) for members in family]
    keys = [k for k in dict.fromkeys(k for s in settings for k in s) if len({repr(s.get(k)) for s in settings}) > 1]
    if len(keys) > 2:
        return [f"{name}: {members[0].name}" for members in family]
    titles = short_keys(keys)
    return [", ".join([name, *(f"{titles[key]} {as_yaml(s.get(key))}" for key in keys)]) for s in settings]


def short_keys(keys: Iterable[str]) -> dict[str, str]:
    """Each dotted key by its end where that is clear among the others, else whole.

    >>> short_keys(["model.optimizer.name", "model.lr", "model.optimizer.lr"])
    {'model.optimizer.name': 'optimizer', 'model.lr': 'model.lr', 'model.optimizer.lr': 'model.optimizer.lr'}
    """
    ends = {key: key.removesuffix(".name").rpartition(".")[2] for key in keys}
    count = Counter(ends.values())
    return {key: end if count[end] == 1 else key for key, end in ends.items()}

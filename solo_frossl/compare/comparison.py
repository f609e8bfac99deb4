"""A comparison: runs put into groups and datasets, with every table that is made of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from solo_frossl.compare import tables
from solo_frossl.compare.convergence import round_targets, spread, spread_epochs
from solo_frossl.compare.groups import Group, group_runs
from solo_frossl.compare.names import METRICS, bare_name
from solo_frossl.compare.read import Run
from solo_frossl.compare.tables import Table
from solo_frossl.published import PUBLISHED, Published, published_for


class Convergence(NamedTuple):
    """The tables on convergence of one accuracy.

    Attributes:
        metric: name of the accuracy.
        title: what it is.
        targets: values to reach, percent.
        reach: how long until each; None if there is no value to reach.
        best_rival: how long until what the best rival has after each chosen epoch.
        rivals: how long until what each rival has, by chosen epoch.
        area: area under the curve; None with no epoch after the first.
    """

    metric: str
    title: str
    targets: list[float]
    reach: Table | None
    best_rival: Table
    rivals: list[tuple[int, Table]]
    area: Table | None


class Highlight(NamedTuple):
    """One thing to know first.

    Attributes:
        title: what is best.
        value: the number with its unit.
        label: who has it.
    """

    title: str
    value: str
    label: str


@dataclass(frozen=True)
class Part:
    """The runs on one dataset.

    Attributes:
        name: of the dataset.
        groups: one a method, each with its seeds.
        epochs: the chosen epochs, from 1.
        papers: tables of the papers by epoch that a group is in.
        accuracies: names of the accuracies that were measured on validation images.
        highlights: what is best.
        summary: one row a method.
        accuracy_tables: each accuracy after the chosen epochs.
        final_table: the end of training beside the papers' tables; None if no method is in one.
        convergence: of online and k-NN top-1, as far as measured.
        speed: throughput; None if not measured.
        spectrum: eigenvalues at the end; None if not measured.
        differences: what the configurations differ in; None if in nothing.
        runs: one row a run.
    """

    name: str
    groups: tuple[Group, ...]
    epochs: list[int]
    papers: tuple[Published, ...]
    accuracies: list[str]
    highlights: list[Highlight]
    summary: Table
    accuracy_tables: list[Table]
    final_table: Table | None
    convergence: list[Convergence]
    speed: Table | None
    spectrum: Table | None
    differences: Table | None
    runs: Table

    @property
    def tables(self) -> list[Table]:
        """All of them, in the order of the page."""
        found = [self.summary, *self.accuracy_tables, self.final_table]
        for convergence in self.convergence:
            found += [convergence.reach, convergence.best_rival, *(t for _, t in convergence.rivals), convergence.area]
        found += [self.speed, self.spectrum, self.differences, self.runs]
        return [table for table in found if table is not None]


@dataclass(frozen=True)
class Comparison:
    """Everything that is compared.

    Attributes:
        parts: one a dataset.
        remarks: what a reader must know first, a sentence each.
    """

    parts: tuple[Part, ...]
    remarks: tuple[str, ...] = ()

    @property
    def groups(self) -> list[Group]:
        """Those of all datasets."""
        return [group for part in self.parts for group in part.groups]

    @property
    def runs(self) -> list[Run]:
        """Those of all groups."""
        return [run for group in self.groups for run in group.runs]

    @property
    def title(self) -> str:
        """What is compared, in one line."""
        labels = list(dict.fromkeys(group.label for group in self.groups))
        names = " and ".join(part.name for part in self.parts)
        if len(labels) > 4:
            return f"{len(labels)} methods on {names}"
        return f"{_listed(labels)} on {names}"

    @property
    def lead(self) -> str:
        """How many runs there are and how they stand, a sentence or two."""
        count = len(self.runs)
        training = sum(run.state == "running" for run in self.runs)
        text = f"{count} run{'s' if count != 1 else ''}, {max(run.epochs for run in self.runs)} epochs at most."
        return text + (f" {training} of them still train{'s' if training == 1 else ''}." if training else "")


def compare_runs(
    runs: Iterable[Run],
    epochs: Sequence[int] | None = None,
    reach: Sequence[float] | None = None,
    remarks: Sequence[str] = (),
) -> Comparison:
    """Compare runs.

    Runs that ended before their first epoch was done have nothing to compare: a remark names them, unless all are so.

    Args:
        runs: one or more.
        epochs: epochs to put into the tables, from 1. By default those of the paper's table by epoch where the
            dataset has one, else some that are spread on a logarithmic scale.
        reach: accuracies in percent to be reached. By default some round ones, above the lowest first measurement of a
            run and up to the highest of all.
        remarks: what a reader must know first, a sentence each; they stand at the top of the page and of the Markdown.
    """
    runs = list(runs)
    if begun := [run for run in runs if run.metrics or run.state not in ("failed", "killed", "stopped")]:
        kept = {run.folder for run in begun}
        ended = ", ".join(f"{run.name} ({run.state})" for run in runs if run.folder not in kept)
        remarks = [*remarks, *([f"Left out, as no epoch of theirs was done: {ended}."] if ended else [])]
        runs = begun
    groups = group_runs(runs)
    names = dict.fromkeys(group.dataset for group in groups)
    parts = (_part(name, [g for g in groups if g.dataset == name], epochs, reach) for name in names)
    return Comparison(tuple(parts), tuple(remarks))


def _part(name: str, groups: list[Group], epochs: Sequence[int] | None, reach: Sequence[float] | None) -> Part:
    measured = list(dict.fromkeys(metric for group in groups for metric in group.metrics))
    accuracies = [m for m in METRICS if m in measured and "top-1" in METRICS[m] and not m.startswith("train/")]
    accuracies += [m for m in measured if m not in accuracies and m.endswith("top5")]
    dataset = str(groups[0].runs[0].config.get("dataset"))
    papers = [t for t in PUBLISHED if t.dataset == dataset and any(group.row in t.values for group in groups)]
    by_epoch = tuple(table for table in papers if table.epochs and not table.metric.startswith("linear/"))
    last = max(group.epochs for group in groups)
    chosen = sorted(set(epochs)) if epochs else _chosen_epochs(by_epoch, last)
    convergence = [
        _convergence(groups, metric, chosen, reach) for metric in ("online/top1", "knn/top1") if metric in measured
    ]
    return Part(
        name=name,
        groups=tuple(groups),
        epochs=chosen,
        papers=by_epoch,
        accuracies=accuracies,
        highlights=_highlights(groups, convergence),
        summary=tables.summary_table(groups),
        accuracy_tables=[
            tables.accuracy_table(groups, metric, chosen, [t for t in by_epoch if t in published_for(dataset, metric)])
            for metric in accuracies
            if metric.endswith("top1")
        ],
        final_table=tables.final_table(groups, [table for table in papers if table not in by_epoch]),
        convergence=convergence,
        speed=tables.speed_table(groups) if "images_per_second" in measured else None,
        spectrum=tables.spectrum_table(groups),
        differences=tables.differences_table(groups) if len(groups) > 1 else None,
        runs=tables.runs_table(groups),
    )


def _convergence(groups: list[Group], metric: str, epochs: list[int], reach: Sequence[float] | None) -> Convergence:
    curves = [curve for group in groups for curve in group.curves(metric)]
    firsts = [curve[min(curve)] for curve in curves]
    targets = sorted(set(reach)) if reach else round_targets(min(firsts), max(max(curve.values()) for curve in curves))
    reached = [epoch for epoch in epochs if any(epoch in curve for curve in curves)]
    return Convergence(
        metric=metric,
        title=bare_name(metric),
        targets=targets,
        reach=tables.reach_table(groups, metric, targets) if targets else None,
        best_rival=tables.best_rival_table(groups, metric, reached),
        rivals=[(epoch, tables.rivals_table(groups, metric, epoch)) for epoch in reached],
        area=tables.area_table(groups, metric, reached) if max(reached, default=1) > 1 else None,
    )


def _chosen_epochs(papers: Sequence[Published], last: int) -> list[int]:
    """The papers' epochs as far as trained, and the last one; without any, some that are spread."""
    theirs = sorted({epoch for paper in papers for epoch in paper.epochs if epoch <= last})
    return sorted({*theirs, last}) if theirs else spread_epochs(last)


def _highlights(groups: list[Group], convergence: Sequence[Convergence]) -> list[Highlight]:
    """The best accuracies, the first at the highest value that one is surely first at, and the highest throughput."""
    found = []
    for of in convergence:
        cells = [tables.number(spread([value for value, _ in group.best(of.metric)])) for group in groups]
        if (best := tables.best_of(cells)) is not None:
            found.append(Highlight(f"Best {of.title}", f"{cells[best].value:.1f} %", groups[best].label))
    for of in convergence[:1]:
        for target in reversed(of.targets):
            cells = [tables.epochs_until(group, of.metric, target) for group in groups]
            if (first := tables.best_of(cells, lowest=True)) is not None:
                value = f"{cells[first].value:.1f} epochs"
                found.append(Highlight(f"First at {target:g} % {of.title}", value, groups[first].label))
                break
    cells = [tables.number(spread(tables.median_speeds(group))) for group in groups]
    if (best := tables.best_of(cells)) is not None:
        found.append(Highlight("Highest throughput", f"{cells[best].value:,.0f} images/s", groups[best].label))
    return found


def _listed(labels: Sequence[str]) -> str:
    return labels[0] if len(labels) == 1 else f"{', '.join(labels[:-1])} and {labels[-1]}"

"""The tables of a comparison, as data: the page, the Markdown and the CSV files show the same ones."""

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from solo_frossl.compare.convergence import Spread, mean_height, spread
from solo_frossl.compare.groups import Group, differences
from solo_frossl.compare.names import capital, method_name, metric_name
from solo_frossl.compare.papers import schedule, shortened
from solo_frossl.published import Published


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        text: what it shows.
        value: the number behind the text, unrounded; None for text and for what is missing.
        sign: what stands before it: ≤ where the true number is at most the value, > where it is more, ≈ where it is
            estimated.
        deviation: the standard deviation behind it.
        best: whether it is the best of its column.
        note: small print behind the text.
    """

    text: str = ""
    value: float | None = None
    deviation: float | None = None
    sign: str = ""
    best: bool = False
    note: str = ""


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        name: for the name of its CSV file, ``accuracy-online-top1``.
        caption: what it shows, one sentence.
        columns: titles; the first column names the row.
        rows: cells, one a column.
        spans: titles above the columns and how many columns each spans; empty if there is none.
        notes: what a reader must know, a sentence each.
        text_columns: how many columns, from the left, hold words.
    """

    name: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    spans: tuple[tuple[str, int], ...] = ()
    notes: tuple[str, ...] = ()
    text_columns: int = 1

    @property
    def starts(self) -> list[int]:
        """Columns, from 0, at which a span but the first begins."""
        return list(accumulate(width for _, width in self.spans))[:-1]


MISSING = Cell("–")


def _table(
    name: str,
    caption: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    spans: Sequence[tuple[str, int]] = (),
    notes: Sequence[str] = (),
    text_columns: int = 1,
) -> Table:
    """A table without the columns, after the first, that are empty in every row."""
    kept = [i for i in range(len(columns)) if i == 0 or any(row[i].text not in ("", MISSING.text) for row in rows)]
    ends = list(accumulate(width for _, width in spans))
    widths = [sum(end - width <= i < end for i in kept) for (_, width), end in zip(spans, ends, strict=True)]
    return Table(
        name=name,
        caption=caption,
        columns=tuple(columns[i] for i in kept),
        rows=tuple(tuple(row[i] for i in kept) for row in rows),
        spans=tuple((text, width) for (text, _), width in zip(spans, widths, strict=True) if width),
        notes=tuple(notes),
        text_columns=sum(i < text_columns for i in kept),
    )


def summary_table(groups: Sequence[Group]) -> Table:
    """One row a method: seeds, epochs, accuracies, effective rank, speed."""
    measured = {metric for group in groups for metric in group.metrics}
    accuracies = [metric for metric in ("online/top1", "knn/top1") if metric in measured]
    probed = any("top1" in run.linear for group in groups for run in group.runs)
    ranked, timed = "spectrum/effective_rank" in measured, "images_per_second" in measured
    columns, spans, rows = ["method", "seeds", "epochs"], [("", 3)], []
    for metric in accuracies:
        columns += ["last", "best"]
        spans.append((metric_name(metric), 2))
    others = ["linear probe top-1 (%)"] * probed + ["effective rank"] * ranked + ["images/s"] * timed
    for group in groups:
        row = [Cell(group.label), Cell(_seeds(group)), _epochs(group)]
        for metric in accuracies:
            row += [_last(group, metric), _best(group, metric)]
        row += [number(_final(group, "linear/top1"))] if probed else []
        row += [_last(group, "spectrum/effective_rank")] if ranked else []
        row += [number(spread(median_speeds(group)), 0)] if timed else []
        rows.append(row)
    return _table(
        name="summary",
        caption="The methods side by side.",
        columns=(*columns, *others),
        rows=mark_best(rows, range(3, 3 + 2 * len(accuracies) + probed)),
        spans=(*spans, ("", len(others))) if others else tuple(spans),
        notes=(
            "Mean ± standard deviation over seeds. Last: after the last epoch that all seeds of the method have"
            " measured; best: each seed's highest, and the epoch it stands at.",
            *_unequal_epochs(groups),
            *(["Effective rank: of the features of the validation images, last."] if ranked else []),
            *(["Images per second: median over epochs, training only."] if timed else []),
        ),
    )


def accuracy_table(groups: Sequence[Group], metric: str, epochs: Sequence[int], papers: Sequence[Published]) -> Table:
    """A metric after the chosen epochs, with the papers' value and the difference where there is one.

    Args:
        groups: of one dataset.
        metric: name of the metric, percent.
        epochs: the chosen epochs.
        papers: tables by epoch of the same dataset and metric.
    """
    columns, spans, rows = ["method"], [("", 1)], [[Cell(group.label)] for group in groups]
    missing = [str(epoch) for epoch in epochs if not any(group.at(metric, epoch) for group in groups)]
    epochs = [epoch for epoch in epochs if str(epoch) not in missing]
    compared: list[int] = []
    printed = {epoch for epoch in epochs if any(_published(papers, group.row, epoch) is not None for group in groups)}
    for epoch in epochs:
        theirs = [_published(papers, group.row, epoch) for group in groups]
        compared += [len(columns)]
        wide = epoch in printed
        spans.append((f"epoch {epoch}", 3 if wide else 1))
        columns += ["ours", "paper", "difference"] if wide else ["ours" if printed else f"epoch {epoch}"]
        for group, row, value in zip(groups, rows, theirs, strict=True):
            ours = number(spread(group.at(metric, epoch)))
            row += [ours, *_beside(ours, value)] if wide else [ours]
    notes = ["Mean ± standard deviation over the seeds that have been measured after that epoch."]
    if missing:
        notes.append(f"No method has been measured after epoch {', '.join(missing)}.")
    if printed:
        notes += [f"Paper: {table.caption} (arXiv:{table.paper})." for table in papers]
        notes += shortened(groups, papers)
    return _table(
        name=f"accuracy-{metric.replace('/', '-')}",
        caption=f"{capital(metric_name(metric))} after chosen epochs.",
        columns=tuple(columns),
        rows=mark_best(rows, compared),
        spans=tuple(spans) if printed else (),
        notes=tuple(notes),
    )


def final_table(groups: Sequence[Group], papers: Sequence[Published]) -> Table | None:
    """The end of training beside the papers' tables that print only that; None where no method is in one.

    Args:
        groups: of one dataset.
        papers: tables of the dataset without epochs, or of the linear probe.
    """
    rows = []
    for paper in papers:
        for group in groups:
            value = (paper.values.get(group.row) or (None,))[-1]
            ours = _final(group, paper.metric)
            if value is None or ours is None:
                continue
            deviation = (paper.deviations.get(group.row) or (None,))[-1]
            cell = number(ours)
            metric = Cell(_bare(paper.metric))
            rows.append(
                (
                    Cell(group.label),
                    Cell(paper.table),
                    metric,
                    Cell(schedule(group)),
                    cell,
                    *_beside(cell, value, deviation),
                )
            )
    if not rows:
        return None
    used = [paper for paper in papers if any(row[1].text == paper.table for row in rows)]
    return _table(
        name="papers-final",
        caption="The end of training beside the papers' tables.",
        columns=("method", "table", "measure", "our training", "ours", "paper", "difference"),
        rows=tuple(rows),
        notes=tuple(f"{paper.table}: {paper.caption} (arXiv:{paper.paper})." for paper in used),
        text_columns=4,
    )


def reach_table(groups: Sequence[Group], metric: str, targets: Sequence[float]) -> Table:
    """Epochs, and device-seconds where they were measured, until a metric is at given values."""
    seconds = {g.label: [g.seconds_to_reach(metric, t) for t in targets] for g in groups}
    timed = any(reached for of_group in seconds.values() for reached in of_group)
    scale, unit = time_unit([t for rows in seconds.values() for row in rows for t in row if t is not None])
    columns, spans, rows = ["method"], [("", 1)], [[Cell(group.label)] for group in groups]
    for i, target in enumerate(targets):
        columns += ["epochs", f"device-{unit}"] if timed else ["epochs"]
        spans.append((f"to {target:g} %", 2 if timed else 1))
        for group, row in zip(groups, rows, strict=True):
            row.append(epochs_until(group, metric, target))
            if timed:
                row.append(_seconds_until(group, metric, target, seconds[group.label][i], scale))
    notes = [
        f"Until the {_bare(metric)} is first at or above the value, by linear interpolation between measured epochs; ≤:"
        " a seed is there at its first measurement, so the true number is smaller; >: not within that many. Mean ±"
        " standard deviation over seeds; where only some of the seeds get there, how many. Bold: the first one there,"
        " where that is sure.",
    ]
    if timed:
        notes.append(
            "Device-time: seconds of training, validation not counted, times the number of processes; it depends on the"
            f" machine{_machines(groups)}."
        )
        notes += _estimates(groups)
    return _table(
        name=f"reach-{metric.replace('/', '-')}",
        caption=f"How long until a given {_bare(metric)}.",
        columns=tuple(columns),
        rows=mark_best(rows, range(1, len(columns)), lowest=True),
        spans=tuple(spans),
        notes=tuple(notes),
    )


def best_rival_table(groups: Sequence[Group], metric: str, epochs: Sequence[int]) -> Table:
    """Epochs, and device-seconds where measured, that each method needs for what its best rival has after an epoch."""
    targets = {(group.label, epoch): _best_rival(group, groups, metric, epoch) for group in groups for epoch in epochs}
    waits = {
        (group.label, epoch): group.seconds_to_reach(metric, found[0])
        for group in groups
        for epoch in epochs
        if (found := targets[group.label, epoch])
    }
    scale, unit = time_unit([t for reached in waits.values() for t in reached if t is not None])
    timed = any(waits.values())
    columns, spans, rows = ["method"], [("", 1)], [[Cell(group.label)] for group in groups]
    for epoch in epochs:
        columns += ["epochs", f"device-{unit}"] if timed else [f"epoch {epoch}"]
        spans.append((f"rival's epoch {epoch}", 1 + timed))
        for group, row in zip(groups, rows, strict=True):
            found = targets[group.label, epoch] if group.curves(metric) else None
            if found is None:
                row += [MISSING] * (1 + timed)
                continue
            target, rival = found
            cell = epochs_until(group, metric, target)
            row.append(_against(cell, epoch, f"{target:.1f} %, {rival.label}"))
            if timed:
                theirs = spread(
                    [run.device_seconds[epoch] / scale for run in rival.runs if epoch in run.device_seconds]
                )
                cell = _seconds_until(group, metric, target, waits[group.label, epoch], scale)
                row.append(_against(cell, theirs.mean, f"rival {theirs.mean:,.1f}") if theirs else cell)
    return _table(
        name=f"best-rival-{metric.replace('/', '-')}",
        caption=f"How long until the {_bare(metric)} that the best rival has after a chosen epoch.",
        columns=tuple(columns),
        rows=tuple(map(tuple, rows)),
        spans=tuple(spans) if timed else (),
        notes=(
            "Small print: the accuracy to reach and the rival that has it. Bold: before the rival.",
            *(_estimates(groups) if timed else []),
        ),
    )


def rivals_table(groups: Sequence[Group], metric: str, epoch: int) -> Table:
    """Epochs, and device-time where measured, that each method (row) needs for what each rival (column) has after one
    epoch."""
    targets = {group.label: spread(group.at(metric, epoch)) for group in groups}
    rivals = [group for group in groups if targets[group.label]]
    waits = {
        (group.label, rival.label): group.seconds_to_reach(metric, targets[rival.label].mean)
        for group in groups
        for rival in rivals
        if rival is not group
    }
    scale, unit = time_unit([t for reached in waits.values() for t in reached if t is not None])
    timed = any(waits.values())
    rows = []
    for group in groups:
        row = [Cell(group.label)]
        for rival in rivals:
            if rival is group or not group.curves(metric):
                row.append(Cell("·" if rival is group else "–"))
                continue
            target = targets[rival.label].mean
            time = _seconds_until(group, metric, target, waits[group.label, rival.label], scale)
            note = f"{time.text} {SHORT[unit]}" if time.value is not None else ""
            row.append(_against(epochs_until(group, metric, target), epoch, note))
        rows.append(tuple(row))
    return _table(
        name=f"rivals-{metric.replace('/', '-')}-epoch-{epoch}",
        caption=f"Epochs until the {_bare(metric)} that a rival has after epoch {epoch}.",
        columns=("method", *(rival.label for rival in rivals)),
        rows=tuple(rows),
        notes=(
            f"Columns: the rivals. Bold: before the rival.{' Small print: device-time.' if timed else ''}",
            *(_estimates(groups) if timed else []),
        ),
    )


def area_table(groups: Sequence[Group], metric: str, epochs: Sequence[int]) -> Table:
    """Area under the curve from the first epoch to each chosen one, divided by their distance."""
    epochs = [epoch for epoch in epochs if epoch > 1]
    rows = []
    for group in groups:
        row = [Cell(group.label)]
        for epoch in epochs:
            areas = [
                mean_height(list(c), list(c.values()), min(c), epoch) for c in group.curves(metric) if min(c) < epoch
            ]
            row.append(number(spread([area for area in areas if area is not None])))
        rows.append(row)
    starts = {min(curve) for group in groups for curve in group.curves(metric)}
    later = f" (the first measured epoch, {' or '.join(map(str, sorted(starts)))})" if starts - {1} else ""
    return _table(
        name=f"area-{metric.replace('/', '-')}",
        caption=f"Area under the curve of the {_bare(metric)}.",
        columns=("method", *(f"epochs 1 to {epoch}" for epoch in epochs)),
        rows=mark_best(rows, range(1, len(epochs) + 1)),
        notes=(
            f"A(E) = 1/(E - 1) ∫ from 1 to E of the {_bare(metric)} over the epochs, by the trapezoidal rule: the mean"
            f" height of the curve from epoch 1{later} to E. A method that learns early has the larger area.",
        ),
    )


def speed_table(groups: Sequence[Group]) -> Table:
    """Images a second, device-seconds an epoch, and how they compare with the slowest method."""
    speeds = {group.label: spread(median_speeds(group)) for group in groups}
    slowest = min((s.mean for s in speeds.values() if s), default=1.0)
    seconds = {group.label: spread(_median_seconds(group)) for group in groups}
    timed, known = any(seconds.values()), any(_devices(group) for group in groups)
    rows = []
    for group in groups:
        speed = speeds[group.label]
        ratio = Cell(f"{speed.mean / slowest:.2f}", speed.mean / slowest) if speed else MISSING
        row = [Cell(group.label), number(speed, 0), ratio]
        row += [_signed(number(seconds[group.label]), estimate=group.estimated)] if timed else []
        row += [Cell(", ".join(_devices(group)) or "–")] if known else []
        rows.append(tuple(row))
    return _table(
        name="speed",
        caption="Images a second.",
        columns=(
            *("method", "images/s", "of the slowest"),
            *(["device-seconds an epoch"] if timed else []),
            *(["device"] if known else []),
        ),
        rows=tuple(rows),
        notes=(
            "Median over epochs, mean ± standard deviation over seeds; training only. An image counts once, however"
            " many views are made of it. Comparable only between runs that had the same machine to"
            f" themselves{_machines(groups)}.",
            *_estimates(groups),
        ),
    )


SATURATION = (
    "Saturation: the first step at which the 14th eigenvalue, as a running median of 5 checks, is within 10 % of its"
    " level (its median over the last fifth of the steps so far) and after which it is never again off by more than"
    " 50 %; only where it has risen to the level from less than half of it and has been there for a fifth of the steps"
    " (solo_frossl.spectrum.saturation_step)."
)
"""What :func:`solo_frossl.spectrum.saturation_step` does, for a reader of the page."""


def spectrum_table(groups: Sequence[Group]) -> Table | None:
    """What the spectrum of the embeddings is at the end; None where no run has one."""
    statistics = [
        ("spectrum/embeddings/condition_number", "condition number", 1),
        ("spectrum/embeddings/entropy", "entropy (nats)", 2),
        ("spectrum/embeddings/effective_rank", "effective rank", 1),
        ("spectrum/embeddings/rankme", "RankMe", 1),
        ("spectrum/view_correlation", "correlation between views", 3),
    ]
    statistics = [s for s in statistics if any(group.curves(s[0]) for group in groups)]
    groups = [group for group in groups if any(group.curves(name) for name, _, _ in statistics)]
    if not groups:
        return None
    rows = []
    for group in groups:
        epoch = max(group.last_epoch(name) or 0 for name, _, _ in statistics)
        row = [Cell(group.label), Cell(str(epoch) if epoch else "–", float(epoch))]
        row += [_last(group, name, digits) for name, _, digits in statistics]
        rows.append([*row, _saturated(group)])
    columns = ("method", "epoch", *(title for _, title, _ in statistics), "14th saturates at step")
    lowest = [i for i, title in enumerate(columns) if title in ("condition number", "14th saturates at step")]
    highest = [i for i, title in enumerate(columns) if title in ("entropy (nats)", "effective rank", "RankMe")]
    return _table(
        name="spectrum",
        caption="The spectrum of the embeddings' covariance at the end.",
        columns=columns,
        rows=mark_best(mark_best(rows, highest), lowest, lowest=True),
        notes=(
            "Condition number: first over 14th eigenvalue. Entropy: Shannon entropy of the eigenvalues divided by their"
            " sum; effective rank: its exponential. Mean ± standard deviation over seeds, after the last epoch that all"
            " seeds have.",
            SATURATION,
        ),
    )


def differences_table(groups: Sequence[Group]) -> Table | None:
    """Keys of the configuration that not all methods have the same value of; None if there is none."""
    found, many = differences(groups), len(groups) > 3
    if not found:
        return None
    families: dict[str, list[str]] = {}
    for group in groups:
        families.setdefault(str(group.runs[0].config["method"]), []).append(group.label)
    rows, own = [], 0
    for key, shared, values in found:
        having = {label for _, labels in values for label in labels}
        if many and not shared and any(having <= set(labels) for labels in families.values()):
            own += 1
            continue
        most = max(len(labels) for _, labels in values)
        said = []
        for value, labels in values:
            usual = shared and len(labels) == most > len(groups) / 2 and many
            said.append(f"{value} ({'the others' if usual else _listed(labels, families)})")
        rows.append((Cell(key), Cell("all" if shared else "some"), Cell("; ".join(said))))
    return _table(
        name="differences",
        caption="What the configurations differ in.",
        columns=("key", "have it", "values"),
        rows=tuple(rows),
        notes=(
            "Left out: seeds, names, paths, devices, and what is only watched.",
            *([f"Left out too: {own} settings that only one method has: see the configurations."] if own else []),
        ),
        text_columns=3,
    )


def runs_table(groups: Sequence[Group]) -> Table:
    """One row a run: folder, seed, epochs, state, and what is to be known of it."""
    rows = []
    for group in groups:
        for run in group.runs:
            planned = f" of {run.planned}" if run.planned else ""
            rows.append(
                (
                    Cell(run.name),
                    Cell(group.label),
                    Cell("–" if run.seed is None else str(run.seed)),
                    Cell(f"{run.epochs}{planned}", float(run.epochs)),
                    Cell(run.state),
                    Cell(run.device or "–"),
                    Cell("; ".join(run.remarks)),
                )
            )
    return _table(
        name="runs",
        caption="The runs.",
        columns=("run", "method", "seed", "epochs", "state", "device", "remarks"),
        rows=tuple(rows),
        text_columns=7,
    )


def number(value: Spread | None, digits: int = 1) -> Cell:
    """A cell of a mean and its standard deviation.

    >>> number(Spread(41.26, 0.42, 3)).text, number(Spread(1234.5, None, 1), 0).text, number(None).text
    ('41.3 ± 0.4', '1,234', '–')
    >>> number(Spread(69566.94, 1569.01, 3)).text, number(Spread(8.8e9, 2.5e8, 3)).text
    ('69,567 ± 1,569', '8.8e+09 ± 2.5e+08')
    """
    if value is None:
        return MISSING
    size = abs(value.mean)
    form = f",.{digits}f" if size < 1e4 else ",.0f" if size < 1e6 else ".1e"
    text = format(value.mean, form)
    if value.deviation is not None:
        text += f" ± {value.deviation:{form}}"
    return Cell(text, value.mean, value.deviation)


def mark_best(
    rows: Sequence[Sequence[Cell]], columns: Sequence[int], lowest: bool = False
) -> tuple[tuple[Cell, ...], ...]:
    """The rows with the highest (or lowest) value of each given column marked, where :func:`best_of` knows it."""
    marked = [list(row) for row in rows]
    for column in columns:
        if (best := best_of([row[column] for row in rows], lowest)) is not None:
            marked[best][column] = replace(marked[best][column], best=True)
    return tuple(tuple(row) for row in marked)


def best_of(cells: Sequence[Cell], lowest: bool = False) -> int | None:
    """Which cell of a column has the highest (or lowest) value; None where that is not sure.

    It is not sure where several have it, where fewer than half of the cells have a number, where a number that is only
    known to be at most its value (≤) is among them, or one that is only known to be more (>) than less than the best.
    """
    known = [cell for cell in cells if cell.value is not None]
    exact = [cell.value for cell in known if ">" not in cell.sign]
    if len(known) < 2 or 2 * len(known) < len(cells) or not exact or any("≤" in cell.sign for cell in known):
        return None
    best = min(exact) if lowest else max(exact)
    if exact.count(best) > 1 or any(">" in cell.sign and cell.value < best for cell in known):
        return None
    return next(i for i, cell in enumerate(cells) if cell.value == best and ">" not in cell.sign)


SHORT = {"seconds": "s", "minutes": "min", "hours": "h"}


def time_unit(seconds: Sequence[float]) -> tuple[float, str]:
    """Seconds in a unit that suits some durations, and the unit's name.

    >>> time_unit([3.0, 40.0]), time_unit([100.0, 90000.0])
    ((1.0, 'seconds'), (3600.0, 'hours'))
    """
    longest = max(seconds, default=0.0)
    return (1.0, "seconds") if longest < 600 else (60.0, "minutes") if longest < 36000 else (3600.0, "hours")


def _beside(ours: Cell, value: float | None, deviation: float | None = None) -> tuple[Cell, Cell]:
    """The paper's value and our difference from it."""
    if value is None:
        return MISSING, MISSING
    theirs = number(Spread(value, deviation, 1))
    if ours.value is None:
        return theirs, MISSING
    return theirs, Cell(f"{ours.value - value:+.1f}".replace("-", "−"), ours.value - value)


def _published(papers: Sequence[Published], row: str, epoch: int) -> float | None:
    for paper in papers:
        if epoch in paper.epochs and row in paper.values:
            return paper.values[row][paper.epochs.index(epoch)]
    return None


def _final(group: Group, metric: str) -> Spread | None:
    """A metric at the end: of the linear probe, or after the last epoch."""
    if metric.startswith("linear/"):
        name = metric.removeprefix("linear/")
        return spread([run.linear[name] for run in group.runs if name in run.linear])
    last = group.last_epoch(metric)
    return None if last is None else spread(group.at(metric, last))


def _last(group: Group, metric: str, digits: int = 1) -> Cell:
    last = group.last_epoch(metric)
    return MISSING if last is None else number(spread(group.at(metric, last)), digits)


def _saturated(group: Group) -> Cell:
    """The step at which the 14th eigenvalue saturates, as it looks after each run's last epoch."""
    steps, known = group.at_end("spectrum/saturation_step"), group.at_end("spectrum/embeddings/l14")
    if len(steps) < len(known):
        return Cell(f"{len(steps)} of {len(known)} seeds" if steps else "not yet")
    return number(spread(steps), 0)


def _best(group: Group, metric: str) -> Cell:
    best = group.best(metric)
    epochs = sorted({epoch for _, epoch in best})
    where = f"{epochs[0]}" if len(epochs) == 1 else f"{epochs[0]}–{epochs[-1]}" if epochs else ""
    return replace(number(spread([value for value, _ in best])), note=f"epoch {where}" if epochs else "")


def epochs_until(group: Group, metric: str, target: float) -> Cell:
    """How many epochs the seeds need to reach a value."""
    within = min((max(curve) for curve in group.curves(metric)), default=0)
    return _until(group, metric, target, group.epochs_to_reach(metric, target), Cell(f"{within:,}", within))


def _seconds_until(group: Group, metric: str, target: float, seconds: Sequence[float | None], scale: float) -> Cell:
    """How long the seeds need to reach a value, in a unit of so many seconds."""
    scaled = [None if s is None else s / scale for s in seconds]
    within = min(group.last_seconds(metric), default=0.0) / scale
    return _until(group, metric, target, scaled, Cell(f"{within:,.1f}", within), group.estimated)


def _until(
    group: Group, metric: str, target: float, reached: Sequence[float | None], within: Cell, estimate: bool = False
) -> Cell:
    """A cell of how long it took: ``reached`` by each seed, or None, for at least ``within``."""
    if not reached:
        return MISSING
    there = [r for r in reached if r is not None]
    if not there:
        return _signed(within, ">", estimate)
    if len(there) < len(reached):
        return Cell(f"{len(there)} of {len(reached)} seeds")
    at_once = any(curve[min(curve)] >= target for curve in group.curves(metric))
    return _signed(number(spread(there)), "≤" if at_once else "", estimate)


def _signed(cell: Cell, sign: str = "", estimate: bool = False) -> Cell:
    """A number with its sign before it; nothing is put before what is missing."""
    sign = f"{sign} {'≈' if estimate else ''}".strip()
    return replace(cell, text=f"{sign} {cell.text}", sign=sign) if sign and cell.value is not None else cell


def _estimates(groups: Sequence[Group]) -> list[str]:
    said = "≈: estimated from the images of an epoch and images a second, as not every run measured its device-seconds."
    return [said] if any(group.estimated for group in groups) else []


def _listed(labels: Sequence[str], families: Mapping[str, Sequence[str]]) -> str:
    """Labels; those of one method, where there are several and all are meant, by its name alone."""
    said = []
    for method, family in families.items():
        meant = [label for label in labels if label in family]
        said += [method_name(method)] if 1 < len(family) == len(meant) else meant
    return " · ".join(said)  # labels have commas


def _best_rival(group: Group, groups: Sequence[Group], metric: str, epoch: int) -> tuple[float, Group] | None:
    """The highest accuracy of another group after an epoch, mean over its seeds, and that group."""
    means = [(mean.mean, rival) for rival in groups if rival is not group and (mean := spread(rival.at(metric, epoch)))]
    return max(means, key=lambda found: found[0], default=None)


def _against(ours: Cell, rival: float, note: str = "") -> Cell:
    """A duration beside the rival's."""
    return replace(ours, best=ours.value is not None and ">" not in ours.sign and ours.value < rival, note=note)


def median_speeds(group: Group) -> list[float]:
    return [statistics.median(curve.values()) for curve in group.curves("images_per_second")]


def _median_seconds(group: Group) -> list[float]:
    return [statistics.median(seconds.values()) for run in group.runs if (seconds := run.epoch_seconds)]


def _devices(group: Group) -> list[str]:
    return sorted({run.device for run in group.runs if run.device})


def _machines(groups: Sequence[Group]) -> str:
    devices = sorted({device for group in groups for device in _devices(group)})
    return f" (here: {', '.join(devices)})" if len(devices) > 1 else ""


def _seeds(group: Group) -> str:
    seeds = [str(run.seed) for run in group.runs if run.seed is not None]
    return f"{len(group.runs)} ({', '.join(seeds)})" if seeds else str(len(group.runs))


def _epochs(group: Group) -> Cell:
    """Epochs trained, of how many if there are more to come, and how the runs stand if they are not done."""
    trained = sorted({run.epochs for run in group.runs})
    text = str(trained[0]) if len(trained) == 1 else f"{trained[0]}–{trained[-1]}"
    planned = group.runs[0].planned
    if planned is not None and trained[0] < planned:
        text += f" of {planned}"
    states = Counter(run.state for run in group.runs if run.state not in ("finished", "unknown"))
    said = [state if count == len(group.runs) else f"{count} {state}" for state, count in states.items()]
    return Cell(text, float(trained[-1]), note=", ".join(said))


def _unequal_epochs(groups: Sequence[Group]) -> list[str]:
    different = len({group.epochs for group in groups}) > 1
    return (
        ["The methods have not trained for the same number of epochs: compare at chosen epochs."] if different else []
    )


def _bare(metric: str) -> str:
    return metric_name(metric).removesuffix(" (%)")

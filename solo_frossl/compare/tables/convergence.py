"""How fast each method converges: until given accuracies, against its rivals, and over all epochs."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from solo_frossl.compare.convergence import mean_height, spread
from solo_frossl.compare.groups import Group
from solo_frossl.compare.names import bare_name
from solo_frossl.compare.tables.speed import estimates, machines
from solo_frossl.compare.tables.table import MISSING, Cell, Table, compact_table, mark_best, number, signed


def reach_table(groups: Sequence[Group], metric: str, targets: Sequence[float]) -> Table:
    """Epochs, and device-seconds where they were measured, until a metric is at given values."""
    waits = {(group.label, t): group.seconds_to_reach(metric, t) for group in groups for t in targets}
    scale, unit = time_unit(waits.values())
    rows = [[Cell(group.label)] for group in groups]
    for group, row in zip(groups, rows, strict=True):
        for target in targets:
            time = _seconds_until(group, metric, target, waits[group.label, target], scale)
            row += [epochs_until(group, metric, target), time]
    notes = [
        f"Until the {bare_name(metric)} is first at or above the value, by linear interpolation between measured"
        " epochs; ≤: a seed is there at its first measurement, so the true number is smaller; >: not within that"
        " many. Mean ± standard deviation over seeds; where only some of the seeds get there, how many. Bold: the first"
        " one there, where that is sure.",
    ]
    if any(waits.values()):
        notes.append(
            "Device-time: seconds of training, validation not counted, times the number of processes; it depends on the"
            f" machine{machines(groups)}."
        )
        notes += estimates(groups)
    return compact_table(
        name=f"reach-{metric.replace('/', '-')}",
        caption=f"How long until a given {bare_name(metric)}.",
        columns=("method", *("epochs", f"device-{unit}") * len(targets)),
        rows=mark_best(rows, range(1, 2 * len(targets) + 1), lowest=True),
        spans=(("", 1), *((f"to {target:g} %", 2) for target in targets)),
        notes=notes,
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
    scale, unit = time_unit(waits.values())
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
    return compact_table(
        name=f"best-rival-{metric.replace('/', '-')}",
        caption=f"How long until the {bare_name(metric)} that the best rival has after a chosen epoch.",
        columns=columns,
        rows=rows,
        spans=spans if timed else (),
        notes=(
            "Small print: the accuracy to reach and the rival that has it. Bold: before the rival.",
            *(estimates(groups) if timed else []),
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
    scale, unit = time_unit(waits.values())
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
        rows.append(row)
    return compact_table(
        name=f"rivals-{metric.replace('/', '-')}-epoch-{epoch}",
        caption=f"Epochs until the {bare_name(metric)} that a rival has after epoch {epoch}.",
        columns=("method", *(rival.label for rival in rivals)),
        rows=rows,
        notes=(
            f"Columns: the rivals. Bold: before the rival.{' Small print: device-time.' if timed else ''}",
            *(estimates(groups) if timed else []),
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
    return compact_table(
        name=f"area-{metric.replace('/', '-')}",
        caption=f"Area under the curve of the {bare_name(metric)}.",
        columns=("method", *(f"epochs 1 to {epoch}" for epoch in epochs)),
        rows=mark_best(rows, range(1, len(epochs) + 1)),
        notes=(
            f"A(E) = 1/(E - 1) ∫ from 1 to E of the {bare_name(metric)} over the epochs, by the trapezoidal rule: the"
            f" mean height of the curve from epoch 1{later} to E. A method that learns early has the larger area.",
        ),
    )


SHORT = {"seconds": "s", "minutes": "min", "hours": "h"}


def time_unit(waits: Iterable[Sequence[float | None]]) -> tuple[float, str]:
    """Seconds in a unit that suits the longest of some durations, and the unit's name.

    >>> time_unit([[3.0, 40.0], []]), time_unit([[100.0, None], [90000.0]])
    ((1.0, 'seconds'), (3600.0, 'hours'))
    """
    longest = max((seconds for wait in waits for seconds in wait if seconds is not None), default=0.0)
    return (1.0, "seconds") if longest < 600 else (60.0, "minutes") if longest < 36000 else (3600.0, "hours")


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
        return signed(within, ">", estimate)
    if len(there) < len(reached):
        return Cell(f"{len(there)} of {len(reached)} seeds")
    at_once = any(curve[min(curve)] >= target for curve in group.curves(metric))
    return signed(number(spread(there)), "≤" if at_once else "", estimate)


def _best_rival(group: Group, groups: Sequence[Group], metric: str, epoch: int) -> tuple[float, Group] | None:
    """The highest accuracy of another group after an epoch, mean over its seeds, and that group."""
    means = [(mean.mean, rival) for rival in groups if rival is not group and (mean := spread(rival.at(metric, epoch)))]
    return max(means, key=lambda found: found[0], default=None)


def _against(ours: Cell, rival: float, note: str = "") -> Cell:
    """A duration beside the rival's."""
    return replace(ours, best=ours.value is not None and ">" not in ours.sign and ours.value < rival, note=note)

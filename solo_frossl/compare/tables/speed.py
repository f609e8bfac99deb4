"""How fast each method trains, and what its times depend on."""

import statistics
from collections.abc import Sequence

from solo_frossl.compare.convergence import spread
from solo_frossl.compare.groups import Group
from solo_frossl.compare.tables.table import MISSING, Cell, Table, compact_table, number, signed


def speed_table(groups: Sequence[Group]) -> Table:
    """Images a second, device-seconds an epoch, and how they compare with the slowest method."""
    speeds = {group.label: spread(median_speeds(group)) for group in groups}
    slowest = min((s.mean for s in speeds.values() if s), default=1.0)
    rows = []
    for group in groups:
        speed = speeds[group.label]
        ratio = Cell(f"{speed.mean / slowest:.2f}", speed.mean / slowest) if speed else MISSING
        seconds = signed(number(spread(_median_seconds(group))), estimate=group.estimated)
        devices = Cell(", ".join(_devices(group)) or "–")
        rows.append((Cell(group.label), number(speed, 0), ratio, seconds, devices))
    return compact_table(
        name="speed",
        caption="Images a second.",
        columns=("method", "images/s", "of the slowest", "device-seconds an epoch", "device"),
        rows=rows,
        notes=(
            "Median over epochs, mean ± standard deviation over seeds; training only. An image counts once, however"
            " many views are made of it. Comparable only between runs that had the same machine to"
            f" themselves{machines(groups)}.",
            *estimates(groups),
        ),
    )


def median_speeds(group: Group) -> list[float]:
    """Images a second of each run that measured them, median over its epochs."""
    return [statistics.median(curve.values()) for curve in group.curves("images_per_second")]


def _median_seconds(group: Group) -> list[float]:
    return [statistics.median(seconds.values()) for run in group.runs if (seconds := run.epoch_seconds)]


def _devices(group: Group) -> list[str]:
    return sorted({run.device for run in group.runs if run.device})


def machines(groups: Sequence[Group]) -> str:
    """The devices that the runs trained on, in parentheses; empty where they are one or unknown."""
    devices = sorted({device for group in groups for device in _devices(group)})
    return f" (here: {', '.join(devices)})" if len(devices) > 1 else ""


def estimates(groups: Sequence[Group]) -> list[str]:
    """The note that tells what ≈ means; none where no device-seconds are estimated."""
    said = "≈: estimated from the images of an epoch and images a second, as not every run measured its device-seconds."
    return [said] if any(group.estimated for group in groups) else []

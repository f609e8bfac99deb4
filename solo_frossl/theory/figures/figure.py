"""A figure of the theory as data: panels of curves, which are written as CSV and drawn as PNG."""

import csv
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from solo_frossl.replacing import replacing

Progress = Callable[[int], None]
"""Told of steps done: of gradient descent, or of whatever a figure takes time for."""
TIME = "t = learning rate x step"
"""Name of the x axis of all that flows."""
Source = Literal["measured", "points", "gradient descent", "equation", "closed form", "guide"]
"""Where a curve comes from: samples or runs, joined or as points; gradient descent on the weights; the differential
equation, integrated; the equation's solution; or a line to compare with."""

_LOOKS: dict[str, dict[str, object]] = {
    "measured": {"linestyle": "-", "marker": "o", "markersize": 3.5, "linewidth": 1.0},
    "gradient descent": {"linestyle": "-", "linewidth": 2.6, "alpha": 0.55, "solid_capstyle": "butt"},
    "equation": {"linestyle": "--", "linewidth": 1.1},
    "closed form": {"linestyle": ":", "linewidth": 0.6, "marker": "x", "markersize": 4.5, "markeredgewidth": 1.1},
    "guide": {"linestyle": "-.", "linewidth": 0.9},
    "points": {"linestyle": "none", "marker": "o", "markersize": 3.0},
}
_MARKS = 14
"""Marks of a line over the width of a panel, about."""
_PANEL, _BESIDE = (3.4, 2.5), 1.2
"""Inches: a panel, and the legend beside all of them."""
_OUTSIDE = {"loc": "upper left", "bbox_to_anchor": (1.02, 1.02)}
"""Of a legend: beside its panel, where it hides nothing."""
_FONT = (9.0, 9.0, 10.0, 11.5)
"""Points, for one to four panels in a row, so that wide figures can be read when they are made to fit."""
_DPI = 160
_LARGE = 1e4
"""Numbers from this on are written with an exponent."""


@dataclass(frozen=True)
class Curve:
    """One line of a panel.

    Attributes:
        name: what it is of, ``mode 3`` or ``tanh``; curves of one name have one colour.
        source: where it comes from, which its line says.
        x: ``(T,)``.
        y: ``(T,)``.
    """

    name: str
    source: Source
    x: np.ndarray
    y: np.ndarray

    def __post_init__(self) -> None:
        for axis in ("x", "y"):
            object.__setattr__(self, axis, np.asarray(getattr(self, axis), dtype=np.float64))
        if self.x.shape != self.y.shape or self.x.ndim != 1:
            raise ValueError(f"curve {self.name} ({self.source}): x is {self.x.shape} and y {self.y.shape}")


@dataclass(frozen=True)
class Panel:
    """Curves on common axes.

    Attributes:
        title: above them.
        x: name of the x axis, with its unit.
        y: name of the y axis, with its unit.
        curves: what is drawn.
        log_x: logarithmic x.
        log_y: logarithmic y.
        named: whether a legend names the curves; false where the title says what they are.
        limits: of y; None for those of the values.
        square: whether a unit of x is as long as one of y.
    """

    title: str
    x: str
    y: str
    curves: tuple[Curve, ...]
    log_x: bool = False
    log_y: bool = False
    named: bool = True
    limits: tuple[float, float] | None = None
    square: bool = False


@dataclass(frozen=True)
class TheoryFigure:
    """A figure and what it says.

    Attributes:
        name: what the command calls it.
        title: one line.
        claim: what the paper says, a sentence or two.
        measured: what came out here, with numbers.
        misprint: what the paper prints wrong of it; empty if nothing.
        panels: what is drawn, row by row.
        columns: panels in a row.
    """

    name: str
    title: str
    claim: str
    measured: str
    panels: tuple[Panel, ...]
    misprint: str = ""
    columns: int = 2


def write_csv(figure: TheoryFigure, path: Path) -> None:
    """Every point of every curve: panel, curve, source, x, y.

    Args:
        figure: what to write.
        path: the file; it is replaced.
    """
    with replacing(path) as part, open(part, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["panel", "curve", "source", "x", "y"])
        for panel in figure.panels:
            for curve in panel.curves:
                rows = zip(curve.x.tolist(), curve.y.tolist(), strict=True)
                writer.writerows([panel.title, curve.name, curve.source, repr(x), repr(y)] for x, y in rows)


def draw(figure: TheoryFigure, path: Path) -> None:
    """Draw the panels as a PNG; colours go from dark to light, so that they stay apart in grey.

    What the colours are of stands beside a row of panels if it is the same in all of them, else in each, but for the
    last one, which has it beside.

    Args:
        figure: what to draw.
        path: the file; it is replaced.
    """
    with replacing(path) as part:
        FigureCanvasAgg(drawing(figure)).print_figure(part, format="png", dpi=_DPI)


def drawing(figure: TheoryFigure) -> Figure:
    """What :func:`draw` writes, as Matplotlib has it."""
    columns = min(figure.columns, len(figure.panels))
    rows = math.ceil(len(figure.panels) / columns)
    sources = [s for s in _LOOKS if any(c.source == s for p in figure.panels if p.named for c in p.curves)]
    beside = _beside([figure.panels[first : first + columns] for first in range(0, len(figure.panels), columns)])
    size = _FONT[min(columns, len(_FONT)) - 1]
    style = {"font.size": size, "axes.titlesize": size - 0.5, "legend.fontsize": size - 1, "legend.frameon": False}
    with mpl.rc_context(style):
        last = [panel for number, panel in enumerate(figure.panels) if number % columns == columns - 1]
        own = any(key is None and len(_key(panel)) > 1 for key, panel in zip(beside, last, strict=False))
        width = _PANEL[0] * columns + (_BESIDE if any(beside) or own else 0)
        drawn = Figure(figsize=(width, _PANEL[1] * rows + 0.35), layout="constrained")
        panels = drawn.subplots(rows, columns, squeeze=False)
        for number, panel in enumerate(figure.panels):
            row = number // columns
            _draw_panel(panels.flat[number], panel)
            if beside[row] is None and panel.named and len(key := _key(panel)) > 1:
                at_the_edge = number % columns == columns - 1
                inside = {"frameon": True, "framealpha": 0.85, "edgecolor": "none"}
                panels.flat[number].legend(handles=key.values(), **(_OUTSIDE if at_the_edge else inside))
        for axes in panels.flat[len(figure.panels) :]:
            axes.remove()
        for row, key in enumerate(beside):
            if key:
                panels[row, -1].legend(handles=key.values(), **_OUTSIDE)
        handles = [Line2D([], [], color="black", label=source, **_LOOKS[source]) for source in sources]
        drawn.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return drawn


def _beside(rows: Sequence[Sequence[Panel]]) -> list[dict[str, Line2D] | None]:
    """For each row the legend that stands beside it: empty if that is the one above, None if its panels differ."""
    beside, above = [], None
    for row in rows:
        keys = [key for panel in row if panel.named and len(key := _key(panel)) > 1]
        names = {tuple(key) for key in keys}
        shared = len(names) <= 1 and len(row) == len(rows[0]) and len(row) > 1
        beside.append((keys[0] if names and names != above else {}) if shared else None)
        above = names or above
    return beside


def _key(panel: Panel) -> dict[str, Line2D]:
    """What each colour is of: name to a handle of a legend."""
    colours = _colours(panel)
    key = {}
    for curve in panel.curves:
        look = {"linewidth": 2.5}
        if curve.source in ("guide", "points"):
            look = _LOOKS[curve.source]
        key.setdefault(curve.name, Line2D([], [], color=colours.get(curve.name, "0.35"), label=curve.name, **look))
    return key


def _colours(panel: Panel) -> dict[str, tuple[float, ...]]:
    names = list(dict.fromkeys(curve.name for curve in panel.curves if curve.source != "guide"))
    return {name: _colour(number, len(names)) for number, name in enumerate(names)}


def _draw_panel(axes: Axes, panel: Panel) -> None:
    colours = _colours(panel)
    for curve in sorted(panel.curves, key=lambda curve: list(_LOOKS).index(curve.source)):
        look = dict(_LOOKS[curve.source])
        if curve.source in ("closed form", "measured"):
            look["markevery"] = max(1, len(curve.x) // _MARKS)
        axes.plot(curve.x, curve.y, color=colours.get(curve.name, "0.35"), **look)
    axes.set_xscale("log" if panel.log_x else "linear")
    axes.set_yscale("log" if panel.log_y else "linear")
    if panel.limits:
        axes.set_ylim(*panel.limits)
    if panel.square:
        axes.set_aspect("equal", adjustable="datalim")
    for axis, log in ((axes.xaxis, panel.log_x), (axes.yaxis, panel.log_y)):
        if not log and np.abs(axis.get_view_interval()).max() >= _LARGE:
            axis.set_major_locator(MaxNLocator(4))
            axis.set_major_formatter("{x:g}")  # else a power of ten stands apart, where the title is
    axes.set_title(panel.title, loc="left")
    axes.set_xlabel(panel.x)
    axes.set_ylabel(panel.y)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="0.9", linewidth=0.5)
    axes.set_axisbelow(True)


def _colour(number: int, count: int) -> tuple[float, ...]:
    return mpl.colormaps["viridis"](0.85 * number / max(1, count - 1) if count > 1 else 0.15)


def at_least(value: float, digits: int = 4) -> str:
    """The number rounded down, so that what is said to be above it is: a cosine of 0.99996 is not above 1.0000."""
    return f"{math.floor(value * 10**digits) / 10**digits:.{digits}f}"


def descending(values: np.ndarray) -> np.ndarray:
    """Each row ``(T, K)`` sorted, the largest first: which eigenvalue is the largest may change in time."""
    return -np.sort(-values, axis=1)


def modes(name: str, source: Source, time: Sequence[float] | np.ndarray, values: np.ndarray) -> list[Curve]:
    """A curve a column.

    Args:
        name: of one of them, to which its number from 1 is added.
        source: where they come from.
        time: ``(T,)``.
        values: ``(T, K)``.
    """
    return [Curve(f"{name} {k + 1}", source, np.asarray(time), column) for k, column in enumerate(values.T)]

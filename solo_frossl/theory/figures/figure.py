"""A figure of the theory as data: panels of curves, which are written as CSV and drawn as PNG."""

import csv
import math
import os
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

Progress = Callable[[int], None]
"""Told of steps done: of gradient descent, or of whatever a figure takes time for."""
Source = Literal["measured", "points", "gradient descent", "equation", "closed form", "guide"]
"""Where a curve comes from: samples or runs, joined or as points; gradient descent on the weights; the differential
equation, integrated; the equation's solution; or a line to compare with."""

_LOOKS: dict[str, dict[str, object]] = {
    "measured": {"linestyle": "-", "marker": "o", "markersize": 3.5, "linewidth": 1.0},
    "points": {"linestyle": "none", "marker": ".", "markersize": 4.0},
    "gradient descent": {"linestyle": "-", "linewidth": 2.6, "alpha": 0.55, "solid_capstyle": "butt"},
    "equation": {"linestyle": "--", "linewidth": 1.1},
    "closed form": {"linestyle": ":", "linewidth": 0.6, "marker": "x", "markersize": 4.5, "markeredgewidth": 1.1},
    "guide": {"linestyle": "-.", "linewidth": 0.9},
}
_MARKS = 14
"""Marks of a line over the width of a panel, about."""
_PANEL = (3.4, 2.5)
"""Inches."""


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
        named: whether the legend names the curves; false where they are numbered modes, dark to light.
        limits: of y; None for those of the values.
    """

    title: str
    x: str
    y: str
    curves: tuple[Curve, ...]
    log_x: bool = False
    log_y: bool = False
    named: bool = True
    limits: tuple[float, float] | None = None


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
    part = path.with_name(path.name + ".part")
    with open(part, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["panel", "curve", "source", "x", "y"])
        for panel in figure.panels:
            for curve in panel.curves:
                rows = zip(curve.x.tolist(), curve.y.tolist(), strict=True)
                writer.writerows([panel.title, curve.name, curve.source, repr(x), repr(y)] for x, y in rows)
    os.replace(part, path)


def draw(figure: TheoryFigure, path: Path) -> None:
    """Draw the panels as a PNG; colours go from dark to light, so that they stay apart in grey.

    Args:
        figure: what to draw.
        path: the file; it is replaced.
    """
    columns = min(figure.columns, len(figure.panels))
    rows = math.ceil(len(figure.panels) / columns)
    sources = [s for s in _LOOKS if s != "points" and any(c.source == s for p in figure.panels for c in p.curves)]
    with mpl.rc_context({"font.size": 9, "axes.titlesize": 9, "legend.fontsize": 8, "legend.frameon": False}):
        drawing = Figure(figsize=(_PANEL[0] * columns, _PANEL[1] * rows + 0.35), layout="constrained")
        panels = list(drawing.subplots(rows, columns, squeeze=False).flat)
        for axes, panel in zip(panels, figure.panels, strict=False):
            _draw_panel(axes, panel)
        for axes in panels[len(figure.panels) :]:
            axes.remove()
        handles = [Line2D([], [], color="black", label=source, **_LOOKS[source]) for source in sources]
        drawing.legend(handles=handles, loc="outside lower center", ncols=len(handles))
        part = path.with_name(path.name + ".part")
        FigureCanvasAgg(drawing).print_figure(part, format="png", dpi=160)
        os.replace(part, path)


def _draw_panel(axes: Axes, panel: Panel) -> None:
    names = list(dict.fromkeys(curve.name for curve in panel.curves if curve.source != "guide"))
    colours = {name: _colour(number, len(names)) for number, name in enumerate(names)}
    for curve in sorted(panel.curves, key=lambda curve: list(_LOOKS).index(curve.source)):
        look = dict(_LOOKS[curve.source])
        if curve.source in ("closed form", "measured"):
            look["markevery"] = max(1, len(curve.x) // _MARKS)
        axes.plot(curve.x, curve.y, color=colours.get(curve.name, "0.35"), **look)
    axes.set_xscale("log" if panel.log_x else "linear")
    axes.set_yscale("log" if panel.log_y else "linear")
    if panel.limits:
        axes.set_ylim(*panel.limits)
    axes.set_title(panel.title, loc="left")
    axes.set_xlabel(panel.x)
    axes.set_ylabel(panel.y)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="0.9", linewidth=0.5)
    axes.set_axisbelow(True)
    if panel.named:
        guides = [curve.name for curve in panel.curves if curve.source == "guide"]
        lines = [Line2D([], [], color=colours[name], linewidth=2, label=name) for name in names if len(names) > 1]
        lines += [
            Line2D([], [], color="0.35", linestyle="-.", linewidth=0.9, label=name) for name in dict.fromkeys(guides)
        ]
        if lines:
            axes.legend(handles=lines)


def _colour(number: int, count: int) -> tuple[float, ...]:
    return mpl.colormaps["viridis"](0.85 * number / max(1, count - 1) if count > 1 else 0.15)


def modes(name: str, source: Source, time: Sequence[float] | np.ndarray, values: np.ndarray) -> list[Curve]:
    """A curve a column.

    Args:
        name: of one of them, to which its number from 1 is added.
        source: where they come from.
        time: ``(T,)``.
        values: ``(T, K)``.
    """
    return [Curve(f"{name} {k + 1}", source, np.asarray(time), column) for k, column in enumerate(values.T)]

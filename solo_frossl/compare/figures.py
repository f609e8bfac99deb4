"""Figures for a paper, PNG and PDF, in the colours of the page."""

import math
import os
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from solo_frossl.compare.charts import SOURCES, spectrum_over_steps
from solo_frossl.compare.comparison import Part
from solo_frossl.compare.groups import Group
from solo_frossl.compare.names import metric_name
from solo_frossl.compare.style import DASHES, MARKERS, scale, style
from solo_frossl.run_files import TOP

WIDTH = 5.5
"""Inches; the text width of most conferences."""
_LOOK = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e2e2e2",
    "grid.linewidth": 0.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.3,
    "lines.markersize": 3,
    "pdf.fonttype": 42,  # text stays text in the PDF
    "savefig.dpi": 300,
}
_STATISTICS = (
    "spectrum/embeddings/condition_number",
    "spectrum/embeddings/entropy",
    "spectrum/embeddings/effective_rank",
    "spectrum/effective_rank",
)


def draw_figures(part: Part, folder: Path, numbers: dict[str, int], prefix: str = "") -> list[Path]:
    """Draw what a dataset has: ``accuracy``, ``rank``, ``eigenvalues-of-embeddings``, ``-features`` and ``loss``.

    Args:
        part: the runs on one dataset.
        folder: where to; it is made.
        numbers: which number of :func:`~solo_frossl.compare.style.style` each method has.
        prefix: beginning of the files' names.

    Returns:
        The files, a PNG and a PDF each.
    """
    figures: dict[str, Figure] = {}
    with mpl.rc_context(_LOOK):
        accuracies = [m for m in ("online/top1", "knn/top1") if m in part.accuracies] or part.accuracies[:1]
        statistics = [m for m in _STATISTICS if any(group.curves(m) for group in part.groups)]
        if accuracies:
            figures["accuracy"] = _curves(part.groups, accuracies, numbers)
        if statistics:
            figures["rank"] = _curves(part.groups, statistics, numbers)
        for source in SOURCES:
            if any(spectrum_over_steps(group, source) for group in part.groups):
                figures[f"eigenvalues-{source}"] = _eigenvalues(part.groups, source)
        if any(_loss_terms(group) for group in part.groups):
            figures["loss"] = _losses(part.groups)
        folder.mkdir(parents=True, exist_ok=True)
        return [file for name, figure in figures.items() for file in _save(figure, folder / f"{prefix}{name}")]


def _curves(groups: Sequence[Group], metrics: Sequence[str], numbers: dict[str, int]) -> Figure:
    """Metrics side by side, one line a method with its seeds as a band."""
    columns = min(2, len(metrics))
    rows = math.ceil(len(metrics) / columns)
    legend_rows = math.ceil(len(groups) / 4)
    figure = Figure(figsize=(WIDTH if columns > 1 else 3.3, 2.0 * rows + 0.2 * legend_rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).flat
    drawn: dict[str, Line2D] = {}
    for axes, metric in zip(panels, metrics, strict=False):
        for group in groups:
            band = group.band(metric)
            if not band.epochs:
                continue
            look = style(numbers[group.label])
            (drawn[group.label],) = axes.plot(
                band.epochs,
                band.mean,
                color=look.light,
                linestyle=DASHES[look.dash][1],
                marker=MARKERS[look.marker][1],
                markevery=max(1, len(band.epochs) // 8),
                label=group.label,
            )
            if max(band.count) > 1:
                axes.fill_between(band.epochs, band.low, band.high, color=look.light, alpha=0.18, linewidth=0)
        if "condition_number" in metric:
            axes.set_yscale("log")
        axes.set_title(metric_name(metric), loc="left")
        _epoch_axis(axes)
    for axes in list(figure.axes)[len(metrics) :]:
        axes.remove()
    if len(groups) > 1:
        figure.legend(
            handles=list(drawn.values()), loc="outside lower center", ncols=min(len(drawn), 4 if columns > 1 else 2)
        )
    return figure


def _eigenvalues(groups: Sequence[Group], source: str) -> Figure:
    """The first eigenvalues over the steps, one panel a method."""
    spectra = [(group, data) for group in groups if (data := spectrum_over_steps(group, source))]
    stepped = all(data["step"] for _, data in spectra)
    colours = scale(TOP)
    figure, panels = _panels(len(spectra))
    for axes, (group, data) in zip(panels, spectra, strict=False):
        for values, colour in zip(data["values"], colours, strict=False):
            heights = [math.nan if value is None else value for value in values]
            axes.plot(data["step" if stepped else "epoch"], heights, color=colour, linewidth=0.9)
        axes.set_title(group.label, loc="left")
        if source != "alignment":
            axes.set_yscale("log")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
    figure.supxlabel("step" if stepped else "epochs trained", fontsize=8)
    figure.supylabel("alignment" if source == "alignment" else "eigenvalue", fontsize=8)
    return figure


def _losses(groups: Sequence[Group]) -> Figure:
    """The training loss and its terms, one panel a method."""
    groups = [group for group in groups if _loss_terms(group)]
    figure, panels = _panels(len(groups))
    for axes, group in zip(panels, groups, strict=False):
        for number, metric in enumerate(_loss_terms(group)):
            band, total = group.band(metric), metric == "train/loss"
            axes.plot(
                band.epochs,
                band.mean,
                color="black" if total else style(number).light,
                linestyle="-" if total else DASHES[1 + number % 3][1],
                label=metric_name(metric),
            )
        axes.set_title(group.label, loc="left")
        axes.margins(y=0.2)
        axes.legend(fontsize=6)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
    figure.supxlabel("epochs trained", fontsize=8)
    return figure


def _loss_terms(group: Group) -> list[str]:
    return [m for m in group.metrics if m.startswith("train/") and m != "train/online_top1" and group.curves(m)]


def _panels(count: int) -> tuple[Figure, Sequence[Axes]]:
    """A figure with so many small panels."""
    columns = min(3, count) if count != 4 else 2
    rows = math.ceil(count / columns)
    width = {1: 3.3}.get(columns, WIDTH)
    figure = Figure(figsize=(width, 1.7 * rows + 0.2), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in panels[count:]:
        axes.remove()
    return figure, panels[:count]


def _epoch_axis(axes: Axes) -> None:
    axes.set_xlabel("epochs trained")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))


def _save(figure: Figure, path: Path) -> list[Path]:
    FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # laid out once for both files
    written = []
    for kind, canvas in (("png", FigureCanvasAgg), ("pdf", FigureCanvasPdf)):
        file, part = path.with_suffix(f".{kind}"), path.with_suffix(f".{kind}.part")
        canvas(figure).print_figure(part, format=kind)
        os.replace(part, file)
        written.append(file)
    return written

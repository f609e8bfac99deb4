"""Figures for a paper, PNG and PDF, in the colours of the page."""

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.textpath import TextToPath
from matplotlib.ticker import MaxNLocator

from solo_frossl.compare.charts import SOURCES, far_apart, loss_terms, spectrum_over_steps
from solo_frossl.compare.comparison import Part
from solo_frossl.compare.groups import Group
from solo_frossl.compare.names import metric_name
from solo_frossl.compare.style import DASHES, MARKERS, scale, style
from solo_frossl.replacing import replacing
from solo_frossl.run_files import TOP

WIDTH = 5.5
"""Inches; the text width of most conferences."""
NARROW = 3.3
"""Inches; a figure of one panel."""
_AXIS = 0.6
"""Inches of a panel that the labels of its vertical axis take, about."""
_KEY_SIZE = 6
"""Points of the names of a loss's terms."""
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
    "text.hinting": "none",  # texts are as wide in the file, at its resolution, as they are when laid out
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
    """Write the figures of a dataset.

    Args:
        part: the runs on one dataset.
        folder: where to; it is made.
        numbers: which number of :func:`~solo_frossl.compare.style.style` each method has.
        prefix: beginning of the files' names.

    Returns:
        The files, a PNG and a PDF each.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(_LOOK):
        figures = figures_of(part, numbers)
        return [file for name, figure in figures.items() for file in _save(figure, folder / f"{prefix}{name}")]


def figures_of(part: Part, numbers: dict[str, int]) -> dict[str, Figure]:
    """What a dataset has of ``accuracy``, ``rank``, ``eigenvalues-embeddings`` (and others) and ``loss``, laid out.

    Args:
        part: the runs on one dataset.
        numbers: which number of :func:`~solo_frossl.compare.style.style` each method has.
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
        if any(loss_terms(group) for group in part.groups):
            figures["loss"] = _losses(part.groups)
        for figure in figures.values():
            FigureCanvasAgg(figure)
            figure.draw_without_rendering()
            figure.set_layout_engine("none")  # laid out once for all kinds of files
    return figures


def _curves(groups: Sequence[Group], metrics: Sequence[str], numbers: dict[str, int]) -> Figure:
    """Metrics side by side, one line a method with its seeds as a band."""
    columns = min(2, len(metrics))
    figure, panels = _panels([metric_name(metric) for metric in metrics], columns, 2.0)
    drawn: dict[str, Line2D] = {}
    for axes, metric in zip(panels, metrics, strict=True):
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
        axes.set_xlabel("epochs trained")
        _whole_numbers(axes, 6)
    if len(groups) > 1:
        _legend(figure, list(drawn.values()))
    return figure


def _eigenvalues(groups: Sequence[Group], source: str) -> Figure:
    """The first eigenvalues over the steps, one panel a method."""
    spectra = [(group, data) for group in groups if (data := spectrum_over_steps(group, source))]
    stepped = all(data["step"] for _, data in spectra)
    colours = scale(TOP)
    figure, panels = _panels([group.label for group, _ in spectra])
    for axes, (_, data) in zip(panels, spectra, strict=True):
        for values, colour in zip(data["values"], colours, strict=False):
            heights = [math.nan if value is None else value for value in values]
            position = data["step" if stepped else "epoch"]
            axes.plot(position, heights, color=colour, linewidth=0.9, marker=_marker(position))
        if source != "alignment":
            axes.set_yscale("log")
        _whole_numbers(axes, 4)
    key = ScalarMappable(BoundaryNorm(range(1, TOP + 2), TOP), ListedColormap(colours))
    rows = panels[0].get_gridspec().nrows
    bar = figure.colorbar(key, ax=panels, aspect=20, shrink=1 / rows, anchor=(0.0, 1.0))
    bar.set_ticks([1.5, TOP + 0.5], labels=["$\\lambda_1$", f"$\\lambda_{{{TOP}}}$"])
    bar.ax.tick_params(which="both", length=0)
    bar.ax.invert_yaxis()  # the first, the greatest, on top
    figure.supxlabel("step" if stepped else "epochs trained", fontsize=8)
    figure.supylabel("alignment" if source == "alignment" else "eigenvalue", fontsize=8)
    return figure


def _losses(groups: Sequence[Group]) -> Figure:
    """The training loss and its terms, one panel a method."""
    groups = [group for group in groups if loss_terms(group)]
    keys = {group.label: 2 if max(map(len, map(metric_name, loss_terms(group)))) < 16 else 1 for group in groups}
    rows = max(-(-len(loss_terms(group)) // keys[group.label]) for group in groups)
    figure, panels = _panels([group.label for group in groups], height=1.7 + rows * 1.5 * _KEY_SIZE / 72)
    for axes, group in zip(panels, groups, strict=True):
        for number, metric in enumerate(loss_terms(group)):
            band, total = group.band(metric), metric == "train/loss"
            axes.plot(
                band.epochs,
                band.mean,
                color="black" if total else style(number).light,
                linestyle="-" if total else DASHES[1 + number % 3][1],
                marker=_marker(band.epochs),
                label=metric_name(metric),
            )
        if far_apart(group):
            axes.set_yscale("log")
        axes.legend(
            fontsize=_KEY_SIZE,
            ncols=keys[group.label],
            columnspacing=1,
            loc="upper center",
            bbox_to_anchor=(0.5, 0),
            borderaxespad=2.6,  # below the numbers of the axis
        )
        _whole_numbers(axes, 4)
    figure.supxlabel("epochs trained", fontsize=8)
    return figure


def _panels(titles: Sequence[str], columns: int | None = None, height: float = 1.7) -> tuple[Figure, list[Axes]]:
    """A figure with a panel of so many inches for each title, three in a row unless said otherwise."""
    count = len(titles)
    columns = columns or (min(3, count) if count != 4 else 2)
    width = WIDTH if columns > 1 else NARROW
    folded = [_fold(title, width / columns - _AXIS, mpl.rcParams["axes.titlesize"]) for title in titles]
    rows = [folded[start : start + columns] for start in range(0, count, columns)]
    more_lines = sum(max(title.count("\n") for title in row) for row in rows)
    size = (width, height * len(rows) + 0.2 + more_lines * 1.2 * mpl.rcParams["axes.titlesize"] / 72)
    figure = Figure(figsize=size, layout="constrained")
    panels = list(figure.subplots(len(rows), columns, squeeze=False).flat)
    for axes, title in zip(panels, folded, strict=False):
        axes.set_title(title, loc="left")
    for axes in panels[count:]:
        axes.remove()
    return figure, panels[:count]


def _legend(figure: Figure, lines: Sequence[Line2D]) -> None:
    """A legend below the panels in as many columns as the width has room for; the figure grows by its height."""
    size = mpl.rcParams["legend.fontsize"]
    labels = [_fold(str(line.get_label()), figure.get_figwidth() - _AXIS, size) for line in lines]
    narrowest = min(map(len, labels)) * 0.4 * size / 72 + 0.3  # inches, less than any column can have
    for columns in range(min(len(lines), int(figure.get_figwidth() / narrowest)), 0, -1):
        legend = figure.legend(lines, labels, loc="outside lower center", ncols=columns)
        box = legend.get_window_extent(FigureCanvasAgg(figure).get_renderer())
        if box.width <= figure.bbox.width or columns == 1:
            break
        legend.remove()
    figure.set_figheight(figure.get_figheight() + box.height / figure.dpi)


def _fold(text: str, inches: float, size: float) -> str:
    """A text in lines that are no wider than asked for, as measured in a font of so many points."""
    font, measure = FontProperties(size=size), TextToPath().get_text_width_height_descent
    for characters in range(len(text), 0, -1):
        lines = textwrap.wrap(text, characters)
        if max(measure(line, font, ismath=False)[0] for line in lines) <= inches * 72:
            break
    return "\n".join(lines)


def _marker(position: Sequence[float]) -> str:
    """Of a curve: a single point makes no line, so it is drawn as a dot."""
    return "" if len(position) > 1 else "o"


def _whole_numbers(axes: Axes, most: int) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(nbins=most, integer=True, min_n_ticks=1))


def _save(figure: Figure, path: Path) -> list[Path]:
    written = []
    for kind, canvas in (("png", FigureCanvasAgg), ("pdf", FigureCanvasPdf)):
        file = path.with_suffix(f".{kind}")
        with replacing(file) as part:
            canvas(figure).print_figure(part, format=kind)
        written.append(file)
    return written

"""Pictures: the curves of a run, a confusion matrix, views. Nothing needs a display or touches matplotlib's state."""

import math
import textwrap
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize, to_hex, to_rgb, to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from solo_frossl.replacing import replacing
from solo_frossl.run_files import Rows, read_metrics

_STYLES = [  # told apart by colour, by lightness, by dash and by marker
    {"color": "#08306b", "linestyle": "-", "marker": "o"},
    {"color": "#e6550d", "linestyle": "--", "marker": "s"},
    {"color": "#74a9cf", "linestyle": "-.", "marker": "^"},
    {"color": "#636363", "linestyle": ":", "marker": "D"},
]
_VIEW_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c510a", "#5e3c99", "#444444")
_LEGEND_CLASSES = 20
LEAST_DRAWN = 3
"""Points that a picture of features needs."""
_UNLABELLED = "#bdbdbd"
_FOR_GREYS = {"#7f7f7f": "#000000", "#c7c7c7": "#ffe119"}
"""Black and yellow in place of the greys of matplotlib's palettes: grey is for points without a class."""
_LOOK = {
    "font.size": 13,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "lines.linewidth": 2.2,
    "lines.markersize": 6,
    "legend.frameon": False,
}


def draw_curves(csv_path: str | Path, out_png: str | Path) -> None:
    """Draw a run's metrics by epoch side by side: top-1, loss with its terms, effective rank.

    What the run did not measure is left out, and so is a panel with nothing in it.

    Args:
        csv_path: metrics as :class:`~solo_frossl.report.EpochCSV` writes them.
        out_png: the picture.

    Raises:
        FileNotFoundError: no such metrics file.
        ValueError: the file cannot be read, or has nothing that could be drawn.
    """
    rows = read_metrics(csv_path)
    measured = dict.fromkeys(name for _, row in sorted(rows.items()) for name in row)
    terms = [n for n in measured if n.startswith("train/") and n not in ("train/loss", "train/online_top1")]
    panels = [
        ("top-1 on validation images (%)", {"online/top1": "online classifier", "knn/top1": "k-NN"}),
        ("training loss", {"train/loss": "loss"} | {n: n.removeprefix("train/").replace("_", " ") for n in terms}),
        ("effective rank of features", {"spectrum/effective_rank": ""}),
    ]
    drawable = [(title, {n: t for n, t in lines.items() if n in measured}) for title, lines in panels]
    drawable = [(title, lines) for title, lines in drawable if lines]
    if not drawable:
        raise ValueError(f"{csv_path} holds nothing to draw: no accuracy, loss or effective rank in any epoch")
    with mpl.rc_context(_LOOK):
        figure = Figure(figsize=(4.8 * len(drawable), 4.2), layout="constrained")
        figure.get_layout_engine().set(wspace=0.06)
        for axes, (title, lines) in zip(figure.subplots(1, len(drawable), squeeze=False)[0], drawable, strict=True):
            _draw_lines(axes, rows, lines)
            axes.set_title(title, fontsize=13, loc="left")
            if "train/loss" in lines:
                _set_loss_scale(axes)
        _save(figure, out_png)


def draw_confusion(confusion: Sequence[Sequence[int]], class_names: Sequence[str], out_png: str | Path) -> None:
    """Draw a confusion matrix in percent of each true class.

    Up to 20 classes every cell has its number; up to 120 every class its name, beyond that every n-th one.

    Args:
        confusion: ``(C, C)`` counts, true classes in rows and predicted ones in columns.
        class_names: C names.
        out_png: the picture.

    Raises:
        ValueError: the matrix is not square or does not fit the names.
    """
    counts = np.asarray(confusion, dtype=float)
    classes = len(class_names)
    if counts.shape != (classes, classes):
        raise ValueError(f"{classes} class names need a {classes} x {classes} confusion matrix, got {counts.shape}")
    percent = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = min(max(4.5, 0.55 * classes), 16.0)
    fontsize = min(13.0, max(5.0, 72 * 0.7 * side / classes))
    every = math.ceil(classes / 120)
    with mpl.rc_context({"font.size": 13, "text.parse_math": False}):  # a name may have dollars in it
        ticks = range(0, classes, every)
        names = _shortened(class_names[::every], 32)
        beside = max(map(len, names), default=0) * fontsize * 0.6 / 72  # inches
        figure = Figure(figsize=(side + 1.6 + beside, side + 1.1 + beside), layout="constrained")
        axes = figure.subplots()
        image = axes.imshow(percent, cmap="Blues", vmin=0, vmax=100)
        axes.set_xticks(ticks, names, rotation=90, fontsize=fontsize)
        axes.set_yticks(ticks, names, fontsize=fontsize)
        axes.set_xlabel("predicted class")
        axes.set_ylabel("true class")
        if classes <= 20:
            for (row, column), value in np.ndenumerate(percent):
                if counts[row, column]:
                    colour = "white" if value > 55 else "black"
                    axes.text(
                        column, row, f"{value:.0f}" if value >= 0.5 else "<1", ha="center", va="center", color=colour
                    )
        figure.colorbar(image, ax=axes, label="% of the true class", fraction=0.04)
        _save(figure, out_png, cut=True)  # names of any length leave room that is not known before


class Tile(NamedTuple):
    """One picture of many.

    Attributes:
        image: ``(C, H, W)`` with one channel or three, in [0, 1].
        caption: lines to stand below it.
        boxes: outlines to draw on it: top, left, height and width in pixels; the n-th in the n-th view's colour.
    """

    image: np.ndarray
    caption: str
    boxes: Sequence[tuple[float, float, float, float]] = ()


def draw_views(rows: Sequence[Sequence[Tile]], titles: Sequence[str], out_png: str | Path) -> None:
    """Draw images with the views made of them: a row an image, the first tile the image, then a tile a view.

    A view's frame has the colour of its crop's outline on the image, and larger views are drawn larger.

    Args:
        rows: tiles, as many in each row.
        titles: a title for each column; its lines after the first stand in small print.
        out_png: the picture.
    """
    side, caption, gap = 1.8, 0.68, 0.14  # inches
    head = 0.35 + 0.12 * max(title.count("\n") for title in titles)
    columns = len(titles)
    width, height = columns * (side + gap) + gap, head + len(rows) * (side + caption)
    figure = Figure(figsize=(width, height))
    largest = max(max(tile.image.shape[1:]) for row in rows for tile in row[1:])
    for column, title in enumerate(titles):
        left = gap + column * (side + gap)
        first, *more = title.split("\n")
        figure.text(left / width, 1 - 0.1 / height, first, fontsize=9, va="top", weight="bold")
        figure.text(left / width, 1 - 0.28 / height, "\n".join(more), fontsize=7, va="top")
        for number, row in enumerate(rows):
            tile = row[column]
            pixels = max(tile.image.shape[1:])
            longest = side if column == 0 else side * max(0.4, pixels / largest)
            tall, wide = (longest * n / pixels for n in tile.image.shape[1:])
            top = head + number * (side + caption)
            axes = figure.add_axes((left / width, 1 - (top + tall) / height, wide / width, tall / height))
            shown = np.moveaxis(tile.image, 0, 2)
            axes.imshow(shown if shown.shape[2] == 3 else shown[..., 0], cmap="gray", vmin=0, vmax=1)
            axes.set(xticks=[], yticks=[])
            for i, (row_from, column_from, rows_high, columns_wide) in enumerate(tile.boxes):
                at = (column_from - 0.5, row_from - 0.5)
                edge = {"edgecolor": _VIEW_COLOURS[i % len(_VIEW_COLOURS)], "linewidth": 1.4, "facecolor": "none"}
                axes.add_patch(Rectangle(at, columns_wide, rows_high, clip_on=False, **edge))
            for spine in axes.spines.values():
                spine.set(
                    color=_VIEW_COLOURS[(column - 1) % len(_VIEW_COLOURS)] if column else "#999999",
                    linewidth=2 if column else 0.8,
                )
            figure.text(left / width, 1 - (top + tall + 0.06) / height, tile.caption, fontsize=7, va="top")
    _save(figure, out_png)


def draw_features(
    features: np.ndarray,
    labels: Sequence[int],
    class_names: Sequence[str],
    out_png: str | Path,
    *,
    method: Literal["pca", "umap"] = "pca",
    name: str | None = None,
    accuracy: float | None = None,
    unlabelled: int | None = None,
    seed: int = 0,
) -> None:
    """Draw features as points in the plane, coloured by class.

    Up to 20 classes have a legend; more have a colour bar over the numbers of the classes, whose names would not fit.
    Unlabelled points are counted in the legend.

    Args:
        features: ``(N, F)``; an array or a tensor on the CPU.
        labels: ``(N,)``; points with -1, unlabelled, are grey and lie below the others.
        class_names: the classes, in the order of their labels; empty where all points are unlabelled.
        out_png: the picture.
        method: ``pca``, the two principal components; or ``umap`` (McInnes et al. 2018,
            https://arxiv.org/abs/1802.03426; cosine distance, 15 neighbours), which keeps neighbourhoods and needs the
            extra ``umap``.
        name: what the features are, for the title.
        accuracy: percent, for the title: ``top-1 91.2 %``.
        unlabelled: how many unlabelled images the points stand for, for the legend; None: as many as there are points.
        seed: of UMAP, and of the order in which points are drawn.

    Raises:
        ImportError: ``umap`` is asked for and not installed.
        ValueError: fewer than three points, shapes that do not fit, a label without a name, features that are not
            finite, or an unknown method.
    """
    x, y = np.asarray(features, dtype=np.float64), np.asarray(labels)
    if x.ndim != 2 or y.shape != x.shape[:1] or len(x) < LEAST_DRAWN:
        raise ValueError(
            f"a picture needs features (N, F), N at least {LEAST_DRAWN}, and labels (N,): got {x.shape} and {y.shape}"
        )
    if y.max() >= len(class_names):
        raise ValueError(f"there is a label {y.max()}, and there are only {len(class_names)} class names")
    if not np.isfinite(x).all():
        raise ValueError("the features are not finite: the backbone has diverged")
    if method == "pca":
        points, axis_names = _principal_components(x)
    elif method == "umap":
        points, axis_names = _umap(x, seed), ("UMAP 1", "UMAP 2")
    else:
        raise ValueError(f"method is {method!r}: it must be pca or umap")
    order = np.random.default_rng(seed).permutation(len(y))  # no class lies on top of all others
    order = np.concatenate([order[y[order] < 0], order[y[order] >= 0]])
    classes = len(class_names)
    colours = _class_colours(classes)
    shown = np.array([to_rgba(colour) for colour in (*colours, _UNLABELLED)])[y[order]]
    keys = list(zip(colours, _shortened(class_names, 24), strict=True)) if classes <= _LEGEND_CLASSES else []
    if grey := int((y < 0).sum()):
        among = "" if unlabelled in (None, grey) else f" of {unlabelled:,}"
        keys.append((_UNLABELLED, f"unlabelled ({grey:,}{among})"))
    title = ", ".join([*([name] if name else []), *([f"top-1 {accuracy:.1f} %"] if accuracy is not None else [])])
    with mpl.rc_context(_LOOK | {"axes.grid": False, "text.parse_math": False}):  # a name may have dollars in it
        beside = 0.8 + 0.09 * max(len(label) for _, label in keys) if classes <= _LEGEND_CLASSES else 1.0
        figure = Figure(figsize=(6.2 + beside, 6.2), layout="constrained")
        axes = figure.subplots()
        size = min(40.0, max(2.0, 24000 / len(y)))
        axes.scatter(*points[order].T, s=size, c=shown, alpha=0.85, linewidths=0, rasterized=True)
        axes.set(xlabel=axis_names[0], ylabel=axis_names[1], xticks=[], yticks=[], box_aspect=1)
        if method == "pca":
            axes.set_aspect("equal", adjustable="datalim")
        axes.set_title(textwrap.fill(title, 62, break_on_hyphens=False), fontsize=13, loc="left")
        if keys:
            entries = [axes.scatter([], [], s=60, color=colour, label=label) for colour, label in keys]
            place = "outside right center" if classes <= _LEGEND_CLASSES else "outside lower right"
            figure.legend(handles=entries, loc=place, fontsize=12, handletextpad=0.2)
        if classes > _LEGEND_CLASSES:
            scale = ScalarMappable(Normalize(-0.5, classes - 0.5), ListedColormap(colours))
            figure.colorbar(scale, ax=axes, label="number of the class", fraction=0.04)
        _save(figure, out_png)


def _shortened(names: Sequence[str], most: int) -> list[str]:
    """Names of so many characters at most."""
    return [name if len(name) <= most else f"{name[: most - 1]}…" for name in map(str, names)]


def _principal_components(x: np.ndarray) -> tuple[np.ndarray, tuple[str, str]]:
    """The two largest principal components ``(N, 2)``, and what they are called, with their share of the variance."""
    centred = x - x.mean(0)
    variances, axes = np.linalg.eigh(centred.T @ centred)
    total = max(float(variances.sum()), np.finfo(float).tiny)
    shares = [max(0.0, float(value)) / total for value in (*variances[::-1][:2], 0.0)]
    points = centred @ axes[:, ::-1][:, :2]
    if points.shape[1] == 1:
        points = np.column_stack([points, np.zeros(len(points))])
    signs = np.where(points[np.abs(points).argmax(0), [0, 1]] < 0, -1.0, 1.0)  # of two mirror images always the same
    return points * signs, tuple(
        f"principal component {i + 1} ({100 * shares[i]:.1f} % of the variance)" for i in (0, 1)
    )


def _umap(x: np.ndarray, seed: int) -> np.ndarray:
    """Two dimensions ``(N, 2)`` by UMAP, the same for the same seed."""
    try:
        from umap import UMAP
    except ImportError as error:
        raise ImportError(
            "UMAP is not installed: pip install 'solo-frossl[umap]', or draw principal components (method pca)"
        ) from error
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="n_jobs value")  # one thread is the price of a seed
        return UMAP(n_neighbors=min(15, len(x) - 1), metric="cosine", random_state=seed).fit_transform(x)


def _class_colours(classes: int) -> list[tuple[float, ...]]:
    """Colours told apart as well as their number allows; many go along the rainbow."""
    if classes <= _LEGEND_CLASSES:
        palette = mpl.colormaps["tab10" if classes <= 10 else "tab20"].colors[:classes]
        return [to_rgb(_FOR_GREYS.get(to_hex(colour), colour)) for colour in palette]
    return list(mpl.colormaps["turbo"](np.linspace(0.02, 0.98, classes)))


def _draw_lines(axes: Axes, rows: Rows, lines: dict[str, str]) -> None:
    for i, (name, label) in enumerate(lines.items()):
        points = {epoch + 1: row[name] for epoch, row in sorted(rows.items()) if math.isfinite(row.get(name, math.nan))}
        style = _STYLES[i % len(_STYLES)]
        axes.plot(points.keys(), points.values(), label=label, markevery=max(1, len(points) // 12), **style)
    last = max(rows) + 1
    axes.set_xlabel("epochs trained")
    axes.set_xlim(min(0.5, 1 - 0.03 * last), last + max(0.5, 0.03 * last))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
    if len(lines) > 1:
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=len(lines), fontsize=12, columnspacing=1.2)


def _set_loss_scale(axes: Axes) -> None:
    """A logarithmic scale where positive terms differ by orders of magnitude, lest the small ones be a flat line."""
    values = [float(value) for line in axes.lines for value in line.get_ydata()]
    if values and min(values) > 0 and max(values) > 50 * min(values):
        axes.set_yscale("log")


def _save(figure: Figure, path: str | Path, *, cut: bool = False) -> None:
    """Write the picture, atomically; cut: without what is empty around it."""
    FigureCanvasAgg(figure)
    with replacing(path) as part:
        figure.savefig(part, format="png", dpi=120, **({"bbox_inches": "tight", "pad_inches": 0.1} if cut else {}))

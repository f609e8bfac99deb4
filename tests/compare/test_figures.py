"""The figures for a paper: everything is inside, apart and can be seen."""

from itertools import combinations
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from made_up_runs import config, metrics, write_run, write_spectra
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex

from solo_frossl.compare import figures, read_run
from solo_frossl.compare.comparison import compare_runs
from solo_frossl.compare.figures import figures_of
from solo_frossl.compare.read import Run

NAMES = ("frossl", "simclr", "a_method", "my_module.AMethodWithAnExtremelyLongNameWithoutASpaceInIt")


def runs(count, epochs=4, prefix="method_of_some_length"):
    """Runs of so many methods, from memory."""
    names = [*NAMES, *(f"{prefix}_{number}" for number in range(count))][:count]
    rows = {epoch + 1: row for epoch, row in metrics("frossl", 0, epochs).items()}
    return [Run(Path(name), config(name, 0, epochs), rows) for name in names]


def drawn(runs):
    """The laid-out figures of runs on one dataset, by name."""
    (part,) = compare_runs(runs).parts
    numbers = {group.label: number for number, group in enumerate(part.groups)}
    return figures_of(part, numbers)


def box(figure, artist):
    return artist.get_window_extent(figure.canvas.get_renderer())


@pytest.fixture(scope="module")
def seven():
    """Seven methods."""
    return drawn(runs(7))


@pytest.fixture(scope="module")
def two():
    """Two methods, the second with terms that lie far apart."""
    near, far = runs(2)
    terms = {"train/loss": 5.0, "train/on_diagonal": 1e3, "train/off_diagonal": 1e5}
    return drawn([near, Run(far.folder, far.config, {e: far.metrics[e] | terms for e in (1, 2)})])


@pytest.mark.parametrize(
    "figures", ["two", pytest.param("seven", marks=pytest.mark.slow), pytest.param(21, marks=pytest.mark.slow)]
)
def test_the_legend_is_inside_and_names_every_method(request, figures):
    count = {"two": 2, "seven": 7}.get(figures, figures)
    figures = drawn(runs(count)) if count == figures else request.getfixturevalue(figures)
    for name in ("accuracy", "rank"):
        figure = figures[name]
        (legend,) = figure.legends
        assert len(legend.get_texts()) == count
        for text in [*legend.get_texts(), legend]:
            inner = box(figure, text)
            assert inner.x0 >= 0
            assert inner.x1 <= figure.bbox.width
            assert inner.y0 >= 0
        assert min(box(figure, axes).y0 for axes in figure.axes) > box(figure, legend).y1
        assert min(box(figure, axes).height for axes in figure.axes) > figure.dpi  # an inch is left for the curves


def test_the_legend_is_as_wide_in_a_file_as_when_it_is_laid_out(two):
    figure = two["accuracy"]
    (legend,) = figure.legends
    widths = []
    with mpl.rc_context(figures._LOOK):
        for figure.dpi in (72, mpl.rcParams["savefig.dpi"], 100):
            inner = legend.get_window_extent(FigureCanvasAgg(figure).get_renderer())
            widths.append(inner.width / figure.bbox.width)
    assert max(widths) - min(widths) < 2e-3


@pytest.mark.slow
def test_no_key_of_a_loss_hides_its_curves(seven, two):
    for figure in (seven["loss"], two["loss"]):
        boxes = [box(figure, axes.get_legend()) for axes in figure.axes]
        panels = [box(figure, axes) for axes in figure.axes]
        assert not any(key.overlaps(panel) for key in boxes for panel in panels)
        assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
        assert min(key.x0 for key in boxes) >= 0
        assert max(key.x1 for key in boxes) <= figure.bbox.width
        assert min(panel.height for panel in panels) > figure.dpi


def test_short_names_share_a_row(two):
    (legend,) = two["accuracy"].legends
    assert legend._ncols == 2


@pytest.mark.parametrize("name", ["loss", "eigenvalues-embeddings", "rank"])
def test_titles_are_inside_and_apart(seven, name):
    figure = seven[name]
    titles = [axes.title if axes.get_title() else axes._left_title for axes in figure.axes]
    boxes = [box(figure, title) for title in titles if title.get_text()]
    assert len(boxes) == (4 if name == "rank" else 7)
    assert max(inner.x1 for inner in boxes) <= figure.bbox.width
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
    below = [box(figure, axes) for axes in figure.axes]
    assert not any(title.overlaps(panel) for title in boxes for panel in below)


def test_terms_that_lie_far_apart_are_on_a_logarithmic_axis(two):
    assert [axes.get_yscale() for axes in two["loss"].axes] == ["linear", "log"]


def test_a_single_point_is_a_dot_and_its_axis_has_whole_numbers(tmp_path):
    folder = write_run(tmp_path / "run", epochs=1, spectra=False)
    write_spectra(folder / "spectrum.bin", steps=5, every=5, steps_an_epoch=40)
    figures = drawn([read_run(folder, config("frossl", 0, 1))])
    for name in ("accuracy", "rank", "loss", "eigenvalues-features"):
        axes = figures[name].axes[0]
        for line in axes.lines:
            assert len(line.get_xdata()) == 1
            assert line.get_marker() not in ("", "None", None)
        low, high = axes.get_xlim()
        ticks = [tick for tick in axes.get_xticks() if low <= tick <= high]
        assert len(ticks) >= 1
        assert np.array_equal(ticks, np.round(ticks))


def test_the_colours_of_the_eigenvalues_have_a_key(seven):
    figure = seven["eigenvalues-embeddings"]
    key = figure.axes[-1]
    assert [label.get_text() for label in key.get_yticklabels()] == [r"$\lambda_1$", r"$\lambda_{14}$"]
    shown = [to_hex(colour) for colour in key._colorbar.mappable.to_rgba(range(1, 15))]
    assert shown == [line.get_color() for line in figure.axes[0].lines]
    assert key.get_ylim()[0] > key.get_ylim()[1]  # the first on top

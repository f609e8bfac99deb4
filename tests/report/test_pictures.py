import math
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from solo_frossl.report import Tile, draw_confusion, draw_curves, draw_features, draw_views, pictures
from solo_frossl.run_files import write_metrics


def metrics(epochs):
    return {
        e: {
            "train/loss": -float(e),
            "train/variance": -2.0 * e,
            "train/off_diagonal": float(e),
            "train/online_top1": 50.0,
            "online/top1": 60.0 + e,
            "online/top5": 90.0,
            "spectrum/effective_rank": 5.0,
            "images_per_second": 100.0,
        }
        | ({"knn/top1": 70.0} if e % 2 else {})
        for e in range(epochs)
    }


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were saved."""
    figures: list[Figure] = []
    save = pictures._save
    monkeypatch.setattr(pictures, "_save", lambda *what, **how: (figures.append(what[0]), save(*what, **how)))
    return figures


def lines_of(axes):
    return {line.get_label(): list(zip(line.get_xdata(), line.get_ydata(), strict=True)) for line in axes.lines}


def test_shows_what_the_run_measured(tmp_path, drawn):
    write_metrics(tmp_path / "m.csv", metrics(4))
    draw_curves(tmp_path / "m.csv", tmp_path / "sub" / "curves.png")
    accuracy, loss, rank = map(lines_of, drawn[0].axes)
    assert accuracy["online classifier"] == [(1, 60), (2, 61), (3, 62), (4, 63)]
    assert accuracy["k-NN"] == [(2, 70), (4, 70)]
    assert set(loss) == {"loss", "variance", "off diagonal"}
    assert len(rank) == 1
    assert [p.name for p in (tmp_path / "sub").iterdir()] == ["curves.png"]
    with Image.open(tmp_path / "sub" / "curves.png") as image:
        assert image.size[0] > 1000


@pytest.mark.parametrize("epochs", [1, 2, 700])
def test_any_number_of_epochs(tmp_path, drawn, epochs):
    write_metrics(tmp_path / "m.csv", metrics(epochs))
    draw_curves(tmp_path / "m.csv", tmp_path / "curves.png")
    left, right = drawn[0].axes[0].get_xlim()
    assert left < 1 <= epochs < right


def test_leaves_out_what_is_missing(tmp_path, drawn):
    write_metrics(
        tmp_path / "m.csv", {2: {"train/loss": 1.0}, 3: {"train/loss": math.nan}, 4: {"train/loss": math.inf}}
    )
    draw_curves(tmp_path / "m.csv", tmp_path / "curves.png")
    assert [lines_of(axes) for axes in drawn[0].axes] == [{"loss": [(3, 1.0)]}]


def test_terms_of_different_magnitude_are_drawn_logarithmically(tmp_path, drawn):
    barlow = {e: {"train/loss": 20.0 / (e + 1), "train/off_diagonal": 4000.0 / (e + 1)} for e in range(3)}
    for name, rows in {"barlow": barlow, "frossl": metrics(3)}.items():
        write_metrics(tmp_path / f"{name}.csv", rows)
        draw_curves(tmp_path / f"{name}.csv", tmp_path / f"{name}.png")
    assert drawn[0].axes[0].get_yscale() == "log"
    assert [axes.get_yscale() for axes in drawn[1].axes] == ["linear"] * 3


def test_curves_can_be_told_apart_without_colour(tmp_path, drawn):
    write_metrics(tmp_path / "m.csv", metrics(3))
    draw_curves(tmp_path / "m.csv", tmp_path / "curves.png")
    styles = [(line.get_linestyle(), line.get_marker()) for line in drawn[0].axes[1].lines]
    assert len(set(styles)) == len(styles) == 3


def test_nothing_to_draw(tmp_path):
    write_metrics(tmp_path / "m.csv", {0: {"images_per_second": 3.0}})
    with pytest.raises(ValueError, match=r"m\.csv holds nothing to draw"):
        draw_curves(tmp_path / "m.csv", tmp_path / "curves.png")
    with pytest.raises(FileNotFoundError):
        draw_curves(tmp_path / "none.csv", tmp_path / "curves.png")


@pytest.mark.slow
@pytest.mark.parametrize("classes", [2, 10, 100])
def test_confusion_names_every_class_and_cuts_no_label_off(tmp_path, drawn, classes):
    names = [f"a rather long class name {c}" for c in range(classes)]
    counts = np.eye(classes, dtype=int) * 7
    counts[0, 1] = 21
    draw_confusion(counts.tolist(), names, tmp_path / "confusion.png")
    axes = drawn[0].axes[0]
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        assert [label.get_text() for label in labels] == names
        assert min(label.get_fontsize() for label in labels) >= 5
    assert axes.images[0].get_array()[0, :2].tolist() == [25, 75]  # percent of the true class
    cells = {text.get_text() for text in axes.texts}
    assert cells == ({"25", "75", "100"} if classes <= 20 else set())
    with Image.open(tmp_path / "confusion.png") as image:
        border = np.asarray(image.convert("L"))
    edges = np.concatenate([border[:3].ravel(), border[-3:].ravel(), border[:, :3].ravel(), border[:, -3:].ravel()])
    assert edges.min() == 255  # white: nothing reaches the edge
    sides = (border[:30], border[-30:], border[:, :30], border[:, -30:])
    assert max(side.min() for side in sides) < 255  # nor is there an empty band
    assert max(image.size) < 3000


def test_confusion_of_a_class_without_images(tmp_path):
    draw_confusion([[0, 0], [1, 3]], ["empty", "full"], tmp_path / "confusion.png")


def test_confusion_that_does_not_fit_its_names(tmp_path):
    with pytest.raises(ValueError, match=r"3 class names need a 3 x 3 confusion matrix, got \(2, 2\)"):
        draw_confusion([[1, 0], [0, 1]], ["a", "b", "c"], tmp_path / "confusion.png")


@pytest.mark.slow
@pytest.mark.parametrize(("number", "sizes"), [(1, [8, 8]), (3, [224, 224, *[96] * 6]), (8, [32, 10])])
def test_views_stand_apart_with_all_their_words(tmp_path, drawn, number, sizes):
    words = "crop 188 x 188 px (100 %), flipped\nbrightness 0.52, saturation 1.62\ncontrast 0.86, hue +0.14\ngrey"
    boxes = [(0.0, 0.0, 3.0, 4.0)] * len(sizes)
    row = [Tile(np.zeros((3, 20, 30)), "number 1, cat", boxes), *(Tile(np.ones((1, s, s)) / 2, words) for s in sizes)]
    titles = ["image", *(f"view {i + 1}: asymmetric\n{s} px\ncrop_scale (0.14, 1.0)" for i, s in enumerate(sizes))]
    draw_views([row] * number, titles, tmp_path / "v.png")
    figure = drawn[0]
    assert len(figure.axes) == number * (1 + len(sizes))
    assert [len(axes.patches) for axes in figure.axes[::number][:2]] == [len(sizes), 0]
    renderer = figure.canvas.get_renderer()
    boxes = [
        artist.get_window_extent(renderer) for artist in (*figure.axes, *(t for t in figure.texts if t.get_text()))
    ]
    for i, box in enumerate(boxes):
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= figure.bbox.x1
        assert box.y1 <= figure.bbox.y1
        assert not any(box.overlaps(other) for other in boxes[:i])


def clusters(classes, count=300, dimensions=6):
    """Features of well-separated classes, some of them unlabelled."""
    g = np.random.default_rng(0)
    labels = np.arange(count) % classes
    features = 5 * g.normal(size=(classes, dimensions))[labels] + g.normal(size=(count, dimensions))
    return features, np.where(np.arange(count) % 7 == 0, -1, labels)


def inside(figure):
    """Whether all words lie within the picture, none of them on another, and the legend beside the points."""
    figure.draw_without_rendering()  # it was laid out for the resolution of the file
    renderer = figure.canvas.get_renderer()
    axes = figure.axes[0]
    texts = [axes.title, axes._left_title, axes.xaxis.label, axes.yaxis.label]
    texts += [text for legend in figure.legends for text in legend.get_texts()]
    texts += [bar.yaxis.label for bar in figure.axes[1:]]
    boxes = [text.get_window_extent(renderer) for text in texts if text.get_text()]
    within = all(b.x0 >= 0 and b.y0 >= 0 and b.x1 <= figure.bbox.x1 and b.y1 <= figure.bbox.y1 for b in boxes)
    beside = not any(legend.get_window_extent(renderer).overlaps(axes.bbox) for legend in figure.legends)
    return within and beside and not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


@pytest.mark.parametrize("classes", [2, 10, 20, 100])
def test_features_with_a_legend_or_a_colour_bar(tmp_path, drawn, classes):
    names = [f"a class with a long name, number {i}" for i in range(classes)]
    out = tmp_path / "sub" / "features.png"
    draw_features(*clusters(classes), names, out, name="zoo:" + "frossl-resnet18 " * 5, accuracy=91.23)
    (figure,) = drawn
    axes = figure.axes[0]
    assert axes.get_title(loc="left").replace("\n", " ").endswith("top-1 91.2 %")
    assert len(axes.collections[0].get_offsets()) == 300
    colours = axes.collections[0].get_facecolors()[:, :3]
    assert len(np.unique(colours, axis=0)) == classes + 1  # and grey
    assert colours[42].tolist() == colours[0].tolist() == pytest.approx([0.741] * 3, abs=1e-3)  # drawn below the others
    hues = np.unique(colours[43:], axis=0)
    assert not any(0 < hue.min() == hue.max() for hue in hues)  # no class is grey
    labels = [f"{name[:23]}…" for name in names] if classes <= 20 else []
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [*labels, "unlabelled (43)"]
    if classes > 20:
        assert figure.axes[1].get_ylabel() == "number of the class"
    assert inside(figure)
    assert [path.name for path in out.parent.iterdir()] == ["features.png"]


def test_principal_components_are_those_of_the_svd(tmp_path, drawn):
    features, labels = clusters(3)
    draw_features(features, labels, ["a", "b", "c"], tmp_path / "f.png")
    axes = drawn[0].axes[0]
    centred = features - features.mean(0)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    expected = np.abs(u[:, :2] * s[:2])
    points = np.abs(axes.collections[0].get_offsets())
    np.testing.assert_allclose(np.sort(points, axis=0), np.sort(expected, axis=0), atol=1e-8)
    share = 100 * s[0] ** 2 / np.square(s).sum()
    assert axes.get_xlabel() == f"principal component 1 ({share:.1f} % of the variance)"
    assert axes.get_title(loc="left") == ""


@pytest.mark.parametrize("unlabelled", [None, 7, 20_000])
def test_features_of_which_none_has_a_label(tmp_path, drawn, unlabelled):
    features, _ = clusters(3)
    draw_features(features[:7], [-1] * 7, [], tmp_path / "f.png", unlabelled=unlabelled)
    (text,) = drawn[0].legends[0].get_texts()
    assert text.get_text() == ("unlabelled (7 of 20,000)" if unlabelled == 20_000 else "unlabelled (7)")
    assert inside(drawn[0])


@pytest.mark.parametrize("features", [np.ones((5, 3)), np.arange(5.0)[:, None]])
def test_features_of_one_dimension_or_none(tmp_path, drawn, features):
    draw_features(features, np.arange(5) % 2, ["a", "b"], tmp_path / "f.png")
    assert "0.0 %" in drawn[0].axes[0].get_ylabel()


def test_bad_features_are_refused(tmp_path, monkeypatch):
    features, labels = clusters(3)
    for bad, message in (
        (lambda: draw_features(features[:2], labels[:2], "abc", tmp_path / "f.png"), "N at least 3"),
        (lambda: draw_features(features, labels[:5], "abc", tmp_path / "f.png"), "labels"),
        (lambda: draw_features(features, labels, "ab", tmp_path / "f.png"), "label 2, and there are only 2"),
        (lambda: draw_features(features / 0, labels, "abc", tmp_path / "f.png"), "not finite"),
        (lambda: draw_features(features, labels, "abc", tmp_path / "f.png", method="tsne"), "method is 'tsne'"),
    ):
        with pytest.raises(ValueError, match=message), np.errstate(all="ignore"):
            bad()
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(ImportError, match=r"pip install 'solo-frossl\[umap\]', or draw principal components"):
        draw_features(features, labels, "abc", tmp_path / "f.png", method="umap")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_umap_keeps_classes_apart(tmp_path, drawn):
    features, labels = clusters(3, count=90)
    for _ in range(2):
        draw_features(features, labels, ["a", "b", "c"], tmp_path / "f.png", method="umap", seed=1)
    points, again = (np.asarray(figure.axes[0].collections[0].get_offsets()) for figure in drawn)
    np.testing.assert_array_equal(points, again)
    assert drawn[0].axes[0].get_xlabel() == "UMAP 1"
    colours = drawn[0].axes[0].collections[0].get_facecolors()[:, :3]
    distances = np.linalg.norm(points[:, None] - points, axis=2) + 1e9 * np.eye(len(points))
    labelled = ~np.isclose(colours, 189 / 255).all(1)
    nearest = distances[:, labelled].argmin(1)
    same = np.isclose(colours, colours[labelled][nearest]).all(1)
    assert same[labelled].mean() > 0.95

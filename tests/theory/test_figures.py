"""The figures of the theory: what is computed agrees, is written whole, and is drawn so that it can be read."""

import csv
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from solo_frossl.theory.figures import (
    FIGURES,
    Curve,
    Panel,
    TheoryFigure,
    draw,
    read_images,
    read_two_classes,
    write_csv,
)
from solo_frossl.theory.figures.figure import at_least, drawing
from solo_frossl.theory.figures.frossl import effective_start, fig2, kin, noisy_modes
from solo_frossl.theory.figures.images import two_digits
from solo_frossl.theory.linear_regime import frossl_growth


def figure(*curves, **options):
    panel = Panel("one", "time", "value", curves, **options)
    return TheoryFigure("name", "A title", "claimed", "measured", (panel, replace(panel, title="two")))


def line(name="a", source="gradient descent"):
    return Curve(name, source, np.arange(5.0), np.arange(5.0) ** 2)


def nothing(_):
    pass


@pytest.fixture(scope="module")
def images():
    return read_images(None, 0, count=1024)


def colours(random, shape=(20, 30, 3)):
    return Image.fromarray(random.integers(0, 255, shape, dtype=np.uint8))


def image_folder(root, **classes):
    """Images of noise, so many a class; class ``_`` is the folder itself."""
    random = np.random.default_rng(0)
    for name, count in classes.items():
        folder = root if name == "_" else root / name
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            colours(random).save(folder / f"{number}.png")
    return root


class TestData:
    def test_csv_has_every_point_of_every_curve(self, tmp_path):
        shown = figure(line(), line("b", "equation"))
        write_csv(shown, tmp_path / "f.csv")
        rows = list(csv.DictReader((tmp_path / "f.csv").read_text().splitlines()))
        assert len(rows) == 2 * 2 * 5
        assert rows[7] == {"panel": "one", "curve": "b", "source": "equation", "x": "2.0", "y": "4.0"}

    def test_a_curve_s_values_are_as_many_as_its_places(self):
        with pytest.raises(ValueError, match=r"curve a \(equation\): x is \(3,\) and y \(2,\)"):
            Curve("a", "equation", np.zeros(3), np.zeros(2))

    def test_images_are_centred_and_their_first_axis_has_variance_one(self, images):
        covariance = images.x.T @ images.x / len(images.x)
        assert float(images.x.mean(0).abs().max()) < 1e-12
        assert float(np.linalg.eigvalsh(covariance.numpy())[-1]) == pytest.approx(1, rel=1e-9)

    def test_images_are_a_function_of_the_seed(self, images):
        again, other = (read_images(None, seed, count=1024) for seed in (0, 1))
        assert (images.x == again.x).all()
        assert not (images.x == other.x).all()

    @pytest.mark.parametrize("classes", [{"cat": 4, "dog": 2}, {"train/cat": 6, "val/cat": 3}, {"_": 6}])
    def test_images_come_from_any_folder(self, tmp_path, classes):
        """With classes, with one, with none; all the training images and no others."""
        found = read_images(image_folder(tmp_path, **classes), 0, count=6)
        assert found.x.shape == (6, 3 * 16 * 16)
        assert found.label.tolist() == [-1] * 6
        with pytest.raises(ValueError, match="has 6 images, and 7 are needed: give a larger folder with --data"):
            read_images(tmp_path, 0, count=7)

    def test_the_two_largest_classes_are_told_apart(self, tmp_path):
        found = read_two_classes(image_folder(tmp_path, ant=3, cat=4, dog=6, elk=6), 0, most=5, least=4)
        assert found.classes == ("dog", "elk")
        assert found.x.shape == (10, 64)
        assert found.label.tolist() == [0] * 5 + [1] * 5
        assert 0 <= float(found.x.min()) < 0.4 < 0.6 < float(found.x.max()) <= 1
        again, other = (read_two_classes(tmp_path, seed, most=5, least=4) for seed in (0, 1))
        assert (found.x == again.x).all()
        assert not (found.x == other.x).all()

    def test_grey_is_the_eyes(self, tmp_path):
        for name, colour in (("a", (255, 0, 0)), ("b", (0, 255, 0))):
            (tmp_path / name).mkdir()
            Image.new("RGB", (9, 9), colour).save(tmp_path / name / "1.png")
        found = read_two_classes(tmp_path, 0, most=1, least=1)
        torch.testing.assert_close(found.x[:, 0], torch.tensor([0.299, 0.587], dtype=torch.float64))

    def test_two_digits_are_those_asked_for(self):
        images, labels = two_digits((0, 1), most=50)
        assert images.shape == (100, 64)
        assert (float(images.min()), float(images.max())) == (0, 1)
        assert labels.tolist() == [0] * 50 + [1] * 50
        assert len(two_digits()[0]) == 357  # there are fewer than 200 of each
        with pytest.raises(ValueError, match="name two different digits"):
            two_digits((3, 3))

    def test_digits_are_told_apart_by_default(self):
        found = read_two_classes(None, 0, most=200, least=50)
        assert found.classes == ("3", "8")
        assert found.x.shape == (357, 64)
        assert found.label.bincount().tolist() == [183, 174]
        assert (float(found.x.min()), float(found.x.max())) == (0, 1)

    @pytest.mark.parametrize(
        ("classes", "found"),
        [({"_": 4}, "none"), ({"cat": 9}, r"cat \(9\)"), ({"cat": 9, "dog": 2}, r"cat \(9\), dog \(2\)")],
    )
    def test_classes_that_are_missing_are_said(self, tmp_path, classes, found):
        message = f"with 3 images or more each, and the largest class folders in .* are: {found}; give a folder like"
        with pytest.raises(ValueError, match=message):
            read_two_classes(image_folder(tmp_path, **classes), 0, most=5, least=3)

    @pytest.mark.parametrize("read", [read_images, read_two_classes])
    def test_what_cannot_be_read_is_said(self, tmp_path, read):
        options = {"count": 6} if read is read_images else {"most": 3, "least": 3}
        with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere: give a folder of images with --data"):
            read(tmp_path / "nowhere", 0, **options)
        with pytest.raises(ValueError, match="no images in"):
            read(tmp_path, 0, **options)
        image_folder(tmp_path, cat=3, dog=3)
        (tmp_path / "dog" / "1.png").write_bytes(b"no picture")
        with pytest.raises(ValueError, match=r"cannot read .*dog/1.png .*: replace or remove this file"):
            read(tmp_path, 0, **options)

    def test_images_that_are_all_the_same_are_said(self, tmp_path):
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
            Image.new("RGB", (9, 9), (5, 5, 5)).save(tmp_path / name / "1.png")
        with pytest.raises(ValueError, match=r"all images .*are the same"):
            read_images(tmp_path, 0, count=2)
        with pytest.raises(ValueError, match=r"all images .*are the same"):
            read_two_classes(tmp_path, 0, most=1, least=1)

    def test_too_many_digits(self):
        with pytest.raises(ValueError, match="has 1797 images, and 9999 are needed"):
            read_images(None, 0, count=9999)


def test_what_is_said_to_be_above_a_number_is():
    assert [at_least(x) for x in (0.99996, 0.98755, 1.0)] == ["0.9999", "0.9875", "1.0000"]


class TestDrawing:
    @pytest.mark.parametrize("options", [{}, {"log_y": True, "limits": (0.1, 20)}, {"named": False}, {"square": True}])
    def test_nothing_is_cut_off(self, tmp_path, options):
        draw(figure(line(), line("b", "closed form"), line("c", "guide"), **options), tmp_path / "f.png")
        pixels = np.asarray(Image.open(tmp_path / "f.png").convert("L"))
        assert min(pixels[0].min(), pixels[-1].min(), pixels[:, 0].min(), pixels[:, -1].min()) == 255
        assert (pixels < 128).mean() > 0.002

    def test_a_legend_stands_beside_the_rows_that_share_it(self):
        """One for two rows that are alike; none beside a row whose panels differ, which then have their own."""
        a, b, c = line("a"), line("b"), line("c")
        alike, other = Panel("one", "x", "y", (a, b)), Panel("two", "x", "y", (a, c))
        unnamed = replace(alike, named=False)

        def legends(*panels):
            shown = TheoryFigure("name", "A title", "claimed", "measured", panels)
            axes = drawing(shown).axes
            return [[text.get_text() for text in x.get_legend().get_texts()] if x.get_legend() else [] for x in axes]

        assert legends(alike, alike, alike, alike) == [[], ["a", "b"], [], []]
        assert legends(alike, alike, other, other) == [[], ["a", "b"], [], ["a", "c"]]
        assert legends(alike, other) == [["a", "b"], ["a", "c"]]
        assert legends(unnamed, unnamed, alike, alike) == [[], [], [], ["a", "b"]]
        assert legends(unnamed, alike, alike) == [[], ["a", "b"], ["a", "b"]]

    def test_a_power_of_ten_does_not_stand_in_the_titles_place(self):
        big = Curve("a", "gradient descent", np.arange(5.0), 1e8 * np.arange(5.0))
        drawn = drawing(figure(big))
        drawn.draw_without_rendering()
        axes = drawn.axes[0]
        assert axes.yaxis.get_offset_text().get_text() == ""
        assert {"0", "1.5e+08", "3e+08"} <= {label.get_text() for label in axes.get_yticklabels()}

    def test_colours_stay_apart_in_grey(self, tmp_path):
        from solo_frossl.theory.figures.figure import _colour

        grey = [np.dot(_colour(number, 5)[:3], [0.299, 0.587, 0.114]) for number in range(5)]
        assert (np.diff(grey) > 0.08).all()


class TestFroSSL:
    def test_gradient_descent_on_images_follows_the_theory(self, images):
        """Random small layers, 1024 images, noisy views: the theory knows the principal axes and the noise only."""
        shown = fig2(images, 0, nothing)
        for panel in shown.panels[2:]:
            descent = [c for c in panel.curves if c.source == "gradient descent"]
            closed = [c for c in panel.curves if c.source == "closed form"]
            for found, expected in zip(descent[:5], closed[:5], strict=True):
                half = 0.5 * min(found.y[-1], expected.y[-1])
                times = [curve.x[np.argmax(curve.y >= half)] for curve in (found, expected)]
                assert times[0] == pytest.approx(times[1], rel=0.1)
        frossl, barlow = (panel.curves[0] for panel in shown.panels[:2])
        assert frossl.x[np.argmax(frossl.y < 8)] < 0.6 * barlow.x[np.argmax(barlow.y < 2)]

    def test_noise_gives_the_modes_of_the_views(self, images):
        modes = noisy_modes(images.x, 4, noise=0.5)
        np.testing.assert_allclose(modes.first - modes.cross, 0.25)
        assert modes.cross[0] == pytest.approx(1, rel=1e-9)

    def test_every_start_is_what_the_later_ones_have_left(self, images):
        w = torch.randn(4, images.x.shape[1], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        start = effective_start((w, w), images.x)
        axes = np.linalg.eigh((images.x.T @ images.x).numpy())[1][:, ::-1][:, :4]
        columns = w.numpy() @ axes
        assert start[0] == pytest.approx(np.linalg.norm(columns[:, 0]), rel=1e-9)
        left = columns[:, 1] - columns[:, 0] * (columns[:, 0] @ columns[:, 1]) / (columns[:, 0] @ columns[:, 0])
        assert start[1] == pytest.approx(np.linalg.norm(left), rel=1e-9)

    @pytest.mark.slow
    def test_descent_equation_and_closed_form_lie_upon_each_other(self):
        for panel in kin(None, 0, nothing).panels:
            by_source = {}
            for curve in panel.curves:
                by_source.setdefault(curve.source, []).append(curve)
            for others in ("equation", "closed form"):
                for found, expected in zip(by_source["gradient descent"], by_source.get(others, []), strict=False):
                    values = np.interp(expected.x, found.x, found.y)
                    assert np.abs(values - expected.y).max() < 0.06, (panel.title, expected.name, others)


def curves(panel, source):
    return {curve.name: curve for curve in panel.curves if curve.source == source}


class TestDynamics:
    @pytest.mark.slow
    def test_descent_lies_on_the_equation(self):
        for name in ("dynamics-fig3", "dynamics-fig6"):
            for panel in FIGURES[name].compute(None, 0, nothing).panels[:3]:
                found, expected = curves(panel, "gradient descent"), curves(panel, "equation")
                assert found.keys() == expected.keys() == {"Grassmann", "projected"}
                for pair in found:
                    assert np.abs(found[pair].y - expected[pair].y).max() < 0.03
                printed = next(c for c in panel.curves if c.source == "guide")
                assert np.abs(found["Grassmann"].y - printed.y).max() > 0.2

    @pytest.mark.slow
    def test_the_output_at_the_first_eigenvector_comes_to_one_by_its_sign(self):
        """The right part of the paper's Fig. 3: of all starts, at all widths."""
        panels = FIGURES["dynamics-fig3"].compute(None, 0, nothing).panels[3:]
        assert len(panels) == 3
        for panel in panels:
            found, expected = curves(panel, "gradient descent"), curves(panel, "equation")
            assert len(found) == 4
            for name in found:
                assert np.abs(found[name].y - expected[name].y).max() < 0.03
                assert found[name].y[-1] == pytest.approx(np.sign(found[name].y[0]), abs=0.05)

    @pytest.mark.slow
    def test_outputs_come_to_span_the_first_eigenvectors(self):
        one, two, _, tanh_one, tanh_two, _ = FIGURES["dynamics-fig4"].compute(None, 0, nothing).panels
        both = {"v1", "v2"}
        for panel, spanned in ((one, {"v1"}), (two, both), (tanh_one, {"v1"}), (tanh_two, both)):
            for name, curve in curves(panel, "gradient descent").items():
                assert curve.y[-1] == pytest.approx(float(name in spanned), abs=0.02)


@pytest.mark.slow
def test_two_neurons_end_at_one_over_k_and_at_the_mean_of_their_start():
    euclidean, cosine = FIGURES["implicit-fig5"].compute(None, 0, nothing).panels
    for panel in (euclidean, cosine):
        found, expected = curves(panel, "gradient descent"), curves(panel, "equation")
        assert len(found) == 6
        for name in found:
            assert np.abs(found[name].y - expected[name].y).max() < 0.1  # of a step of 0.05, from 2
    assert [c.y[-1] for c in curves(euclidean, "equation").values()] == pytest.approx([1 / 1.01] * 6, rel=1e-3)
    ends = [c.y[-1] for c in curves(cosine, "equation").values()]
    assert ends == pytest.approx([1.05, 1.05, 0.4, 0.4, 0.85, 0.85], rel=0.03)


@pytest.mark.slow
def test_representations_follow_the_equation_of_their_modes():
    """The upper part of the paper's Fig. 2."""
    panels = FIGURES["implicit-fig2"].compute(None, 0, nothing).panels
    for panel in (*panels[:4], *panels[8:12]):
        assert panel.title.endswith("M=2")
        by_source = [curves(panel, source) for source in ("gradient descent", "equation", "points")]
        found, expected, ends = ([(c.x, c.y) for c in by_name.values()] for by_name in by_source)
        assert len(found) == len(expected) == len(ends) == 20
        for one, other, end in zip(found, expected, ends, strict=True):
            np.testing.assert_allclose(np.array(one)[:, -1], np.array(other)[:, -1], atol=0.03)
            assert (np.array(end)[:, -1] == np.array(one)[:, -1]).all()


@pytest.mark.slow
def test_the_speed_up_is_one_plus_one_over_rho_from_the_same_share_of_the_limit():
    by_rho, by_size = FIGURES["frossl-speedup"].compute(None, 0, nothing).panels
    exact = curves(by_rho, "measured")["from the same share of the limit"]
    np.testing.assert_allclose(exact.y, 1 + 1 / exact.x, rtol=0.005)
    for panel in (by_rho, by_size):
        for name, found in curves(panel, "measured").items():
            closed = curves(panel, "closed form")[name]
            np.testing.assert_allclose(found.y, np.interp(found.x, closed.x, closed.y), rtol=0.005)


@pytest.mark.slow
@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_whole_and_tells_its_progress(name, tmp_path):
    told, read = [], FIGURES[name].images
    shown = FIGURES[name].compute(read(None, 0) if read else None, 0, told.append)
    assert sum(told) == FIGURES[name].steps
    assert shown.name == name
    assert all((shown.title, shown.claim, shown.measured, shown.panels))
    assert len({panel.title for panel in shown.panels}) == len(shown.panels)
    for panel in shown.panels:
        assert panel.x
        assert panel.y
        for curve in panel.curves:
            assert np.isfinite(curve.y).all()
            assert len(curve.x) > 1
        assert len({(curve.name, curve.source) for curve in panel.curves}) == len(panel.curves)
    draw(shown, tmp_path / "f.png")
    pixels = np.asarray(Image.open(tmp_path / "f.png").convert("L"))
    assert min(pixels[0].min(), pixels[-1].min(), pixels[:, 0].min(), pixels[:, -1].min()) == 255
    assert not overlapping(drawing(shown))


def overlapping(drawn):
    """Texts of a figure that lie upon each other: titles, axes' names, legends beside the panels."""
    drawn.draw_without_rendering()
    boxes = []
    for axes in drawn.axes:
        texts = [axes._left_title, axes.xaxis.label, axes.yaxis.label]
        boxes += [(text.get_text(), text.get_window_extent()) for text in texts]
        legend = axes.get_legend()
        if legend and legend.get_window_extent().x0 > axes.get_window_extent().x1:
            boxes.append(("legend", legend.get_window_extent()))
    return [(a, b) for k, (a, one) in enumerate(boxes) for b, other in boxes[:k] if one.overlaps(other)]


@pytest.mark.slow
def test_fig_5_takes_images_of_a_folder(tmp_path):
    """Bright against dark, which a linear SVM tells apart."""
    random = np.random.default_rng(0)
    for name, least in (("bright", 120), ("dark", 0)):
        (tmp_path / name).mkdir()
        for number in range(60):
            pixels = random.integers(least, least + 130, (10, 12, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    entry = FIGURES["dynamics-fig5"]
    shown = entry.compute(entry.images(tmp_path, 0), 0, nothing)
    assert "On 60 held-out images" in shown.measured
    assert "bright against dark" in shown.measured
    accuracy = curves(shown.panels[1], "measured")
    assert accuracy["tanh network"].y[-1] > 90
    assert "bright against dark" in shown.panels[1].title


def test_the_growth_of_frossl_is_drawn_to_its_end(images):
    """The last of the ten eigenvalues has risen by the end of the figure."""
    modes = noisy_modes(images.x)
    assert frossl_growth(modes).limit.min() > 0
    eigenvalues = [c for c in fig2(images, 0, nothing).panels[2].curves if c.source == "gradient descent"]
    assert eigenvalues[-1].y[-1] > 0.5

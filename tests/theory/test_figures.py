"""The figures of the theory: what is computed agrees, is written whole, and is drawn so that it can be read."""

import csv
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from solo_frossl.theory.figures import FIGURES, Curve, Panel, TheoryFigure, draw, read_images, write_csv
from solo_frossl.theory.figures.frossl import effective_start, fig2, kin, noisy_modes
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
    return read_images(None, 1024, 0)


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
        again, other = read_images(None, 1024, 0), read_images(None, 1024, 1)
        assert (images.x == again.x).all()
        assert not (images.x == other.x).all()

    def test_images_come_from_any_folder(self, tmp_path):
        random = np.random.default_rng(0)
        for name in ("train/cat/1", "train/cat/2", "train/dog/3", "val/cat/4", "val/dog/5"):
            path = tmp_path / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random.integers(0, 255, (20, 30, 3), dtype=np.uint8)).save(path)
        found = read_images(tmp_path, 3, 0)
        assert found.x.shape == (3, 3 * 16 * 16)
        assert sorted(found.label.tolist()) == [0, 0, 1]

    @pytest.mark.parametrize("missing", [True, False])
    def test_what_cannot_be_read_is_said(self, tmp_path, missing):
        if missing:
            with pytest.raises(FileNotFoundError, match="give a folder of images with --data"):
                read_images(tmp_path / "nowhere", 3, 0)
        else:
            with pytest.raises(ValueError, match="has 1797 images, and 9999 are needed"):
                read_images(None, 9999, 0)


class TestDrawing:
    @pytest.mark.parametrize("options", [{}, {"log_y": True, "limits": (0.1, 20)}, {"named": False}])
    def test_nothing_is_cut_off(self, tmp_path, options):
        draw(figure(line(), line("b", "closed form"), line("c", "guide"), **options), tmp_path / "f.png")
        pixels = np.asarray(Image.open(tmp_path / "f.png").convert("L"))
        assert min(pixels[0].min(), pixels[-1].min(), pixels[:, 0].min(), pixels[:, -1].min()) == 255
        assert (pixels < 128).mean() > 0.002

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
        import torch

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
            for panel in FIGURES[name].compute(None, 0, nothing).panels:
                found, expected = curves(panel, "gradient descent"), curves(panel, "equation")
                assert found.keys() == expected.keys() == {"Grassmann", "projected"}
                for pair in found:
                    assert np.abs(found[pair].y - expected[pair].y).max() < 0.03
                printed = next(c for c in panel.curves if c.source == "guide")
                assert np.abs(found["Grassmann"].y - printed.y).max() > 0.2

    @pytest.mark.slow
    def test_outputs_come_to_span_the_first_eigenvectors(self):
        one, two, _ = FIGURES["dynamics-fig4"].compute(None, 0, nothing).panels
        for panel, spanned in ((one, {"v_1"}), (two, {"v_1", "v_2"})):
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
@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_whole_and_tells_its_progress(name, images, tmp_path):
    told = []
    shown = FIGURES[name].compute(images if FIGURES[name].images else None, 0, told.append)
    assert sum(told) == FIGURES[name].steps
    assert shown.name == name
    assert all((shown.title, shown.claim, shown.measured, shown.panels))
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


def test_the_growth_of_frossl_is_drawn_to_its_end(images):
    """The last of the ten eigenvalues has risen by the end of the figure."""
    modes = noisy_modes(images.x)
    assert frossl_growth(modes).limit.min() > 0
    eigenvalues = [c for c in fig2(images, 0, nothing).panels[2].curves if c.source == "gradient descent"]
    assert eigenvalues[-1].y[-1] > 0.5

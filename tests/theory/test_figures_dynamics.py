"""The numbers of the figures of orthogonal networks show what the figures claim."""

import numpy as np
import pytest
import torch

from solo_frossl.theory.figures.dynamics.collapse import collapse
from solo_frossl.theory.figures.dynamics.downstream import downstream, step_times
from solo_frossl.theory.figures.dynamics.flows import descent_by_depth, descent_by_width, projections
from solo_frossl.theory.figures.dynamics.moons import half_moons
from solo_frossl.theory.figures.dynamics.width import width_difference
from solo_frossl.theory.figures.images import two_digits


def computed(figure, in_all, /, *images, **options):
    """The figure; on the way, that it tells of all its steps."""
    told = []
    result = figure(*images, progress=told.append, **options)
    assert sum(told) == in_all
    return result


def test_half_moons_lie_in_two_planes():
    points, labels = half_moons(400, torch.Generator().manual_seed(0), noise_variance=0.0)
    assert points.shape == (400, 3)
    assert points.mean(0).abs().max() < 1e-12
    assert labels.bincount().tolist() == [200, 200]
    heights = points[:, 2]
    assert float((heights[labels == 1] - heights[labels == 0]).abs().max()) == pytest.approx(0.5)
    for label in (0, 1):
        moon = points[labels == label][:, :2]
        middle = torch.tensor([1.0 * label, 0.5 * label]) - torch.tensor([0.5, 0.25])
        assert float((moon - middle).norm(dim=1).std()) < 0.2  # half a circle
    noisy, _ = half_moons(400, torch.Generator().manual_seed(0), noise_variance=0.01)
    assert float((noisy - points).var()) == pytest.approx(0.01, rel=0.2)


def test_fig_1_collapses_without_a_constraint_only():
    figure = computed(collapse, 30 + 2 * 100, samples=24, width=8, initialisations=10, constrained_steps=100)
    assert figure.loss["unconstrained"][:, -1].max() < -100
    assert (np.diff(figure.loss["unconstrained"][:, :10]) < 0).all()
    assert figure.flatness["unconstrained"][:, -1].max() < 0.05
    assert np.median(figure.flatness["unconstrained"][:, 0]) > 0.1
    for name in ("orthogonal", "scaled"):
        assert figure.loss[name].min() > -5
        assert np.median(figure.loss[name][:, -1]) < np.median(figure.loss[name][:, 0]) - 0.2
        assert np.median(figure.flatness[name][:, -1]) > 0.1
    for name, u in figure.embeddings.items():
        assert u.shape == (24, 2)
        spread = np.linalg.svd(u - u.mean(0), compute_uv=False)
        if name != "start":
            assert spread[1] / spread[0] == pytest.approx(figure.flatness[name][0, -1], rel=1e-9)
            assert figure.loss[name].shape == (10, len(figure.step[name]))


def test_fig_2_only_smooth_activations_come_nearer_with_width():
    figure = computed(width_difference, 3 * 3 * 20, widths=(16, 64, 256), samples=12, initialisations=24, steps=20)
    assert figure.absolute["tanh"].shape == (3, len(figure.time))
    for column in (0, -1):
        tanh = figure.relative["tanh"][:, column]
        assert tanh[0] > 2 * tanh[1] > 4 * tanh[2]
    for name in figure.relative:
        np.testing.assert_allclose(figure.relative[name][:, 0], figure.expected[name], rtol=0.4)
    assert figure.relative["relu"].min() > 0.4
    assert figure.relative["sigmoid"].min() > 0.8
    assert figure.absolute["relu"][-1, 0] < figure.absolute["relu"][0, 0] / 2  # as the linear output itself does


def test_fig_3_descent_follows_its_own_equation():
    figure = computed(descent_by_width, 2 * 2 * 300, widths=(8, 60), starts=3, samples=30, steps=300)

    def apart(a, b):
        return np.abs(figure.outputs[a] - figure.outputs[b]).max()

    assert figure.outputs["Eq. 8"].shape == (101, 2, 3, 3, 1)
    assert apart("Grassmann descent", "Eq. 8") < 0.05
    assert apart("projected descent", "projected flow") < 0.05
    assert apart("Grassmann descent", "Eq. 11 as printed") > 0.2
    loss = figure.loss
    assert (loss["Eq. 11 as printed"][1:60] > loss["Eq. 8"][1:60]).all()
    signs = np.sign(figure.outputs["Eq. 8"][0, ..., 0, 0])
    np.testing.assert_allclose(figure.outputs["Eq. 8"][-1, ..., 0, 0], signs, atol=0.05)


def test_fig_4_spans_the_least_eigenvectors_and_three_outputs_show_nothing():
    figure = computed(projections, 3 * 2 * 100, width=20, starts=2, samples=30, steps=100, learning_rate=0.1)
    assert figure.norms["tanh network"].shape == (3, 101, 2, 3)
    for name in figure.norms:
        np.testing.assert_allclose(figure.norms[name][2], 1)
        np.testing.assert_allclose(figure.norms[name][0, -1, :, 0], 1, atol=0.01)
        assert figure.norms[name][1, -1, :, :2].min() > 0.95
        assert figure.norms[name][:2, 0].max() < 0.9999
    apart = np.abs(figure.norms["projected descent"] - figure.norms["projected flow"])
    assert np.median(apart) < 0.01


def test_fig_5_the_equation_serves_as_well_as_the_network():
    figure = computed(downstream, 2 * 100, *two_digits(), widths=(70,), starts=2, steps=100)
    means = {name: values.mean() for name, values in figure.accuracy.items()}
    assert figure.accuracy["Eq. 8"].shape == (1, 2)
    for name in ("tanh network", "linear network", "Eq. 8", "projected flow"):
        assert means[name] > means["start"]
        assert means[name] > 85
    assert abs(means["tanh network"] - means["Eq. 8"]) < 4
    assert figure.pixels > 90
    assert figure.held_out == 179


def test_fig_5_takes_other_images():
    images, labels = two_digits((0, 1), most=20)
    figure = downstream(images[:, :32], labels, widths=(34,), starts=1, steps=20)
    assert figure.held_out == 20
    with pytest.raises(ValueError, match="of two classes, got"):
        downstream(images, torch.zeros(len(images)))
    with pytest.raises(ValueError, match="width is 10: "):
        downstream(images, labels, widths=(10,))


def test_fig_5s_step_times_have_a_number_for_each_width():
    times = computed(step_times, 2, widths=(8, 16), samples=10, repeats=2)
    assert times.network.shape == times.equation.shape == (2,)
    assert (times.network > 0).all()
    assert (times.equation > 0).all()


def test_fig_6_depth_matters_to_the_projection_and_not_to_eq_8():
    figure = computed(descent_by_depth, 3 * 3 * 120, width=8, starts=2, samples=20, steps=120, learning_rate=0.025)
    assert figure.outputs["tanh network"].shape == (121, 3, 2, 3, 1)
    grassmann = figure.outputs["Grassmann descent"]
    np.testing.assert_allclose(grassmann, np.broadcast_to(grassmann[:, :1], grassmann.shape), atol=1e-9)
    loss = figure.loss["projected flow"]
    assert (loss[10:40, 0] > loss[10:40, 1]).all()
    assert (loss[10:40, 1] > loss[10:40, 2]).all()
    apart = np.abs(figure.outputs["projected descent"] - figure.outputs["projected flow"])
    assert apart.max() < 0.1
    for name in ("Grassmann descent", "projected descent"):
        np.testing.assert_allclose(np.abs(figure.outputs[name][-1, ..., 0, 0]), 1, atol=0.05)

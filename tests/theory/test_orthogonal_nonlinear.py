"""Theorem 1: how far non-linear networks are from linear ones, by width."""

from functools import partial

import numpy as np
import pytest
import torch
from orthogonal_networks import random, start

from solo_frossl.theory.flow import descend
from solo_frossl.theory.orthogonal import (
    ACTIVATIONS,
    Pairs,
    draw_pairs,
    expected_relative_difference,
    expected_relative_difference_over,
    layers_at,
    loglog_slope,
    output_difference,
    pair_loss,
    projected_polar,
    random_layers,
    trace_loss,
)


class TestWidth:
    """Theorem 1."""

    WIDTHS = (64, 256, 1024, 4096)

    def differences(self, activation, widths=WIDTHS, draws=60):
        x = torch.nn.functional.normalize(torch.randn(10, 5, generator=random(), dtype=torch.float64))
        generator, absolute, linear = random(1), [], []
        for width in widths:
            draw = output_difference(x, random_layers(5, width, 3, generator, seeds=(draws,)), activation)
            absolute.append(np.sqrt(np.square(draw.absolute).mean()))
            linear.append(np.sqrt(np.square(draw.linear).mean()))
        return np.array(absolute), np.array(linear)

    @pytest.mark.parametrize(("name", "slope"), [("tanh", -1.5), ("relu", -0.5), ("sigmoid", 0.0)])
    def test_slopes_over_width(self, name, slope):
        """The linear output falls as h^-1/2 itself, so only the relative difference tells how linear a network is."""
        absolute, linear = self.differences(ACTIVATIONS[name])
        assert loglog_slope(self.WIDTHS, absolute) == pytest.approx(slope, abs=0.06)
        assert loglog_slope(self.WIDTHS, linear) == pytest.approx(-0.5, abs=0.06)
        assert loglog_slope(self.WIDTHS, absolute / linear) == pytest.approx(slope + 0.5, abs=0.06)
        expected = [expected_relative_difference(ACTIVATIONS[name], 1.0, width) for width in self.WIDTHS]
        np.testing.assert_allclose(absolute / linear, expected, rtol=0.15)

    def test_relus_relative_difference_does_not_fall(self):
        absolute, linear = self.differences(ACTIVATIONS["relu"])
        np.testing.assert_allclose(absolute / linear, 0.5**0.5, rtol=0.12)

    def test_a_curved_activation_that_meets_the_conditions_is_in_between(self):
        """phi(x) = x + x^2 / 2 near 0: the absolute difference falls as 1/h, faster than the bound h^-1/2 log^2 h."""
        absolute, linear = self.differences(lambda x: torch.expm1(x), widths=(256, 1024, 4096))
        assert loglog_slope((256, 1024, 4096), absolute) == pytest.approx(-1, abs=0.08)
        assert (linear / absolute)[0] > 1

    def test_expected_values(self):
        tanh, relu, sigmoid = (ACTIVATIONS[name] for name in ("tanh", "relu", "sigmoid"))
        assert expected_relative_difference(tanh, 1.3, 10_000) == pytest.approx((5 / 3) ** 0.5 * 1.3**2 / 1e4, rel=1e-2)
        assert expected_relative_difference(relu, 1.3, 10) == pytest.approx(0.5**0.5, rel=1e-9)
        assert expected_relative_difference(sigmoid, 1.3, 10_000) == pytest.approx(100 / 2.6, rel=1e-2)
        assert expected_relative_difference(ACTIVATIONS["linear"], 1.3, 10) == 0

    def test_expected_values_of_several_samples(self):
        """The larger outputs count the more: for tanh as sqrt(5/3 sum ||x||^6 / sum ||x||^2) / h."""
        tanh, norms = ACTIVATIONS["tanh"], np.array([0.5, 1.3])
        expected = (5 / 3 * (norms**6).sum() / (norms**2).sum()) ** 0.5 / 1e4
        assert expected_relative_difference_over(norms, tanh, 10_000) == pytest.approx(expected, rel=1e-2)
        one = expected_relative_difference(tanh, 1.3, 100)
        assert expected_relative_difference_over(np.array([1.3, 1.3]), tanh, 100) == pytest.approx(one, rel=1e-12)

    def test_a_network_in_training_stays_beside_the_linear_one_the_closer_the_wider(self):
        """Conjecture 1, for tanh; ReLU meets neither of its conditions at 0 and does not."""
        points = torch.randn(12, 3, generator=random(), dtype=torch.float64) * torch.tensor([1.0, 0.7, 0.5])
        pairs = draw_pairs(points, random(1))
        pairs = Pairs(*(x / len(points) ** 0.5 for x in pairs))  # the loss becomes a mean
        trace = pairs.trace_matrix
        end = {}
        for name in ("tanh", "relu"):
            for width in (16, 128):
                weights = layers_at(np.stack([start(3, 2, k, 0.3) for k in range(3)]), trace, width, random(2))
                trained = [
                    descend(
                        loss,
                        weights,
                        learning_rate=0.1,
                        steps=60,
                        observe=lambda *w: torch.cat(w, -1),
                        every=60,
                        retract=projected_polar,
                    ).values[-1]
                    for loss in (
                        partial(pair_loss, pairs=pairs, activation=ACTIVATIONS[name]),
                        partial(trace_loss, trace=trace),
                    )
                ]
                both = [tuple(torch.from_numpy(w).split([3, 2], -1)) for w in trained]
                apart = output_difference(pairs.anchors, both[0], ACTIVATIONS[name], both[1])
                end[name, width] = float(np.median(apart.relative))
        assert end["tanh", 128] < end["tanh", 16] / 3
        assert end["relu", 128] > 0.3

    def test_slope(self):
        assert loglog_slope([1, 10, 100], [5, 0.5, 0.05]) == pytest.approx(-1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: expected_relative_difference(torch.tanh, 0.0, 10), "must be above 0"),
        (lambda: loglog_slope([10], [1.0]), "K of 2 or more"),
        (lambda: loglog_slope([10, 20], [1.0, 0.0]), "has no logarithm"),
    ],
)
def test_refused_with_the_thing_and_the_remedy(make, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        make()
    assert message in str(error.value)

import numpy as np
import pytest

from solo_frossl.spectrum import saturation_step

STEPS = np.arange(0, 2000, 20)


def sigmoid(middle, width=40.0):
    return 1 / (1 + np.exp(-(STEPS - middle) / width))


@pytest.mark.parametrize("middle", [200, 500, 1000])
def test_a_sigmoid_saturates_where_it_reaches_nine_tenths(middle):
    expected = middle + 40 * np.log(9)
    assert saturation_step(STEPS, sigmoid(middle)) == pytest.approx(expected, abs=40)


def test_the_scale_does_not_matter():
    assert saturation_step(STEPS, 1e-6 * sigmoid(500)) == saturation_step(STEPS, 1e3 * sigmoid(500))


@pytest.mark.parametrize("size", [0.05, 0.15])
@pytest.mark.parametrize("seed", range(5))
def test_noise_moves_it_little(seed, size):
    noise = 1 + size * np.random.default_rng(seed).standard_normal(len(STEPS))
    assert saturation_step(STEPS, sigmoid(500) * noise) == pytest.approx(590, abs=80)


def test_outliers_do_not_move_it():
    curve = sigmoid(500)
    clean = saturation_step(STEPS, curve)
    for at in (40, 60, 90):
        curve[at] *= 10
    curve[70] = 0
    assert saturation_step(STEPS, curve) == clean


@pytest.mark.parametrize("height", [0.3, 9])
def test_a_curve_that_only_falls_does_not_saturate(height):
    assert saturation_step(STEPS, 1 + height * (1 - sigmoid(500))) is None


def test_a_curve_that_falls_first_saturates_when_it_has_risen():
    assert saturation_step(STEPS, np.maximum(2 * (1 - sigmoid(200)), sigmoid(800))) == pytest.approx(888, abs=40)


def test_a_curve_that_overshoots_saturates_when_it_has_come_down():
    bump = np.exp(-(((STEPS - 500) / 100) ** 2))
    assert saturation_step(STEPS, sigmoid(300) + 2 * bump) == pytest.approx(500 + 100 * np.sqrt(np.log(20)), abs=40)


def test_a_curve_that_comes_back_saturates_when_it_is_back():
    curve = sigmoid(200) - 0.6 * ((STEPS > 1000) & (STEPS < 1200))
    assert saturation_step(STEPS, curve) == pytest.approx(1200, abs=40)


def test_a_level_curve_has_not_been_learned():
    assert saturation_step(STEPS, np.ones(len(STEPS))) is None


@pytest.mark.parametrize("power", [1, 2])
def test_a_curve_that_keeps_growing_does_not_saturate(power):
    assert saturation_step(STEPS, (STEPS / 1000.0) ** power) is None


def test_a_step_that_was_only_just_reached_does_not_count_yet():
    curve = sigmoid(1000)
    found = [saturation_step(STEPS[:count], curve[:count]) for count in range(5, len(STEPS), 5)]
    before = [s for s, count in zip(found, range(5, len(STEPS), 5), strict=True) if 900 < STEPS[count] < 1200]
    assert before
    assert set(before) == {None}
    assert found[-1] == pytest.approx(1088, abs=40)


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 1.0, 1.0, 1.0], [2.0] * 20 + [0.0] * 20])
def test_too_little_and_nothing_have_none(values):
    assert saturation_step(range(len(values)), values) is None


def test_steps_may_be_uneven():
    steps = [0, 20, 50, 97, 100, 150, 195, 200, 250, 292, 293, 294, 295, 296]
    assert saturation_step(steps, [0.1, 0.2, 0.3] + 11 * [1]) == 97

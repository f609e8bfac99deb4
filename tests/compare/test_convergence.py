"""How fast a curve rises, against values worked out by hand."""

import math

import pytest

from solo_frossl.compare.convergence import Spread, mean_height, position_to_reach, round_targets, spread, spread_epochs

EPOCHS = [1, 2, 4, 8]
VALUES = [10.0, 30.0, 20.0, 60.0]


@pytest.mark.parametrize(
    ("target", "position"),
    [(5.0, 1), (10.0, 1), (20.0, 1.5), (30.0, 2), (40.0, 6.0), (60.0, 8), (60.1, None)],
)
def test_a_value_is_reached_on_the_line_between_the_measurements(target, position):
    assert position_to_reach(EPOCHS, VALUES, target) == position


def test_a_value_is_reached_where_it_is_first_reached_and_not_where_it_stays():
    assert position_to_reach([1, 2, 3, 4], [0.0, 50.0, 10.0, 60.0], 50.0) == 2


def test_what_is_not_finite_counts_as_not_measured():
    assert position_to_reach([1, 2, 3], [0.0, math.nan, 40.0], 20.0) == 2.0
    assert mean_height([1, 2, 3], [0.0, math.inf, 40.0], 1, 3) == 20.0


def test_a_curve_without_measurements_reaches_nothing():
    assert position_to_reach([], [], 1.0) is None
    assert mean_height([], [], 1, 2) is None
    assert spread([]) is None


@pytest.mark.parametrize(
    ("start", "end", "height"),
    [
        (1, 2, 20.0),
        (1, 8, (20 * 1 + 25 * 2 + 40 * 4) / 7),
        (1.5, 3, (0.5 * 25 + 1 * 27.5) / 1.5),
        (5, 7, 40.0),
        (4, 4, 20.0),
        (6, 6, 40.0),
        (0, 2, None),
        (2, 9, None),
        (4, 2, None),
    ],
)
def test_the_mean_height_is_the_area_over_the_distance(start, end, height):
    assert mean_height(EPOCHS, VALUES, start, end) == (height if height is None else pytest.approx(height, abs=1e-12))


def test_one_measurement_has_the_height_of_itself():
    assert mean_height([3], [7.0], 3, 3) == 7.0


def test_a_curve_that_rises_early_has_the_larger_area():
    early, late = [0.0, 50.0, 50.0], [0.0, 0.0, 50.0]
    assert mean_height([1, 2, 3], early, 1, 3) > mean_height([1, 2, 3], late, 1, 3)


def test_the_deviation_is_that_of_a_sample():
    assert spread([1.0, 2.0, 6.0]) == Spread(3.0, pytest.approx(math.sqrt((4 + 1 + 9) / 2)), 3)
    assert spread([2.0]) == Spread(2.0, None, 1)
    assert spread([2.0, math.nan, math.inf]) == Spread(2.0, None, 1)


@pytest.mark.parametrize(
    ("first", "best", "targets"),
    [
        (10.0, 90.0, [20.0, 40.0, 60.0, 80.0]),
        (10.0, 41.3, [20.0, 30.0, 40.0]),
        (90.2, 93.9, [91.0, 92.0, 93.0]),
        (50.0, 50.0, []),
        (60.0, 50.0, []),
    ],
)
def test_targets_are_round_and_in_between(first, best, targets):
    assert round_targets(first, best) == targets


@pytest.mark.parametrize("last", [1, 2, 6, 7, 10, 49, 50, 51, 100, 400, 500, 1000])
def test_the_epochs_of_a_table_are_few_and_end_with_the_last(last):
    epochs = spread_epochs(last)
    assert epochs == sorted(set(epochs))
    assert len(epochs) <= 6
    assert epochs[0] >= 1
    assert epochs[-1] == last


def test_no_epoch_gives_no_table():
    assert spread_epochs(0) == []

"""What every table has: no empty columns, and the best of a column where that is sure."""

from dataclasses import replace

import pytest

from solo_frossl.compare import tables
from solo_frossl.compare.groups import Group


def test_columns_that_are_empty_are_left_out(groups):
    columns = tables.runs_table(groups).columns
    assert columns == ("run", "method", "seed", "epochs", "state")
    assert tables.runs_table(groups).text_columns == 5
    odd = replace(groups[0].runs[0], device="cpu", remarks=("odd",))
    columns = tables.runs_table([Group("x", (odd,)), groups[1]]).columns
    assert columns == ("run", "method", "seed", "epochs", "state", "device", "remarks")


@pytest.mark.parametrize(
    ("texts", "best"),
    [
        (["1.0", "2.0", "> 5"], 0),
        (["4.5", "> 5", "> 5"], 0),
        (["4.5", "> 5", "> 3"], None),  # the third was given up before the first got there
        (["≤ 1.0", "2.0", "3.0"], None),
        (["1.0", "≤ 2.0", "3.0"], None),
        (["1.0", "2.0", "–"], 0),
        (["1.0", "2.0", "–", "–", "–"], None),
        (["> 5", "> 5"], None),
        (["1.0", "1.0", "2.0"], None),
    ],
)
def test_the_first_is_named_only_where_that_is_sure(texts, best):
    cells = []
    for text in texts:
        sign, _, value = text.rpartition(" ")
        cells.append(tables.MISSING if text == "–" else tables.Cell(text, float(value), sign=sign))
    assert tables.best_of(cells, lowest=True) == best


@pytest.mark.parametrize(
    ("values", "lowest", "marked"),
    [
        ([1, 3, 2], False, [1]),
        ([1, 3, 2], True, [0]),
        ([3, 3, 2], False, []),
        ([None, 3, None], False, []),
        ([], False, []),
    ],
)
def test_the_best_is_marked_where_one_alone_has_it(values, lowest, marked):
    rows = tables.mark_best([[tables.Cell("", v)] for v in values], [0], lowest=lowest)
    assert [i for i, (cell,) in enumerate(rows) if cell.best] == marked

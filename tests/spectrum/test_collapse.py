import numpy as np
import pytest

from solo_frossl.spectrum.collapse import CollapseWatch

FULL, FLAT, SHRUNK = "full rank", "one direction", "one point"


def record(kind, step=0):
    eigenvalues = np.zeros(8, np.float32)
    eigenvalues[: 1 if kind == FLAT else 8] = 1
    fields = [("step", "<i8"), ("embeddings", "<f4", (8,)), ("variance_share", "<f4")]
    return np.array((step, eigenvalues, 0.001 if kind == SHRUNK else 0.5), fields)[()]


def reports(watch, kinds):
    return [watch.update(record(kind)) for kind in kinds]


def test_checks_at_the_end_of_an_epoch_do_not_count():
    kinds = [(0, FULL), (3, FLAT), (4, FLAT), (7, FLAT), (8, FLAT), (11, FULL), (12, FLAT), (16, FLAT)]
    watch = CollapseWatch(1.2, 3, every=4)
    said = [watch.update(record(kind, step)) is not None for step, kind in kinds]
    assert [step for (step, _), now in zip(kinds, said, strict=True) if now] == [12]
    for stopped in range(len(kinds) + 1):
        watch.restore(record(kind, step) for step, kind in reversed(kinds[:stopped]))
        resumed = [watch.update(record(kind, step)) is not None for step, kind in kinds[stopped:]]
        assert resumed == said[stopped:]


def test_reported_once_when_it_has_lasted():
    said = reports(CollapseWatch(rank=1.2, checks=3), [FULL, FLAT, FLAT, FLAT, FLAT, FLAT])
    assert [text is not None for text in said] == [False, False, False, True, False, False]
    assert said[3] == "their effective rank is 1.00, below 1.2 (and so in 3 checks in a row)"


def test_a_moment_of_low_rank_is_no_collapse():
    assert reports(CollapseWatch(1.2, 3), [FLAT, FLAT, FULL, FLAT, FLAT, FULL]) == [None] * 6


def test_after_a_recovery_it_is_reported_again():
    said = reports(CollapseWatch(1.2, 2), [FLAT, FLAT, FLAT, FULL, FLAT, FLAT])
    assert [text is not None for text in said] == [False, True, False, False, False, True]


def test_embeddings_that_shrink_to_a_point_have_collapsed_whatever_their_rank():
    (said,) = reports(CollapseWatch(1.2, 1), [SHRUNK])
    assert said.startswith("only 0.1 % of their mean square is variance, below 1 %")


def smaller(by, step=1):
    after = record(FULL, step).copy()
    after["embeddings"] /= by
    return after


def test_embeddings_that_shrink_around_zero_have_collapsed_too():
    watch = CollapseWatch(1.2, 2)
    assert [watch.update(r) for r in (record(FULL), smaller(500), smaller(2000, 2), smaller(500, 3))] == [None] * 4
    assert watch.update(smaller(2000, 4)) is None
    assert watch.fault(smaller(2000)) == "their variance is 0.0005 of what it was at first, below 0.001"
    for resumed in (watch, CollapseWatch(1.2, 2)):
        resumed.restore([smaller(2000, 4), smaller(500, 3), record(FULL)])
        assert resumed.update(smaller(2000, 5)).endswith("(and so in 2 checks in a row)")


def test_both_kinds_count_as_one():
    assert reports(CollapseWatch(1.2, 2), [FLAT, SHRUNK])[1]


def test_no_rank_is_below_zero():
    assert reports(CollapseWatch(0, 1), [FLAT]) == [None]


@pytest.mark.parametrize("kinds", [[FULL, FLAT, FLAT, FLAT, FULL, FLAT], [FLAT] * 6, [FULL] * 3 + [FLAT] * 3])
def test_restored_from_the_records_it_goes_on_as_before(kinds):
    whole = reports(CollapseWatch(1.2, 3), kinds)
    for stopped in range(len(kinds) + 1):
        watch = CollapseWatch(1.2, 3)
        watch.restore(record(kind) for kind in reversed(kinds[:stopped]))
        assert reports(watch, kinds[stopped:]) == whole[stopped:]

import pytest
import torch

from solo_frossl.data.splits import stratified_sample, subset_count


def draw(labels: torch.Tensor, count: int, seed: int = 0) -> torch.Tensor:
    return stratified_sample(labels, count, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("count", [0, 1, 7, 50, 133, 200])
def test_every_class_keeps_its_share(count):
    labels = torch.tensor([0] * 100 + [1] * 60 + [-1] * 40)[torch.randperm(200)]
    chosen = labels[draw(labels, count)]
    for label, size in ((0, 100), (1, 60), (-1, 40)):
        assert abs((chosen == label).sum() - count * size / 200) <= 1


def test_is_ascending_and_without_repeats():
    positions = draw(torch.arange(100) % 7, 60)
    assert (positions.diff() > 0).all()


def test_depends_on_the_generator_only():
    labels = torch.arange(100) % 7
    assert draw(labels, 30, seed=1).equal(draw(labels, 30, seed=1))
    assert not draw(labels, 30, seed=1).equal(draw(labels, 30, seed=2))


def test_a_smaller_sample_is_part_of_a_larger_one():
    labels = torch.arange(100) % 7
    assert set(draw(labels, 20).tolist()) < set(draw(labels, 50).tolist())


def test_takes_any_image_of_a_class():
    labels = torch.zeros(20, dtype=torch.int64)
    seen = {int(position) for seed in range(200) for position in draw(labels, 1, seed)}
    assert seen == set(range(20))


@pytest.mark.parametrize(("subset", "count"), [(1, 1), (1.0, 80), (0.25, 20), (80, 80), (12.0, 12)])
def test_subset_count(subset, count):
    assert subset_count(subset, 80) == count


@pytest.mark.parametrize("subset", [0, -3, 81, 0.0, -0.5, 1.5, 0.001])
def test_impossible_subsets_are_refused(subset):
    with pytest.raises(ValueError, match=r"data\.subset"):
        subset_count(subset, 80)

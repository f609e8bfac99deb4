"""Drawn parameters against their distribution, and the crop's against torchvision's own draws."""

import math
from itertools import permutations

import pytest
import torch
from torchvision.transforms import RandomResizedCrop

from solo_frossl.augment.parameters import draw_parameters
from solo_frossl.augment.views import RECIPES, Recipe, View
from solo_frossl.seeding import generator

COUNT = 20_000


def draw(recipe, height=32, width=32, count=COUNT, seed=0):
    heights, widths = torch.full((count,), height), torch.full((count,), width)
    return draw_parameters(recipe, heights, widths, generator(seed, "views"))


def assert_frequency(flags, probability):
    """Within five standard deviations of a binomial count."""
    allowed = 5 * math.sqrt(probability * (1 - probability) / len(flags))
    assert abs(flags.float().mean().item() - probability) <= allowed


def assert_uniform(values, low, high):
    """Within the range, and the Kolmogorov-Smirnov distance to the uniform distribution below its 1e-6 quantile."""
    assert values.min() >= low
    assert values.max() <= high
    position = (values.double().sort().values - low) / (high - low)
    distance = (position - torch.linspace(0, 1, len(values), dtype=torch.float64)).abs().max()
    assert distance < math.sqrt(-math.log(1e-6 / 2) / (2 * len(values)))


def ks_distance(a, b):
    """Largest difference of two samples' distribution functions."""
    grid = torch.cat((a, b)).sort().values
    cdf_a = torch.searchsorted(a.sort().values, grid, right=True) / len(a)
    cdf_b = torch.searchsorted(b.sort().values, grid, right=True) / len(b)
    return (cdf_a - cdf_b).abs().max().item()


@pytest.mark.parametrize("name", RECIPES)
def test_frequencies(name):
    recipe = RECIPES[name]
    parameters = draw(recipe)
    for operation in ("flip", "jitter", "grayscale", "blur", "solarize"):
        assert_frequency(getattr(parameters, operation), getattr(recipe, f"{operation}_probability"))


def test_probabilities_zero_and_one_are_never_and_always():
    names = ("flip", "jitter", "grayscale", "blur", "solarize")
    never = draw(Recipe(**{f"{name}_probability": 0.0 for name in names}))
    always = draw(Recipe(**{f"{name}_probability": 1.0 for name in names}))
    for name in names:
        assert not getattr(never, name).any()
        assert getattr(always, name).all()


def test_factors_are_uniform_in_torchvision_s_ranges():
    parameters = draw(Recipe(brightness=0.4, contrast=0.8, saturation=1.5, hue=0.2, blur_sigma=(0.5, 1.5)))
    assert_uniform(parameters.brightness, 0.6, 1.4)
    assert_uniform(parameters.contrast, 0.2, 1.8)
    assert_uniform(parameters.saturation, 0.0, 2.5)
    assert_uniform(parameters.hue, -0.2, 0.2)
    assert_uniform(parameters.sigma, 0.5, 1.5)


def test_jitter_orders_are_the_24_permutations_equally_often():
    parameters = draw(Recipe())
    orders = parameters.jitter_order[parameters.jitter & parameters.flip].tolist()
    counts = dict.fromkeys(permutations(range(4)), 0)
    for order in orders:
        counts[tuple(order)] += 1
    chi_squared = sum((count - len(orders) / 24) ** 2 / (len(orders) / 24) for count in counts.values())
    assert chi_squared < 70  # 23 degrees of freedom: exceeded with probability 1e-6


def test_samples_and_operations_are_independent():
    parameters = draw(Recipe())
    flags = torch.stack([parameters.flip, parameters.jitter, parameters.grayscale, parameters.blur]).double()
    numbers = torch.stack([parameters.brightness, parameters.contrast, parameters.saturation, parameters.hue]).double()
    places = torch.stack([parameters.top, parameters.left, parameters.height]).double()
    first = (parameters.jitter_order[:, 0] == torch.arange(3).view(-1, 1)).double()
    correlation = torch.corrcoef(torch.cat((flags, numbers, places[2:])))
    assert torch.corrcoef(torch.cat((first, flags, numbers, places)))[:3, 3:].abs().max() < 5 / math.sqrt(COUNT)
    assert (correlation - torch.eye(len(correlation))).abs().max() < 5 / math.sqrt(COUNT)
    neighbours = torch.corrcoef(torch.stack((numbers[0, :-1], numbers[0, 1:])))
    assert neighbours[0, 1].abs() < 5 / math.sqrt(COUNT)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (96, 64), (20, 90)])
@pytest.mark.parametrize("scale", [(0.08, 1.0), (0.4, 1.0)])
def test_crops_are_distributed_as_torchvision_draws_them(height, width, scale):
    count = 4000
    torch.manual_seed(0)
    image = torch.empty(3, height, width)
    theirs = torch.tensor([RandomResizedCrop.get_params(image, scale, (3 / 4, 4 / 3)) for _ in range(count)]).double()
    ours = draw(Recipe(crop_scale=scale), height, width, count)
    top, left, h, w = (values.double() for values in (ours.top, ours.left, ours.height, ours.width))
    bound = math.sqrt(-math.log(1e-6 / 2) / count)  # two samples of `count`
    assert ks_distance(h * w, theirs[:, 2] * theirs[:, 3]) < bound
    assert ks_distance(w / h, theirs[:, 3] / theirs[:, 2]) < bound
    assert ks_distance(top, theirs[:, 0]) < bound
    assert ks_distance(left, theirs[:, 1]) < bound


@pytest.mark.parametrize(("height", "width"), [(32, 32), (1, 1), (1, 50), (50, 1), (7, 200)])
@pytest.mark.parametrize("ratio", [(3 / 4, 4 / 3), (1.0, 1.0), (3.0, 3.0), (0.2, 0.3)])
def test_crops_lie_within_the_image(height, width, ratio):
    p = draw(Recipe(crop_ratio=ratio), height, width, 2000)
    assert p.top.min() >= 0
    assert p.left.min() >= 0
    assert p.height.min() >= 1
    assert p.width.min() >= 1
    assert (p.top + p.height).max() <= height
    assert (p.left + p.width).max() <= width


@pytest.mark.parametrize(("height", "width"), [(32, 32), (10, 200), (200, 10), (8, 11)])
def test_fallback_is_torchvision_s_central_crop(height, width):
    recipe = Recipe(crop_scale=(1.0, 1.0), crop_ratio=(2.0, 2.0))  # never fits, for these shapes
    theirs = RandomResizedCrop.get_params(torch.empty(3, height, width), (1.0, 1.0), (2.0, 2.0))
    p = draw(recipe, height, width, 4)
    for i in range(4):
        assert (int(p.top[i]), int(p.left[i]), int(p.height[i]), int(p.width[i])) == theirs


def test_every_image_is_cropped_by_its_own_size():
    heights, widths = torch.tensor([4, 40, 400]), torch.tensor([9, 90, 900])
    p = draw_parameters(Recipe(crop_scale=(0.9, 1.0)), heights, widths, generator(0, "views"))
    assert (p.height <= heights).all()
    assert (p.width <= widths).all()
    assert p.height[2] > 40


def test_the_stream_does_not_depend_on_the_recipe():
    plain, rich = draw(View("crop_only").resolve(), seed=4), draw(View("symmetric").resolve(), seed=4)
    assert torch.equal(plain.top, rich.top)
    assert torch.equal(plain.flip, rich.flip)

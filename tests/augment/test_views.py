"""Recipes, overrides, and what the command line makes of the list of views."""

from dataclasses import fields

import pytest
from jsonargparse import ArgumentParser

from solo_frossl.augment import RECIPES, Recipe, View


def test_view_can_override_every_field_of_a_recipe():
    assert {f.name for f in fields(View)} == {f.name for f in fields(Recipe)} | {"recipe", "count", "size"}


def test_every_field_is_documented():
    for field in fields(View):
        assert f"\n        {field.name}: " in View.__doc__


@pytest.mark.parametrize("name", RECIPES)
def test_view_without_changes_is_its_recipe(name):
    assert View(name).resolve() == RECIPES[name]


def test_overrides_win_and_zero_is_an_override():
    recipe = View("symmetric", hue=0.0, crop_scale=(0.5, 0.6), solarize_probability=0.2).resolve()
    assert (recipe.hue, recipe.crop_scale, recipe.solarize_probability) == (0.0, (0.5, 0.6), 0.2)
    assert recipe.brightness == 0.8


def test_recipes_hold_the_tables_values():
    table = {name: (r.crop_scale[0], r.brightness, r.contrast, r.saturation, r.hue) for name, r in RECIPES.items()}
    assert table["symmetric"] == (0.08, 0.8, 0.8, 0.8, 0.2)
    assert table["weak"] == (0.08, 0.4, 0.4, 0.4, 0.1)
    assert table["asymmetric"] == (0.08, 0.4, 0.4, 0.2, 0.1)
    assert table["vicreg"] == (0.2, 0.4, 0.4, 0.2, 0.1)
    assert table["wmse"] == (0.2, 0.8, 0.8, 0.8, 0.2)
    assert {n: r.blur_probability for n, r in RECIPES.items() if r.blur_probability} == {"symmetric": 0.5, "weak": 0.5}
    assert {n: r.solarize_probability for n, r in RECIPES.items() if r.solarize_probability} == {"vicreg": 0.1}
    assert RECIPES["digits"].flip_probability == 0
    assert RECIPES["crop_only"].jitter_probability == 0


def test_views_parse_from_the_command_line_with_help():
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--views", type=list[View])
    text = '[{"recipe": "weak", "count": 2}, {"size": 96, "crop_scale": [0.05, 0.14], "interpolation": "bilinear"}]'
    parsed = parser.instantiate(parser.parse_args([f"--views={text}"])).views
    assert parsed == [View("weak", count=2), View(size=96, crop_scale=(0.05, 0.14), interpolation="bilinear")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"recipe": "symetric"}, "'symetric'; did you mean 'symmetric'.* weak, asymmetric"),
        ({"recipe": "xyz"}, "'xyz'; the recipes are symmetric, weak"),
        ({"count": 0}, "count is 0; it must be at least 1"),
        ({"size": 0}, "size is 0"),
        ({"crop_scale": (0.0, 1.0)}, r"crop_scale is \(0.0, 1.0\).*0 < least <= most <= 1"),
        ({"crop_scale": (0.5, 1.5)}, "crop_scale"),
        ({"crop_scale": (0.5, 0.2)}, "crop_scale"),
        ({"crop_scale": (0.5,)}, "crop_scale"),
        ({"crop_ratio": (0.0, 1.0)}, "crop_ratio"),
        ({"blur_sigma": (0.0, 2.0)}, "blur_sigma"),
        ({"blur_sigma": (float("nan"), 2.0)}, "blur_sigma"),
        ({"blur_kernel_size": 4}, "blur_kernel_size is 4; it must be odd"),
        ({"blur_kernel_size": -3}, "blur_kernel_size"),
        ({"interpolation": "nearest"}, "interpolation is 'nearest'; it must be bicubic or bilinear"),
        ({"flip_probability": 1.1}, "flip_probability is 1.1; it must be a probability"),
        ({"jitter_probability": -0.1}, "jitter_probability"),
        ({"grayscale_probability": float("nan")}, "grayscale_probability"),
        ({"blur_probability": 50}, "blur_probability"),
        ({"solarize_probability": 2}, "solarize_probability"),
        ({"solarize_threshold": 128}, "solarize_threshold is 128; it must be from 0 to 1"),
        ({"brightness": -1}, "brightness"),
        ({"contrast": float("inf")}, "contrast"),
        ({"saturation": -0.1}, "saturation"),
        ({"hue": 0.6}, "hue is 0.6; it must be from 0 to 0.5 turns"),
    ],
)
def test_bad_values_name_field_value_and_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        View(**arguments)

"""What a view is: named recipes, and the entries of ``data.views`` in YAML that choose and change them."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

Interpolation = Literal["bicubic", "bilinear"]


def _check(field: str, value: Any, valid: bool, expected: str) -> None:
    if not valid:
        raise ValueError(f"view: {field} is {value!r}; it must be {expected}")


def _check_pair(field: str, pair: Sequence[float], low: float, high: float) -> None:
    expected = f"two numbers (least, most) with {low:g} < least <= most" + (
        f" <= {high:g}" if high < float("inf") else ""
    )
    _check(field, pair, len(pair) == 2 and low < pair[0] <= pair[1] <= high, expected)


@dataclass(frozen=True)
class Recipe:
    """Everything that decides how one view is made; the defaults are the recipe ``symmetric``.

    The fields are those of :class:`View`, which documents them.

    Raises:
        ValueError: a value is out of range; the message names the field, the value and the range.
    """

    crop_scale: tuple[float, float] = (0.08, 1.0)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    interpolation: Interpolation = "bicubic"
    flip_probability: float = 0.5
    jitter_probability: float = 0.8
    brightness: float = 0.8
    contrast: float = 0.8
    saturation: float = 0.8
    hue: float = 0.2
    grayscale_probability: float = 0.2
    blur_probability: float = 0.5
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    blur_kernel_size: int | None = None
    solarize_probability: float = 0.0
    solarize_threshold: float = 0.5

    def __post_init__(self) -> None:
        for name in ("flip", "jitter", "grayscale", "blur", "solarize"):
            field = f"{name}_probability"
            _check(field, getattr(self, field), 0 <= getattr(self, field) <= 1, "a probability, from 0 to 1")
        for field in ("brightness", "contrast", "saturation"):
            _check(field, getattr(self, field), 0 <= getattr(self, field) < float("inf"), "a finite number, at least 0")
        _check("hue", self.hue, 0 <= self.hue <= 0.5, "from 0 to 0.5 turns")
        _check("solarize_threshold", self.solarize_threshold, 0 <= self.solarize_threshold <= 1, "from 0 to 1")
        _check_pair("crop_scale", self.crop_scale, 0, 1)
        _check_pair("crop_ratio", self.crop_ratio, 0, float("inf"))
        _check_pair("blur_sigma", self.blur_sigma, 0, float("inf"))
        kernel = self.blur_kernel_size
        _check(
            "blur_kernel_size",
            kernel,
            kernel is None or (kernel > 0 and kernel % 2 == 1),
            "odd and at least 1, or null",
        )
        _check(
            "interpolation", self.interpolation, self.interpolation in ("bicubic", "bilinear"), "bicubic or bilinear"
        )

    def kernel_size(self, size: int) -> int:
        """Taps of the blur at this image size: ``blur_kernel_size``, or a tenth of the size, odd and at least 3.

        >>> [Recipe().kernel_size(size) for size in (8, 32, 96, 224)]
        [3, 3, 9, 23]
        """
        return self.blur_kernel_size or max(3, 2 * (size // 20) + 1)


_BYOL_JITTER = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.2, "hue": 0.1}

RECIPES: dict[str, Recipe] = {
    "symmetric": Recipe(),
    "weak": Recipe(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1),
    "asymmetric": Recipe(**_BYOL_JITTER, blur_probability=0.0),
    "vicreg": Recipe(**_BYOL_JITTER, crop_scale=(0.2, 1.0), blur_probability=0.0, solarize_probability=0.1),
    "wmse": Recipe(crop_scale=(0.2, 1.0), blur_probability=0.0),
    "crop_only": Recipe(jitter_probability=0.0, grayscale_probability=0.0, blur_probability=0.0),
    "digits": Recipe(crop_scale=(0.5, 1.0), flip_probability=0.0, grayscale_probability=0.0, blur_probability=0.0),
}
"""The recipes by name, with the values that the papers' tables use on CIFAR, for view 1.

Where a table's views or datasets differ, the YAML says so by overrides, one entry a view. The asymmetric pair is

    views: [{recipe: asymmetric}, {recipe: asymmetric, solarize_probability: 0.2}]

and on ImageNet its blur probabilities are 1.0 and 0.1. ``crop_only`` (crop and flip) is what linear probes train with.
``digits`` is for small grey pictures whose mirror image means something else: a mild crop, brightness and contrast.
"""


@dataclass(frozen=True)
class View:
    """One entry of the list of views: a recipe, how many views it makes and of which size, and what it changes.

    A field left null has the recipe's value. The operations come in this order: crop and flip, jitter, grayscale, blur,
    solarise.

    Args:
        recipe: name of the recipe: symmetric, weak, asymmetric, vicreg, wmse, crop_only or digits.
        count: views made alike (their random parameters differ), at least 1.
        size: side of the square view, pixels; null is the dataset's image size.
        crop_scale: least and most area of the crop, fractions of the image in (0, 1].
        crop_ratio: least and most width over height of the crop, > 0.
        interpolation: bicubic or bilinear, both antialiased; bicubic overshoots are clamped to the range of an image.
        flip_probability: of a horizontal flip, 0 to 1.
        jitter_probability: of colour jitter (its four operations in random order), 0 to 1.
        brightness: factors are drawn from [max(0, 1 - x), 1 + x]; x >= 0.
        contrast: as brightness.
        saturation: as brightness; without effect on one channel.
        hue: shifts are drawn from [-x, x] turns of the colour circle; 0 to 0.5; without effect on one channel.
        grayscale_probability: of replacing the colours by their luma, 0 to 1; without effect on one channel.
        blur_probability: of Gaussian blur, 0 to 1.
        blur_sigma: least and most standard deviation of the blur, pixels, > 0.
        blur_kernel_size: taps of the blur, odd; null is about a tenth of the view's size.
        solarize_probability: of inverting the values at or above the threshold, 0 to 1.
        solarize_threshold: 0 to 1, black to white (0.5 is Pillow's 128 of 255).

    Raises:
        ValueError: no recipe has that name, or a value is out of range.

    >>> View(recipe="asymmetric", solarize_probability=0.2).resolve().hue
    0.1
    """

    recipe: str = "symmetric"
    count: int = 1
    size: int | None = None
    crop_scale: tuple[float, float] | None = None
    crop_ratio: tuple[float, float] | None = None
    interpolation: Interpolation | None = None
    flip_probability: float | None = None
    jitter_probability: float | None = None
    brightness: float | None = None
    contrast: float | None = None
    saturation: float | None = None
    hue: float | None = None
    grayscale_probability: float | None = None
    blur_probability: float | None = None
    blur_sigma: tuple[float, float] | None = None
    blur_kernel_size: int | None = None
    solarize_probability: float | None = None
    solarize_threshold: float | None = None

    def __post_init__(self) -> None:
        if self.recipe not in RECIPES:
            near = difflib.get_close_matches(self.recipe, RECIPES, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ValueError(f"view: no recipe is named {self.recipe!r}; {hint}the recipes are {', '.join(RECIPES)}")
        _check("count", self.count, self.count >= 1, "at least 1")
        _check("size", self.size, self.size is None or self.size >= 1, "at least 1 pixel, or null")
        self.resolve()

    def resolve(self) -> Recipe:
        """The recipe with this view's changes."""
        recipe = RECIPES[self.recipe]
        changes = {f.name: getattr(self, f.name) for f in fields(Recipe) if getattr(self, f.name) is not None}
        return replace(recipe, **changes)

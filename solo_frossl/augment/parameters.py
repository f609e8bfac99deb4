"""Drawing: the random parameters of one view of a batch, as CPU tensors."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from solo_frossl.augment.views import Recipe

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
"""Numbers of the four jitter operations in :attr:`Parameters.jitter_order`, as in torchvision's ``ColorJitter``."""

_ATTEMPTS = 10


@dataclass(frozen=True)
class Parameters:
    """What happens to each of B images on the way to one view; all tensors on the CPU.

    Attributes:
        top: ``(B,)`` int64, first row of the crop, pixels.
        left: ``(B,)`` int64, first column of the crop, pixels.
        height: ``(B,)`` int64, rows of the crop, pixels.
        width: ``(B,)`` int64, columns of the crop, pixels.
        flip: ``(B,)`` bool, mirrored left to right.
        jitter: ``(B,)`` bool, colour jitter applied.
        jitter_order: ``(B, 4)`` int64, the jitter operations from first to last.
        brightness: ``(B,)`` float32 factor, >= 0.
        contrast: ``(B,)`` float32 factor, >= 0.
        saturation: ``(B,)`` float32 factor, >= 0.
        hue: ``(B,)`` float32 shift, turns in [-0.5, 0.5].
        grayscale: ``(B,)`` bool.
        blur: ``(B,)`` bool.
        sigma: ``(B,)`` float32 standard deviation of the blur, pixels.
        solarize: ``(B,)`` bool.
    """

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor
    flip: Tensor
    jitter: Tensor
    jitter_order: Tensor
    brightness: Tensor
    contrast: Tensor
    saturation: Tensor
    hue: Tensor
    grayscale: Tensor
    blur: Tensor
    sigma: Tensor
    solarize: Tensor

    def __len__(self) -> int:
        return len(self.top)


def _between(uniform: Tensor, low: float, high: float) -> Tensor:
    return low + (high - low) * uniform


def _draw_crop(recipe: Recipe, height: Tensor, width: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Top, left, height and width of the crops, each ``(B,)`` int64.

    Args:
        recipe: the bounds of area and ratio.
        height: ``(B,)`` float64, of the images, pixels.
        width: as height.
        uniform: ``(2 * _ATTEMPTS + 2, B)`` uniform in [0, 1).
    """
    low, high = recipe.crop_ratio
    area, ratio, place = uniform.split((_ATTEMPTS, _ATTEMPTS, 2))
    area = _between(area, *recipe.crop_scale) * height * width
    ratio = _between(ratio, math.log(low), math.log(high)).exp()
    widths = (area * ratio).sqrt().round()
    heights = (area / ratio).sqrt().round()
    fits = (widths > 0) & (widths <= width) & (heights > 0) & (heights <= height)
    found = fits.any(0)
    first = (torch.arange(_ATTEMPTS, 0, -1).view(-1, 1) * fits).argmax(0, keepdim=True)

    # The fallback: the image, its longer side cut until the ratio is within bounds, from the middle.
    tallest = torch.minimum((width / low).round().clamp(min=1), height)
    widest = torch.minimum((height * high).round().clamp(min=1), width)
    crop_height = torch.where(found, heights.gather(0, first)[0], tallest)
    crop_width = torch.where(found, widths.gather(0, first)[0], widest)
    top, left = height - crop_height, width - crop_width
    top = torch.where(found, place[0] * (top + 1), top / 2)
    left = torch.where(found, place[1] * (left + 1), left / 2)
    return top.long(), left.long(), crop_height.long(), crop_width.long()


def _factors(strength: float, uniform: Tensor) -> Tensor:
    return _between(uniform, max(0.0, 1.0 - strength), 1.0 + strength).float()


def draw_parameters(recipe: Recipe, heights: Tensor, widths: Tensor, generator: torch.Generator) -> Parameters:
    """The parameters of one view of B images, distributed as torchvision's transforms draw theirs.

    A crop has an area uniform in ``crop_scale`` and a ratio log-uniform in ``crop_ratio``; of ten attempts the first
    that fits counts, and if none does the crop is central. Every call takes the same number of values from the
    generator for the same B, whatever the recipe.

    Args:
        recipe: ranges and probabilities.
        heights: ``(B,)`` of the images, pixels.
        widths: as heights.
        generator: a CPU generator.
    """
    uniform = torch.rand(2 * _ATTEMPTS + 16, len(heights), generator=generator, dtype=torch.float64)
    crop, single = uniform.split((2 * _ATTEMPTS + 2, 14))
    top, left, height, width = _draw_crop(recipe, heights.double(), widths.double(), crop)
    return Parameters(
        top=top,
        left=left,
        height=height,
        width=width,
        flip=single[0] < recipe.flip_probability,
        jitter=single[1] < recipe.jitter_probability,
        jitter_order=single[2:6].argsort(0).T.contiguous(),
        brightness=_factors(recipe.brightness, single[6]),
        contrast=_factors(recipe.contrast, single[7]),
        saturation=_factors(recipe.saturation, single[8]),
        hue=_between(single[9], -recipe.hue, recipe.hue).float(),
        grayscale=single[10] < recipe.grayscale_probability,
        blur=single[11] < recipe.blur_probability,
        sigma=_between(single[12], *recipe.blur_sigma).float(),
        solarize=single[13] < recipe.solarize_probability,
    )

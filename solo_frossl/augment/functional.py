"""Batched image operations: every sample of the batch has its own parameters.

Each is deterministic and equals torchvision's functional applied image by image with that image's parameters, on
float32 images in [0, 1]. Nothing here draws and nothing waits for the device. Names that end in an underscore work in
place.

Antialiased resizing and Gaussian blur are separable and linear, so each is two matrix products with per-sample weight
rows, ``Y = R X C^T`` (:func:`resample`), whose rows come from :func:`resize_weights` and :func:`blur_weights`.

Branches are written as sums of clamped terms, because ``torch.where`` is not vectorised on CPUs.
"""

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

LUMA = (0.2989, 0.587, 0.114)
"""Weights of red, green and blue in a grey value (ITU-R 601-2, with torchvision's digits)."""


def _column(values: Tensor, dims: int) -> Tensor:
    """``(B,)`` as ``(B, 1, ...)`` with ``dims`` dimensions."""
    return values.view(-1, *[1] * (dims - 1))


def _cubic_(distance: Tensor) -> Tensor:
    """Twice Keys' cubic kernel with a = -1/2, of distances >= 0; the argument's memory is used up.

    With u = (2 - t)+ and v = (1 - t)+ its two branches are one expression: ``u^2 (u - 1) + 2 v^2 (1 - 2 v)``.
    """
    u = distance.neg_().add_(2.0).relu_()
    outer = u - 1.0
    v = outer.relu()
    return torch.addcmul(u.square_().mul_(outer), v.square(), 0.5 - v, value=4.0)


def _triangle_(distance: Tensor) -> Tensor:
    """``(1 - t)+``, the linear kernel, of distances >= 0; the argument's memory is used up."""
    return distance.neg_().add_(1.0).relu_()


_KERNELS = {"bicubic": _cubic_, "bilinear": _triangle_}


def resize_weights(
    start: Tensor, length: Tensor, source: int, size: int, interpolation: str, flip: Tensor | None = None
) -> Tensor:
    """Weight rows that crop one axis to ``[start, start + length)`` and resize it, antialiased, to ``size`` pixels.

    Row s is the kernel centred on ``start + (s + 1/2) length / size``, widened by ``length / size`` where that shrinks,
    zero outside the crop, with sum 1: what ``interpolate(..., antialias=True, align_corners=False)`` applies to it.

    Args:
        start: ``(B,)`` first pixel of the crop.
        length: ``(B,)`` pixels in the crop.
        source: pixels of the axis.
        size: pixels after resizing.
        interpolation: ``"bicubic"`` (a = -1/2) or ``"bilinear"``.
        flip: ``(B,)``, 1 where the result is mirrored, else 0; None mirrors nothing.

    Returns:
        ``(B, size, source)`` float32.

    >>> resize_weights(torch.tensor([1]), torch.tensor([2]), source=4, size=1, interpolation="bilinear")
    tensor([[[0.0000, 0.5000, 0.5000, 0.0000]]])
    """
    kernel = _KERNELS[interpolation]
    start, length = _column(start.float(), 3), _column(length.float(), 3)
    step = length / size
    pixel = torch.arange(source, dtype=torch.float32, device=start.device) - start
    outside = (pixel < 0) | (pixel >= length)
    pixel = (pixel + 0.5).masked_fill_(outside, torch.inf)
    row = torch.arange(size, dtype=torch.float32, device=start.device).view(1, -1, 1)
    if flip is not None:
        row = row + _column(flip, 3) * (size - 1 - 2 * row)
    width = step.clamp(min=1.0)
    weights = kernel(((row + 0.5) * (step / width) - pixel / width).abs_())
    return weights.div_(weights.sum(2, keepdim=True))


@lru_cache(maxsize=16)
def _reflected_taps(kernel_size: int, size: int, device: torch.device) -> Tensor:
    """``(kernel_size, size * size)``: 1 where that tap of output pixel s reads input pixel k, borders reflected."""
    offset = torch.arange(-(kernel_size // 2), kernel_size // 2 + 1, device=device).view(-1, 1, 1)
    pixel = torch.arange(size, device=device)
    read = (pixel.view(-1, 1) + offset).abs()
    read = (size - 1) - (size - 1 - read).abs()
    return (read == pixel).float().flatten(1)


def blur_weights(sigma: Tensor, kernel_size: int, size: int) -> Tensor:
    """Weight rows of a Gaussian blur of one axis, its borders reflected, as torchvision's ``gaussian_blur``.

    Args:
        sigma: ``(B,)`` standard deviation, pixels, > 0.
        kernel_size: taps, odd; ``kernel_size // 2 < size``.
        size: pixels of the axis.

    Returns:
        ``(B, size, size)`` float32.

    >>> blur_weights(torch.tensor([1.0]), kernel_size=3, size=3)[0, 0]  # left of pixel 0 lies pixel 1 again
    tensor([0.4519, 0.5481, 0.0000])
    """
    offset = torch.arange(kernel_size, device=sigma.device) - kernel_size // 2
    taps = torch.softmax(-0.5 * (offset / sigma.view(-1, 1)) ** 2, dim=1)
    taps = F.threshold(taps, 1e-12, 0.0)  # products with subnormal numbers are many times slower on CPUs
    return (taps @ _reflected_taps(kernel_size, size, sigma.device)).view(-1, size, size)


def resample(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """``R X C^T`` of every channel of every image.

    Args:
        images: ``(B, C, H, W)`` float32.
        rows: ``(B, S, H)`` weights.
        columns: ``(B, T, W)`` weights.

    Returns:
        ``(B, C, S, T)``.
    """
    batch, channels, height, width = images.shape
    narrow = torch.bmm(images.reshape(batch, channels * height, width), columns.transpose(1, 2))
    return torch.matmul(rows.unsqueeze(1), narrow.view(batch, channels, height, -1))


def crop_resize(image: Tensor, top: int, left: int, height: int, width: int, size: int, interpolation: str) -> Tensor:
    """One uint8 image ``(C, H, W)``: crop and antialiased resize to ``(C, size, size)`` float32, still in 0 to 255."""
    crop = image[None, :, top : top + height, left : left + width].float()
    return F.interpolate(crop, (size, size), mode=interpolation, align_corners=False, antialias=True)[0]


def gaussian_blur(images: Tensor, sigma: Tensor, kernel_size: int) -> Tensor:
    """Blurred square images ``(B, C, S, S)``; arguments as for :func:`blur_weights`."""
    weights = blur_weights(sigma, kernel_size, images.shape[-1])
    return resample(images, weights, weights)


def grayscale(images: Tensor) -> Tensor:
    """Luma of ``(B, 3, H, W)``, or ``(B, 1, H, W)`` as it is; returns ``(B, 1, H, W)``."""
    if images.shape[1] == 1:
        return images
    red, green, blue = images.split(1, dim=1)
    return (red * LUMA[0]).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2])


def blend_(images: Tensor, factor: Tensor, gray_share: Tensor, mean_share: Tensor) -> Tensor:
    """``clamp(factor * image + (1 - factor) * reference, 0, 1)`` in place: brightness, contrast and saturation in one.

    The reference is ``gray_share * luma + mean_share * mean(luma)``. Brightness has the shares (0, 0), contrast (0, 1),
    saturation (1, 0); so one batch may mix them.

    Args:
        images: ``(B, C, H, W)`` in [0, 1] with C of 1 or 3.
        factor: ``(B,)``, >= 0.
        gray_share: ``(B,)``, 0 or 1.
        mean_share: ``(B,)``, 0 or 1.
    """
    gray = grayscale(images)
    mean = gray.mean((1, 2, 3), keepdim=True)
    reference = (gray * _column(gray_share, 4)).add_(mean * _column(mean_share, 4))
    return torch.lerp(reference, images, _column(factor, 4), out=images).clamp_(0.0, 1.0)


def adjust_hue_(images: Tensor, shift: Tensor) -> Tensor:
    """Turn the hue by ``shift`` in place; the largest channel's value M and the chroma c = M - smallest are kept.

    The hue, in turns, is ``copysign(1/3 + (g + b - r - M) / 6c, g - b)``: along each edge of the hue hexagon this is
    the textbook's piecewise formula. Back, ``channel = M - c clamp(2 - 6 d, 0, 1)`` where d is the distance on the
    circle, in turns, between the hue and the channel's opposite colour (cyan 1/2, magenta -1/6, yellow 1/6). For hues
    that differ by x, |x| <= 1, d is ``1/2 - | |x| - 1/2 |``: ``channel = M + c - 6c clamp(| |x| - 1/2 |, 1/6, 1/3)``.

    Args:
        images: ``(B, 3, H, W)`` in [0, 1].
        shift: ``(B,)`` turns, in [-0.5, 0.5].
    """
    red, green, blue = images.split(1, dim=1)
    largest = torch.maximum(red, green)
    torch.maximum(largest, blue, out=largest)
    minus_six_c = torch.minimum(red, green)
    torch.minimum(minus_six_c, blue, out=minus_six_c).sub_(largest).mul_(6.0)
    turns = (red + largest).sub_(green).sub_(blue).div_(minus_six_c.clamp(max=-1e-12)).add_(1 / 3)
    turns.copysign_(green - blue).add_(_column(shift, 4))
    turns.sub_(turns.round())
    opposite = torch.arange(3, 9, 2, device=images.device).view(1, 3, 1, 1) / 6.0
    opposite = opposite - opposite.round()
    apart = torch.sub(turns, opposite, out=images)
    apart.abs_().sub_(0.5).abs_().clamp_(1 / 6, 1 / 3)
    return apart.mul_(minus_six_c).add_(largest.sub_(minus_six_c, alpha=1 / 6))


def solarize(images: Tensor, threshold: float) -> Tensor:
    """``1 - image`` where ``image >= threshold``, any shape, values in [0, 1]."""
    return (images - (images >= threshold).to(images.dtype)).abs_()

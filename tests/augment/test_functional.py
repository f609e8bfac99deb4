"""Every batched operation against torchvision's functional, image by image, with the same parameters."""

import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as reference

from solo_frossl.augment import functional

TOLERANCE = {"atol": 1e-4, "rtol": 0}


def pictures(*shape, seed=0):
    """Random images with pure, grey, black, white and two-tone ones among them."""
    images = torch.rand(shape, generator=torch.Generator().manual_seed(seed))
    images[0], images[1], images[2] = 0.0, 1.0, 0.3
    images[3] = images[3].round()
    images[4] = images[4, :1]
    return images


def uniform(count, low, high, seed=1):
    return low + (high - low) * torch.rand(count, generator=torch.Generator().manual_seed(seed))


def boxes(count, height, width, seed=2):
    """Random crops, the whole image and single pixels among them: top, left, height, width."""
    random = torch.Generator().manual_seed(seed)
    h = torch.randint(1, height + 1, (count,), generator=random)
    w = torch.randint(1, width + 1, (count,), generator=random)
    h[0], w[0], h[1], w[1] = height, width, 1, 1
    top = (torch.rand(count, generator=random) * (height - h + 1)).long()
    left = (torch.rand(count, generator=random) * (width - w + 1)).long()
    return top, left, h, w


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize(
    ("source", "size"), [((8, 8), 8), ((32, 32), 32), ((96, 80), 64), ((20, 31), 48), ((64, 64), 9)]
)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_resize_weights_equal_resized_crop_with_flip(interpolation, source, size, channels):
    count = 12
    images = torch.rand(count, channels, *source, generator=torch.Generator().manual_seed(0))
    top, left, height, width = boxes(count, *source)
    flip = torch.arange(count) % 2
    rows = functional.resize_weights(top, height, source[0], size, interpolation)
    columns = functional.resize_weights(left, width, source[1], size, interpolation, flip)
    result = functional.resample(images, rows, columns)
    for i in range(count):
        box = int(top[i]), int(left[i]), int(height[i]), int(width[i])
        mode = InterpolationMode(interpolation)
        expected = reference.resized_crop(images[i], *box, [size, size], mode, antialias=True)
        expected = reference.hflip(expected) if flip[i] else expected
        torch.testing.assert_close(result[i], expected, **TOLERANCE)


def test_resize_weights_are_zero_outside_the_crop_and_sum_to_one():
    weights = functional.resize_weights(torch.tensor([3]), torch.tensor([4]), 10, 5, "bicubic")[0]
    assert weights[:, :3].abs().max() == 0
    assert weights[:, 7:].abs().max() == 0
    torch.testing.assert_close(weights.sum(1), torch.ones(5))


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_crop_resize_equals_resized_crop(interpolation):
    image = torch.randint(0, 256, (3, 40, 50), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    result = functional.crop_resize(image, 5, 7, 30, 20, 24, interpolation)
    expected = reference.resized_crop(
        image.float(), 5, 7, 30, 20, [24, 24], InterpolationMode(interpolation), antialias=True
    )
    torch.testing.assert_close(result, expected, **TOLERANCE)


@pytest.mark.parametrize("size", [8, 33])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("operation", "gray_share", "mean_share"),
    [("adjust_brightness", 0, 0), ("adjust_contrast", 0, 1), ("adjust_saturation", 1, 0)],
)
def test_blend_equals_brightness_contrast_and_saturation(operation, gray_share, mean_share, size, channels):
    images = pictures(12, channels, size, size)
    factor = uniform(12, 0, 2)
    shares = torch.full((12,), float(gray_share)), torch.full((12,), float(mean_share))
    result = functional.blend_(images.clone(), factor, *shares)
    for i in range(12):
        expected = getattr(reference, operation)(images[i], float(factor[i]))
        torch.testing.assert_close(result[i], expected, **TOLERANCE)


def test_blend_mixes_operations_in_one_batch():
    images = pictures(6, 3, 7, 7)
    factor = uniform(6, 0, 2)
    kind = torch.arange(6) % 3
    result = functional.blend_(images.clone(), factor, (kind == 2).float(), (kind == 1).float())
    operations = [reference.adjust_brightness, reference.adjust_contrast, reference.adjust_saturation]
    for i in range(6):
        torch.testing.assert_close(result[i], operations[kind[i]](images[i], float(factor[i])), **TOLERANCE)


@pytest.mark.parametrize("size", [8, 33])
def test_adjust_hue(size):
    images = pictures(40, 3, size, size)
    shift = uniform(40, -0.5, 0.5)
    shift[:8] = torch.tensor([0.5, -0.5, 0.0, 0.5, 0.25, 1 / 3, -1 / 6, 0.0])
    result = functional.adjust_hue_(images.clone(), shift)
    for i in range(40):
        torch.testing.assert_close(result[i], reference.adjust_hue(images[i], float(shift[i])), **TOLERANCE)


def test_adjust_hue_of_the_corners_of_the_colour_cube_and_ties():
    steps = torch.linspace(0, 1, 5)
    image = torch.cartesian_prod(steps, steps, steps).T.reshape(1, 3, 5, 25)
    for shift in (-0.5, -1 / 3, -0.1, 0.0, 1 / 6, 0.5):
        result = functional.adjust_hue_(image.clone(), torch.tensor([shift]))
        torch.testing.assert_close(result[0], reference.adjust_hue(image[0], shift), **TOLERANCE)


@pytest.mark.parametrize("channels", [1, 3])
def test_grayscale(channels):
    images = pictures(6, channels, 9, 9)
    result = functional.grayscale(images)
    for i in range(6):
        torch.testing.assert_close(result[i], reference.rgb_to_grayscale(images[i]), **TOLERANCE)


@pytest.mark.parametrize(("size", "kernel_size"), [(32, 3), (8, 1), (8, 15), (64, 23)])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_gaussian_blur(size, kernel_size, channels):
    images = pictures(8, channels, size, size)
    sigma = uniform(8, 0.1, 2.0)
    result = functional.gaussian_blur(images, sigma, kernel_size)
    for i in range(8):
        expected = reference.gaussian_blur(images[i], [kernel_size] * 2, [float(sigma[i])] * 2)
        torch.testing.assert_close(result[i], expected, **TOLERANCE)


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 1.0])
def test_solarize(threshold):
    images = pictures(6, 3, 9, 9)
    torch.testing.assert_close(
        functional.solarize(images, threshold), reference.solarize(images, threshold), **TOLERANCE
    )

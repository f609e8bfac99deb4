"""The whole pipeline against torchvision with the same parameters, image by image; shapes, determinism, bad input."""

import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as reference

from solo_frossl.augment import Augment, View
from solo_frossl.augment import augment as module
from solo_frossl.seeding import generator

MEAN, STD = [0.5, 0.4, 0.3], [0.25, 0.2, 0.3]
JITTER = [
    reference.adjust_brightness,
    reference.adjust_contrast,
    reference.adjust_saturation,
    reference.adjust_hue,
]


def pictures(*shape, seed=0):
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def make(*views, size=16, channels=3):
    return Augment(views, size, MEAN[:channels], STD[:channels])


def reference_view(image, view, size, parameters, i):
    """What torchvision makes of one image with the parameters of sample i."""
    p, recipe = parameters, view.resolve()
    box = int(p.top[i]), int(p.left[i]), int(p.height[i]), int(p.width[i])
    mode = InterpolationMode(recipe.interpolation)
    result = reference.resized_crop(image.float() / 255, *box, [size, size], mode, antialias=True).clamp(0, 1)
    if p.flip[i]:
        result = reference.hflip(result)
    if p.jitter[i]:
        factors = p.brightness[i], p.contrast[i], p.saturation[i], p.hue[i]
        for operation in p.jitter_order[i].tolist():
            result = JITTER[operation](result, float(factors[operation]))
    if p.grayscale[i]:
        result = reference.rgb_to_grayscale(result, num_output_channels=len(image))
    if p.blur[i]:
        result = reference.gaussian_blur(result, [recipe.kernel_size(size)] * 2, [float(p.sigma[i])] * 2)
    if p.solarize[i]:
        result = reference.solarize(result, recipe.solarize_threshold)
    return reference.normalize(result, MEAN[: len(image)], STD[: len(image)])


def assert_equals_reference(augment, view, images, size, seed=3):
    """Equal in every pixel, but for those few that rounding moves across the threshold of solarise."""
    heights = torch.tensor([image.shape[-2] for image in images])
    widths = torch.tensor([image.shape[-1] for image in images])
    (parameters,) = augment.draw(len(images), heights, widths, generator(seed, "views"))
    (result,) = augment.apply(images, [parameters])
    assert result.shape == (len(images), images[0].shape[0], size, size)
    assert result.dtype == torch.float32
    for i, image in enumerate(images):
        expected = reference_view(image, view, size, parameters, i)
        far = (result[i] - expected).abs() > 1e-4
        if parameters.solarize[i]:
            assert far.float().mean() < 0.005
        else:
            assert not far.any(), f"sample {i} is off by {(result[i] - expected).abs().max()}"


EVERYTHING = {"blur_probability": 0.5, "solarize_probability": 0.3, "grayscale_probability": 0.3}


@pytest.mark.parametrize("products", [True, False], ids=["products", "per image"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("source", "size"), [((16, 16), 16), ((40, 28), 24), ((12, 12), 33)])
def test_pipeline_equals_torchvision(monkeypatch, products, interpolation, channels, source, size):
    monkeypatch.setattr(module, "_products_are_faster", lambda *_: products)
    view = View("symmetric", interpolation=interpolation, **EVERYTHING)
    assert_equals_reference(make(view, size=size, channels=channels), view, pictures(24, channels, *source), size)


@pytest.mark.parametrize("channels", [1, 3])
def test_ragged_images_equal_torchvision(channels):
    images = [pictures(channels, 10 + 3 * i, 40 - 2 * i, seed=i) for i in range(12)]
    view = View("symmetric", **EVERYTHING)
    assert_equals_reference(make(view, channels=channels), view, images, 16)


@pytest.mark.parametrize("recipe", ["symmetric", "weak", "asymmetric", "vicreg", "wmse", "crop_only", "digits"])
def test_every_recipe_equals_torchvision(recipe):
    view = View(recipe)
    assert_equals_reference(make(view), view, pictures(32, 3, 20, 20), 16)


def test_four_channels_without_colour():
    augment = Augment([View("crop_only", blur_probability=1.0)], 8, [0.5] * 4, [0.25] * 4)
    images = pictures(6, 4, 9, 9)
    (view,) = augment(images, generator(0, "views"))
    first = Augment([View("crop_only", blur_probability=1.0)], 8, [0.5] * 3, [0.25] * 3)
    torch.testing.assert_close(view[:, :3], first(images[:, :3], generator(0, "views"))[0])


def test_chunks_do_not_change_the_result(monkeypatch):
    augment, images = make(View("symmetric", count=2, **EVERYTHING)), pictures(30, 3, 16, 16)
    whole = augment(images, generator(0, "views"))
    monkeypatch.setattr(module, "_CPU_CHUNK_BYTES", 7 * 4 * 3 * 16 * 16 // torch.get_num_threads())
    assert len(list(augment._chunks(images, 16))) > 4
    for a, b in zip(whole, augment(images, generator(0, "views")), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0)


def test_ragged_and_whole_batches_agree():
    augment, images = make(View()), pictures(8, 3, 16, 16)
    (whole,) = augment(images, generator(0, "views"))
    (ragged,) = augment(list(images), generator(0, "views"))
    torch.testing.assert_close(whole, ragged, atol=1e-5, rtol=0)


def test_same_generator_seed_same_views_whatever_came_before():
    augment, images = make(View("symmetric", count=2)), pictures(8, 3, 16, 16)
    first = augment(images, generator(0, "views", epoch=1, step=2))
    torch.rand(7)
    augment(pictures(5, 3, 20, 20), generator(9, "views"))
    again = augment(images, generator(0, "views", epoch=1, step=2))
    other = augment(images, generator(0, "views", epoch=1, step=3))
    for a, b, c in zip(first, again, other, strict=True):
        assert torch.equal(a, b)
        assert not torch.equal(a, c)
    assert not torch.equal(first[0], first[1])


def test_global_generator_is_left_alone():
    torch.manual_seed(0)
    state = torch.get_rng_state()
    make(View())(pictures(4, 3, 16, 16), generator(0, "views"))
    assert torch.equal(torch.get_rng_state(), state)


def test_images_are_not_changed():
    images = pictures(8, 3, 16, 16)
    kept = images.clone()
    make(View("symmetric", **EVERYTHING))(images, generator(0, "views"))
    assert torch.equal(images, kept)


def test_multi_crop_asymmetric_and_eight_views():
    images = pictures(4, 3, 20, 20)
    multi = make(View("symmetric", count=2), View("symmetric", count=6, size=8, crop_scale=(0.05, 0.3)))
    assert [view.shape[-1] for view in multi(images, generator(0, "views"))] == [16, 16, 8, 8, 8, 8, 8, 8]
    asymmetric = make(View("asymmetric"), View("asymmetric", solarize_probability=1.0))
    first, second = asymmetric.draw(4, 20, 20, generator(0, "views"))
    assert not first.solarize.any()
    assert second.solarize.all()
    assert len(make(View("weak", count=8))) == 8


def test_large_jitter_stays_within_the_range_of_an_image():
    view = View("symmetric", brightness=3.0, contrast=3.0, saturation=3.0, hue=0.5, blur_probability=0.0)
    augment = Augment([view], 16, [0.0] * 3, [1.0] * 3)
    (result,) = augment(pictures(64, 3, 16, 16), generator(0, "views"))
    assert result.min() >= -1e-5
    assert result.max() <= 1 + 1e-5


def test_black_white_and_grey_images_give_finite_views():
    images = torch.tensor([0, 255, 77], dtype=torch.uint8).repeat_interleave(8).view(-1, 1, 1, 1).expand(-1, 3, 16, 16)
    (result,) = make(View("symmetric", **EVERYTHING))(images, generator(0, "views"))
    assert result.isfinite().all()


def test_image_of_one_pixel():
    view = View("digits")
    (result,) = make(view, size=4)(pictures(3, 3, 1, 1), generator(0, "views"))
    assert result.shape == (3, 3, 4, 4)


def test_autocast_does_not_reach_the_products():
    augment, images = make(View()), pictures(8, 3, 16, 16)
    (plain,) = augment(images, generator(0, "views"))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        (cast,) = augment(images, generator(0, "views"))
    assert torch.equal(plain, cast)


def test_normalize_equals_torchvision():
    images = pictures(4, 3, 9, 7)
    expected = reference.normalize(images.float() / 255, MEAN, STD)
    torch.testing.assert_close(make(View()).normalize(images), expected)


def test_repr_names_sizes_and_settings():
    text = repr(make(View("weak", size=12), View("symmetric")))
    assert "12 px" in text
    assert "16 px" in text
    assert "brightness=0.4" in text


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cuda_equals_cpu_and_never_waits_for_the_device():
    augment, images = make(View("symmetric", count=2, **EVERYTHING)), pictures(32, 3, 20, 20)
    on_cpu = augment(images, generator(0, "views"))
    images = images.cuda()
    augment(images, generator(1, "views"))
    torch.cuda.set_sync_debug_mode("error")
    try:
        on_gpu = augment(images, generator(0, "views"))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for a, b in zip(on_cpu, on_gpu, strict=True):
        assert ((a - b.cpu()).abs() > 1e-4).float().mean() < 0.001


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(2, 3, 8, 8), r"uint8 with 3 channels; got \(3, 8, 8\) torch.float32"),
        (torch.zeros(3, 8, 8, dtype=torch.uint8), r"\(B, C, H, W\)"),
        (torch.zeros(2, 1, 8, 8, dtype=torch.uint8), r"3 channels; got \(1, 8, 8\)"),
        (torch.zeros(0, 3, 8, 8, dtype=torch.uint8), "empty"),
        ([], "empty"),
        ([torch.zeros(3, 8, 8, dtype=torch.uint8), torch.zeros(8, 8, dtype=torch.uint8)], r"got \(8, 8\)"),
    ],
)
def test_bad_images(images, message):
    with pytest.raises(ValueError, match=message):
        make(View())(images, generator(0, "views"))


def test_parameters_of_another_batch_are_refused():
    augment = make(View("symmetric", count=2))
    parameters = augment.draw(4, 16, 16, generator(0, "views"))
    with pytest.raises(ValueError, match=r"\[4, 4\] images.*2 views of 5 images"):
        augment.apply(pictures(5, 3, 16, 16), parameters)
    with pytest.raises(ValueError, match=r"\[4\] images"):
        augment.apply(pictures(4, 3, 16, 16), parameters[:1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], 16, MEAN, STD), "at least one view"),
        (([View()], 16, MEAN, STD[:2]), "one value a channel"),
        (([View()], 16, [], []), "one value a channel"),
        (([View()], 16, MEAN, [0.2, 0.0, 0.2]), "std > 0"),
        (([View()], 16, [0.5] * 4, [0.2] * 4), "'symmetric'.*1 or 3 channels.*have 4"),
        (([View("crop_only", grayscale_probability=0.1)], 16, [0.5] * 2, [0.2] * 2), "1 or 3 channels.*have 2"),
        (([View(blur_kernel_size=33)], 16, MEAN, STD), "blur_kernel_size is 33.*16 pixels.*at most 31"),
        (([View()], 0, MEAN, STD), "image_size"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        Augment(*arguments)

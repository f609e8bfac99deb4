from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from solo_frossl.data.sources import ArraySource, FileSource, Unreadable, read_image, resize_and_crop


def source(folder: Path, *names: str, resize: int | None = None) -> FileSource:
    return FileSource(folder, names, torch.arange(len(names)), resize)


def test_png_is_read_exactly(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert image.dtype == torch.uint8
    assert image.permute(1, 2, 0).equal(torch.from_numpy(pixels))


@pytest.mark.parametrize(
    ("mode", "suffix"), [("L", "png"), ("1", "png"), ("P", "png"), ("RGBA", "png"), ("LA", "png"), ("CMYK", "jpg")]
)
def test_every_mode_becomes_rgb(tmp_path, mode, suffix, write_image):
    image = read_image(write_image(tmp_path / f"a.{suffix}", (5, 7), mode=mode))
    assert image.shape == (3, 7, 5)
    if mode in ("L", "1", "LA"):
        assert (image == image[:1]).all()


def test_alpha_is_dropped(tmp_path):
    Image.new("RGBA", (2, 2), (10, 20, 30, 0)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png")[:, 0, 0].tolist() == [10, 20, 30]


def test_16_bit_grey_keeps_its_high_byte(tmp_path):
    values = np.array([[0, 255, 256, 40000, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png")[0].tolist() == [[0, 0, 1, 156, 255]]


def test_palette_with_transparency(tmp_path):
    image = Image.new("P", (2, 2), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    image.save(tmp_path / "a.png", transparency=b"\x00\x80")
    assert read_image(tmp_path / "a.png")[:, 0, 0].tolist() == [10, 20, 30]


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_truncated_image_is_named(tmp_path, suffix, write_image, truncate):
    path = truncate(write_image(tmp_path / f"a.{suffix}", (40, 40)))
    failure = source(tmp_path, path.name).read(0)
    assert isinstance(failure, Unreadable)
    assert failure.path == str(path)
    assert failure.reason


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0"])
def test_garbage_is_unreadable(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    assert isinstance(source(tmp_path, "a.png").read(0), Unreadable)


def test_a_file_that_vanished_is_unreadable(tmp_path):
    assert "gone.png" in str(source(tmp_path, "gone.png").read(0))


def test_names_with_unusual_characters(tmp_path, write_image):
    name = "kätze/ü b\udcff.png"  # the last one is a byte that is not UTF-8
    write_image(tmp_path / name)
    assert source(tmp_path, name).read(0).shape == (3, 12, 12)


def test_select_keeps_names_and_labels_together(tmp_path):
    chosen = source(tmp_path, "a.png", "b.png", "c.png").select(torch.tensor([2, 0]))
    assert [chosen.path(i) for i in range(len(chosen))] == [str(tmp_path / "c.png"), str(tmp_path / "a.png")]
    assert chosen.labels.tolist() == [2, 0]


def test_shape_comes_from_headers(tmp_path, write_image):
    write_image(tmp_path / "a.png", (5, 7))
    write_image(tmp_path / "b.png", (5, 7))
    assert source(tmp_path, "a.png", "b.png").shape() == (3, 7, 5)
    write_image(tmp_path / "b.png", (6, 7))
    assert source(tmp_path, "a.png", "b.png").shape() is None
    assert source(tmp_path, "a.png", "b.png", resize=4).shape() == (3, 4, 4)


def test_resize_gives_the_centre_square(tmp_path, write_image):
    write_image(tmp_path / "a.png", (30, 20))
    assert source(tmp_path, "a.png", resize=8).read(0).shape == (3, 8, 8)


def test_resize_and_crop_matches_pillow():
    rows = torch.arange(40).view(-1, 1) * 4
    image = (rows + torch.arange(64) * 1).expand(3, 40, 64).to(torch.uint8)
    pil = Image.fromarray(image.permute(1, 2, 0).numpy()).resize((16, 10), Image.Resampling.BICUBIC)
    expected = torch.from_numpy(np.array(pil)).permute(2, 0, 1)[:, :, 3:13]
    assert (resize_and_crop(image, 10, 10).int() - expected.int()).abs().max() <= 1


def test_nothing_to_resize_is_nothing_done():
    images = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    assert resize_and_crop(images, 8, 8) is images


def test_array_source():
    images = torch.randint(0, 256, (5, 3, 12, 8), dtype=torch.uint8)
    whole = ArraySource(images, torch.arange(5))
    assert whole.shape() == (3, 12, 8)
    part = whole.select(torch.tensor([3, 1]))
    assert part.read(0).equal(images[3])
    assert part.labels.tolist() == [3, 1]
    small = ArraySource(images, torch.arange(5), resize=4)
    assert small.images.equal(resize_and_crop(images, 4, 4))
    assert small.shape() == (3, 4, 4)

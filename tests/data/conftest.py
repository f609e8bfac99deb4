"""Tiny datasets in the formats of the real ones."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from solo_frossl.data import loaders, module


def _write_image(path: Path, size: tuple[int, int] = (12, 12), seed: int = 0, mode: str = "RGB", **options) -> Path:
    """Write noise of a size (width, height) in pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path, **options)
    return path


def _truncate(path: Path) -> Path:
    """Keep the first half of a file."""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    return path


@pytest.fixture(scope="session")
def write_image() -> Callable[..., Path]:
    """``write_image(path, (width, height), seed, mode)`` writes noise and returns the path."""
    return _write_image


@pytest.fixture(scope="session")
def truncate() -> Callable[[Path], Path]:
    """``truncate(path)`` keeps the first half of a file and returns the path."""
    return _truncate


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twenty training and eight validation images of classes cat and dog, 12x12 pixels, JPEG and PNG."""
    for part, count in (("train", 10), ("val", 4)):
        for k, name in enumerate(("cat", "dog")):
            for i in range(count):
                suffix = "jpg" if i % 2 else "png"
                _write_image(tmp_path / part / name / f"{i:02d}.{suffix}", seed=1000 * (part == "val") + 100 * k + i)
    return tmp_path


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], None]:
    """Make the data code believe that it is process ``rank`` of ``world``."""

    def be(rank: int, world: int) -> None:
        monkeypatch.setattr(loaders, "rank", lambda: rank)
        monkeypatch.setattr(loaders, "world_size", lambda: world)
        monkeypatch.setattr(module, "rank", lambda: rank)

    return be

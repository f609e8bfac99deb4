import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.datasets

from solo_frossl.data import STL10

CLASSES = [f"class {i}" for i in range(10)]


def images(seed: int, count: int) -> np.ndarray:
    """Images ``(N, C, H, W)``; the files hold the transpose of each channel."""
    return np.random.default_rng(seed).integers(0, 256, (count, 3, 96, 96), dtype=np.uint8)


@pytest.fixture
def stl10(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    content = {
        "train_X.bin": images(0, 4).transpose(0, 1, 3, 2).tobytes(),
        "train_y.bin": bytes([1, 10, 3, 4]),
        "unlabeled_X.bin": images(1, 6).transpose(0, 1, 3, 2).tobytes(),
        "test_X.bin": images(2, 3).transpose(0, 1, 3, 2).tobytes(),
        "test_y.bin": bytes([5, 6, 7]),
    }
    listed = []
    for name, data in content.items():
        (folder / name).write_bytes(data)
        listed.append((name, hashlib.md5(data).hexdigest()))
    (folder / "class_names.txt").write_text("\n".join(CLASSES) + "\n")
    monkeypatch.setattr(torchvision.datasets.STL10, "train_list", listed[:3])
    monkeypatch.setattr(torchvision.datasets.STL10, "test_list", listed[3:])
    return tmp_path


def test_trains_on_labelled_and_unlabelled(stl10):
    data = STL10(root=str(stl10), batch_size=5)
    assert (data.num_classes, data.channels, data.image_size) == (10, 3, 96)
    data.prepare_data()
    data.setup()
    assert (data.num_train, data.num_val) == (10, 3)
    assert data._train.labels.tolist() == [0, 9, 2, 3] + [-1] * 6
    assert data.class_names == tuple(CLASSES)
    assert data._val.images.is_contiguous()
    assert data._train.images.numpy().tobytes() == images(0, 4).tobytes() + images(1, 6).tobytes()
    labels = [batch.label for batch in data.train_dataloader()]
    assert sum(int((label == -1).sum()) for label in labels) == 6


def test_only_labelled_images_are_probed(stl10):
    data = STL10(root=str(stl10), batch_size=5)
    data.setup()
    (batch,) = data.labelled_train_dataloader()
    assert batch.label.tolist() == [0, 9, 2, 3]
    assert batch.index.tolist() == [0, 1, 2, 3]
    (batch,) = data.whole_train_dataloader()
    assert batch.label.tolist() == [0, 9, 2, 3] + [-1] * 6
    assert batch.index.tolist() == list(range(10))
    assert [batch.label.tolist() for batch in data.val_dataloader()] == [[4, 5, 6]]


def test_a_subset_keeps_the_share_of_unlabelled_images(stl10):
    data = STL10(root=str(stl10), batch_size=1, subset=0.5)
    data.setup()
    assert int((data._train.labels == -1).sum()) == 3


def test_missing_and_damaged_files(stl10):
    with pytest.raises(FileNotFoundError, match=r"STL10 is not in .*stl10_binary: set data\.download"):
        STL10(root=str(stl10 / "elsewhere")).setup()
    (stl10 / "stl10_binary" / "unlabeled_X.bin").write_bytes(b"short")
    with pytest.raises(ValueError, match=r"damaged in .*: unlabeled_X\.bin"):
        STL10(root=str(stl10)).setup()


def test_colours_turned_grey(stl10):
    data = STL10(root=str(stl10), batch_size=5)
    with pytest.raises(RuntimeError, match="after setup"):
        data.turn_grey(0.4, 0.2)
    data.setup()
    data.turn_grey(0.4, 0.2)
    (batch,) = data.val_dataloader()
    assert batch.image.shape == (3, 3, 96, 96)
    grey = (batch.image.float() * torch.tensor([0.2989, 0.587, 0.114]).view(-1, 1, 1)).sum(1, keepdim=True)
    torch.testing.assert_close(data.clean(batch).image, (grey.floor() / 255 - 0.4) / 0.2, rtol=0, atol=1.01 / 255 / 0.2)
    assert data.make_views(batch).views[0].shape == (3, 1, 96, 96)
    assert (data.channels, data.mean, data.std) == (1, [0.4], [0.2])

import hashlib
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torchvision.datasets

from solo_frossl.data import CIFAR10, CIFAR100

CLASSES = [f"class {i}" for i in range(10)]


def write(folder: Path, name: str, content: dict) -> tuple[str, str]:
    folder.mkdir(parents=True, exist_ok=True)
    data = pickle.dumps(content)
    (folder / name).write_bytes(data)
    return name, hashlib.md5(data).hexdigest()


def entry(seed: int, count: int, labels: str) -> dict:
    rng = np.random.default_rng(seed)
    data = rng.integers(0, 256, (count, 3072), dtype=np.uint8)
    return {"data": data, labels: rng.integers(0, 10, count).tolist()}


@pytest.fixture
def cifar10(tmp_path, monkeypatch) -> Path:
    """Five training batches and a test batch of four images each, with their checksums known to torchvision."""
    folder = tmp_path / "cifar-10-batches-py"
    files = torchvision.datasets.CIFAR10
    train = [write(folder, f"data_batch_{i}", entry(i, 4, "labels")) for i in range(1, 6)]
    test = [write(folder, "test_batch", entry(6, 4, "labels"))]
    name, md5 = write(folder, "batches.meta", {"label_names": CLASSES})
    monkeypatch.setattr(files, "train_list", train)
    monkeypatch.setattr(files, "test_list", test)
    monkeypatch.setattr(files, "meta", {"filename": name, "key": "label_names", "md5": md5})
    return tmp_path


def test_reads_the_files(cifar10):
    data = CIFAR10(root=str(cifar10), batch_size=8)
    assert (data.num_classes, data.channels, data.image_size) == (10, 3, 32)
    data.prepare_data()
    data.setup()
    assert (data.num_train, data.num_val) == (20, 4)
    assert data.class_names == tuple(CLASSES)
    assert data.mean == [0.4914, 0.4822, 0.4465]
    second = entry(2, 4, "labels")
    batches = list(data.labelled_train_dataloader())
    assert batches[0].image[5].flatten().tolist() == second["data"][1].tolist()
    assert batches[0].label[4:8].tolist() == second["labels"]


def test_reads_cifar100(tmp_path, monkeypatch):
    folder = tmp_path / "cifar-100-python"
    files = torchvision.datasets.CIFAR100
    monkeypatch.setattr(files, "train_list", [write(folder, "train", entry(1, 10, "fine_labels"))])
    monkeypatch.setattr(files, "test_list", [write(folder, "test", entry(2, 4, "fine_labels"))])
    name, md5 = write(folder, "meta", {"fine_label_names": [f"c{i}" for i in range(100)]})
    monkeypatch.setattr(files, "meta", {"filename": name, "key": "fine_label_names", "md5": md5})
    data = CIFAR100(root=str(tmp_path), batch_size=8)
    data.setup()
    assert (data.num_classes, len(data.class_names), data.num_train, data.num_val) == (100, 100, 10, 4)


def test_given_statistics_win(cifar10):
    data = CIFAR10(root=str(cifar10), batch_size=8, mean=[0.5, 0.5, 0.5], std=[0.25, 0.25, 0.25])
    data.setup()
    batch = next(iter(data.val_dataloader()))
    expected = (batch.image / 255 - 0.5) / 0.25
    assert (data.clean(batch).image - expected).abs().max() < 1e-5


def test_missing_files_name_folder_and_remedy(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"CIFAR10 is not in .*cifar-10-batches-py: set data\.download to true"):
        CIFAR10(root=str(tmp_path)).setup()


@pytest.mark.parametrize("name", ["data_batch_3", "test_batch", "batches.meta"])
@pytest.mark.parametrize("damage", ["corrupt", "missing"])
def test_damaged_files_are_named(cifar10, name, damage):
    path = cifar10 / "cifar-10-batches-py" / name
    path.write_bytes(path.read_bytes()[:-1] + b"?") if damage == "corrupt" else path.unlink()
    with pytest.raises(ValueError, match=rf"missing or damaged in .*: {name}\. Delete"):
        CIFAR10(root=str(cifar10)).setup()


def test_a_download_that_fails_names_address_and_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "url", (tmp_path / "nowhere.tar.gz").as_uri())
    with pytest.raises(
        FileNotFoundError, match=r"downloading file:.* failed: .*cifar-10-python\.tar\.gz there by hand"
    ):
        CIFAR10(root=str(tmp_path), download=True).prepare_data()


def test_an_archive_put_there_by_hand_is_unpacked(cifar10, tmp_path, monkeypatch):
    root = tmp_path / "new"
    root.mkdir()
    archive = root / torchvision.datasets.CIFAR10.filename
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(cifar10 / "cifar-10-batches-py", "cifar-10-batches-py")
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "url", "file:///nowhere")
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
    data = CIFAR10(root=str(root), batch_size=8, download=True)
    data.prepare_data()
    archive.unlink()
    data.prepare_data()  # all files are there and whole, so nothing is fetched
    data.setup()
    assert data.num_train == 20

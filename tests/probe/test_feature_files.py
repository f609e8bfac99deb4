import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from solo_frossl.cli.features import features as command
from solo_frossl.data import DATASETS, ImageDataModule
from solo_frossl.probe import Features, read_features, write_features

ABOUT = {"backbone": "zoo:frossl", "seed": 0, "config": {"a": [1, None]}, "word": "Zürich"}


def features(count, seed=0):
    g = torch.Generator().manual_seed(seed)
    label = torch.randint(-1, 3, (count,), generator=g)
    return Features(torch.randn(count, 4, generator=g), label, torch.randperm(count, generator=g))


@pytest.fixture(params=[".npz", ".safetensors"])
def path(request, tmp_path):
    return tmp_path / "sub" / f"features{request.param}"


def test_reads_what_was_written(path):
    write_features(path, features(5), features(3, 1), ["a", "b", "ü"], ABOUT)
    write_features(path, features(7), features(3, 1), ("a", "b", "ü"), ABOUT)  # over the old one
    read = read_features(path)
    for part, expected in ((read.train, features(7)), (read.validation, features(3, 1))):
        for tensor, other in zip(part, expected, strict=True):
            assert torch.equal(tensor, other)
            assert tensor.dtype == other.dtype
    assert read.class_names == ["a", "b", "ü"]
    assert read.about == ABOUT
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_other_programs_read_it(tmp_path):
    write_features(tmp_path / "f.npz", features(5), features(3), ["a", "b", "c"], ABOUT)
    with np.load(tmp_path / "f.npz") as file:
        assert file["train_features"].shape == (5, 4)
        assert '"seed": 0' in str(file["about"])
    write_features(tmp_path / "f.safetensors", features(5), features(3), ["a", "b", "c"], ABOUT)
    with safe_open(tmp_path / "f.safetensors", "np") as file:
        assert file.get_tensor("validation_label").shape == (3,)
        assert '"seed": 0' in file.metadata()["solo_frossl"]


FILES = {"train_files": ["train/a/1.png", "train/ü/2.png", "\udcff.png"], "validation_files": ["val/a/1.png"]}


def test_the_file_of_each_row(path):
    write_features(path, features(3), features(1), ["a", "ü"], ABOUT, **FILES)
    read = read_features(path)
    assert {name: getattr(read, name) for name in FILES} == FILES
    assert (read.class_names, read.about) == (["a", "ü"], ABOUT)
    write_features(path, features(3), features(1), ["a", "ü"], ABOUT)
    assert read_features(path).train_files is read_features(path).validation_files is None
    with pytest.raises(ValueError, match="train_files has 3 names for 2 rows"):
        write_features(path, features(2), features(1), ["a", "ü"], ABOUT, **FILES)


def test_other_programs_read_the_names(tmp_path):
    write_features(tmp_path / "f.npz", features(3), features(1), ["a", "ü"], ABOUT, **FILES)
    with np.load(tmp_path / "f.npz", allow_pickle=False) as file:
        assert file["class_names"].tolist() == ["a", "ü"]
        assert file["class_names"].dtype.kind == file["train_files"].dtype.kind == "U"
        assert file["validation_files"].tolist() == FILES["validation_files"]
    write_features(tmp_path / "f.safetensors", features(3), features(1), ["a", "ü"], ABOUT, **FILES)
    with safe_open(tmp_path / "f.safetensors", "np") as file:
        assert json.loads(file.metadata()["solo_frossl"])["train_files"] == FILES["train_files"]
    write_features(tmp_path / "none.npz", features(3), features(1), [], ABOUT)
    with np.load(tmp_path / "none.npz") as file:
        assert (file["class_names"].shape, file["class_names"].dtype.kind) == ((0,), "U")


def test_too_many_names_for_safetensors_are_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr("solo_frossl.probe.feature_files.MOST_NAMES", 60)
    for suffix in ("npz", "safetensors"):
        write_features(tmp_path / f"f.{suffix}", features(3), features(1), ["a", "ü"], ABOUT, **FILES)
        assert (read_features(tmp_path / f"f.{suffix}").train_files is None) == (suffix == "safetensors")


def test_files_of_before_the_names_were_written(tmp_path):
    parts = {"train": features(3), "validation": features(1)}
    arrays = {f"{split}_{name}": t.numpy() for split, part in parts.items() for name, t in part._asdict().items()}
    np.savez(tmp_path / "f.npz", about=np.array(json.dumps({"class_names": ["a"], "about": ABOUT})), **arrays)
    read = read_features(tmp_path / "f.npz")
    assert (read.class_names, read.about, read.train_files) == (["a"], ABOUT, None)
    assert torch.equal(read.train.features, parts["train"].features)


@pytest.fixture
def photos(tmp_path):
    """Images of two classes, each of one shade."""
    for i, name in enumerate(["train/b/2", "train/b/10", "train/a/x/3", "train/a/1", "val/a/5", "val/b/4"]):
        file = tmp_path / "photos" / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), (40 * i,) * 3).save(file)
    return tmp_path / "photos"


@pytest.mark.parametrize("residency", ["memory", "stream"])
def test_the_program_tells_the_file_of_each_row(photos, tmp_path, residency):
    """An unreadable file is left out, and the rows after it keep their own."""
    (photos / "train/a/2.png").write_bytes(b"damaged")
    backbone = ["--backbone=untrained:resnet18", "--device=cpu", "--picture=none", f"--out={tmp_path}/f.npz"]
    data = [f"--data.root={photos}", "--data.resize=32", f"--data.residency={residency}", "--data.workers=0"]
    assert command([*backbone, "--dataset=folder", *data, "--data.on_error=skip"]) == 0
    read = read_features(tmp_path / "f.npz")
    assert read.train_files == ["train/a/1.png", "train/a/x/3.png", "train/b/10.png", "train/b/2.png"]
    assert read.validation_files == ["val/a/5.png", "val/b/4.png"]
    assert [read.class_names[i] for i in read.train.label] == [file.split("/")[1] for file in read.train_files]


def test_every_dataset_tells_its_files():
    """None of them has something else under that name."""
    assert all(dataset.image_files is ImageDataModule.image_files for dataset in DATASETS.values())


def test_images_that_are_no_files_have_no_names(tmp_path):
    options = ["--device=cpu", "--picture=none", f"--out={tmp_path}/f.npz", "--data.subset=20"]
    assert command(["--backbone=untrained:resnet18", "--dataset=digits", *options]) == 0
    assert read_features(tmp_path / "f.npz").train_files is None


def test_one_class_folder_is_explained_where_nothing_is_trained(photos, capsys):
    for name in ("train/b", "val/b"):
        shutil.rmtree(photos / name)
    options = ["--dataset=folder", f"--data.root={photos}", "--device=cpu"]
    with pytest.raises(SystemExit) as stop:
        command(["--backbone=untrained:resnet18", *options])
    message = capsys.readouterr().err
    assert stop.value.code == 2
    assert "To use the images without labels set data.labels to false" in message


def test_views_of_larger_tensors(path):
    whole = features(10)
    part = Features(*(tensor[::2] for tensor in whole))
    write_features(path, part, part, ["a", "b", "c"], {})
    assert torch.equal(read_features(path).train.features, whole.features[::2])


def test_a_failed_write_leaves_the_old_file(path, monkeypatch):
    write_features(path, features(5), features(3), ["a", "b", "c"], ABOUT)
    with pytest.raises(ValueError, match="about cannot be written"):
        write_features(path, features(6), features(3), ["a", "b", "c"], {"tensor": torch.ones(1)})

    def full(*args, **kwargs):
        raise OSError("No space left on device")

    monkeypatch.setattr("solo_frossl.probe.feature_files.np.savez", full)
    monkeypatch.setattr("solo_frossl.probe.feature_files.save", full)
    with pytest.raises(OSError, match="No space"):
        write_features(path, features(6), features(3), ["a", "b", "c"], ABOUT)
    assert len(read_features(path).train.label) == 5
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("name", ["f.csv", "f", "f.npz.gz"])
def test_an_unknown_suffix(tmp_path, name):
    with pytest.raises(ValueError, match=r"\.npz or \.safetensors, not .*" + name):
        write_features(tmp_path / name, features(5), features(3), ["a", "b", "c"], {})
    with pytest.raises(ValueError, match=r"\.npz or \.safetensors"):
        read_features(tmp_path / name)


def test_files_that_hold_something_else(path):
    with pytest.raises(FileNotFoundError, match=path.name):
        read_features(path)
    write_features(path, features(5), features(3), ["a", "b", "c"], {})
    whole = path.read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"x" * 100):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="does not hold features"):
            read_features(path)
    np.savez(path.with_suffix(".npz"), other=np.ones(3), about=np.array("{}"))
    with pytest.raises(ValueError, match="does not hold features as write_features writes them: there is no"):
        read_features(path.with_suffix(".npz"))


def test_no_pickle_is_read(tmp_path):
    np.savez(tmp_path / "f.npz", about=np.array([object()], dtype=object))
    with pytest.raises(ValueError, match="does not hold features"):
        read_features(tmp_path / "f.npz")

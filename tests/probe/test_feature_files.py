import numpy as np
import pytest
import torch
from safetensors import safe_open

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
    monkeypatch.setattr("solo_frossl.probe.feature_files.save_file", full)
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

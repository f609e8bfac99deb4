"""safetensors with their metadata inside."""

import json
import os
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file

from solo_frossl.zoo import ZooError, read_about, write_weights

ABOUT = {"name": "frossl-digits", "architecture": {"backbone": "resnet18", "width": 0.25}, "mean": [0.5], "epochs": 3}


def tensors():
    generator = torch.Generator().manual_seed(0)
    return {
        "conv1.weight": torch.randn(4, 3, 3, 3, generator=generator).half(),
        "bn1.num_batches_tracked": torch.tensor(7),
        "fc.weight": torch.randn(5, 4, generator=generator).t(),
    }


def test_tensors_and_metadata_come_back_and_the_bytes_are_the_same(tmp_path):
    first, second = tmp_path / "new" / "a.safetensors", tmp_path / "b.safetensors"
    write_weights(first, tensors(), ABOUT)
    write_weights(second, dict(reversed(tensors().items())), dict(reversed(ABOUT.items())))
    assert first.read_bytes() == second.read_bytes()
    assert read_about(first) == ABOUT
    loaded = load_file(first)
    assert loaded.keys() == tensors().keys()
    for key, tensor in tensors().items():
        assert loaded[key].dtype == tensor.dtype
        assert torch.equal(loaded[key], tensor)
    assert os.listdir(first.parent) == ["a.safetensors"]


@pytest.mark.parametrize("about", [{"a": object()}, {"a": float("nan")}, {"a": torch.ones(1)}])
def test_about_must_be_plain(tmp_path, about):
    with pytest.raises(ZooError, match="cannot be written as safetensors"):
        write_weights(tmp_path / "a.safetensors", tensors(), about)
    assert os.listdir(tmp_path) == []


def test_tensors_that_share_memory(tmp_path):
    shared = torch.ones(3)
    with pytest.raises(ZooError, match="share memory"):
        write_weights(tmp_path / "a.safetensors", {"a": shared, "b": shared}, ABOUT)
    assert os.listdir(tmp_path) == []


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path):
    (tmp_path / "a.safetensors").mkdir()
    with pytest.raises(IsADirectoryError):
        write_weights(tmp_path / "a.safetensors", tensors(), ABOUT)
    assert os.listdir(tmp_path) == ["a.safetensors"]


def test_what_is_not_such_a_file(tmp_path):
    with pytest.raises(ZooError, match="cannot be read as safetensors"):
        read_about(tmp_path / "nowhere.safetensors")
    file = tmp_path / "a.safetensors"
    for content in (b"", b"x" * 100, pickle.dumps({"a": 1})):
        file.write_bytes(content)
        with pytest.raises(ZooError, match="cannot be read as safetensors"):
            read_about(file)
    write_weights(file, tensors(), ABOUT)
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ZooError, match="cannot be read as safetensors"):
        read_about(file)
    for metadata in (None, {"format": "pt"}, {"solo_frossl": "{"}, {"solo_frossl": json.dumps([1])}):
        save_file({"a": torch.ones(1)}, file, metadata)
        with pytest.raises(ZooError, match="does not say what its weights are"):
            read_about(file)

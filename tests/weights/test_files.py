"""Reading files: every tensor, no code, and a clear word on what is no checkpoint."""

import argparse
import collections
import os
import pickle
import struct
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from foreign_files import CreatesAFile, foreign_class, tensor_names
from safetensors.torch import save_file
from torch import nn

from solo_frossl.weights import WeightsError, read_tensors

TENSORS = {"a.weight": torch.randn(3, 4), "a.count": torch.tensor(7), "b": torch.randn(5).half()}

FLAT = {f"state_dict.{name}": value for name, value in TENSORS.items()}


def same(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value)
        assert found[name].dtype == value.dtype


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before torch 1.6"])
@pytest.mark.parametrize("suffix", ["ckpt", "pth", "pth.tar", "safetensors.bak"])
def test_what_torch_saves(tmp_path, zipped, suffix):
    path = tmp_path / f"file.{suffix}"
    torch.save({"state_dict": TENSORS, "epoch": 3}, path, _use_new_zipfile_serialization=zipped)
    content = read_tensors(path)
    same(content.tensors, FLAT)
    assert (content.kind, content.foreign, content.config) == ("torch", (), None)


def test_safetensors(tmp_path):
    path = tmp_path / "file.safetensors"
    save_file(TENSORS, path, {"author": "me"})
    content = read_tensors(path)
    same(content.tensors, TENSORS)
    assert (content.kind, content.metadata) == ("safetensors", {"author": "me"})
    path.rename(tmp_path / "renamed.bin")
    same(read_tensors(tmp_path / "renamed.bin").tensors, TENSORS)


def test_a_container_within_itself(tmp_path):
    content = {"w": torch.ones(2), "nested": [torch.zeros(1)]}
    content["itself"] = content
    content["nested"].append(content["nested"])
    torch.save(content, tmp_path / "file.pth")
    assert read_tensors(tmp_path / "file.pth").tensors.keys() == {"w", "nested.0"}


def test_nested_containers_and_parameters(tmp_path):
    content = {
        "model": collections.OrderedDict(weight=nn.Parameter(torch.ones(2))),
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(2)}, 1: {"exp_avg": torch.ones(3)}}, "param_groups": [{}]},
        "pair": (torch.ones(1), [torch.zeros(1)]),
        "config": {"model": {"backbone": "resnet18"}},
    }
    torch.save(content, tmp_path / "file.pth")
    found = read_tensors(tmp_path / "file.pth")
    assert found.tensors.keys() == tensor_names(content) == {
        "model.weight", "optimizer.state.0.exp_avg", "optimizer.state.1.exp_avg", "pair.0", "pair.1.0"
    }  # fmt: skip
    assert not found.tensors["model.weight"].requires_grad
    assert found.config == {"model": {"backbone": "resnet18"}}


# ------------------------------------------------------------------------------------------------------- foreign things


class Reduced:
    """Pickles as a call of a function, with a state, items, and keyword arguments."""

    def __init__(self, *reduced):
        self.reduced = reduced

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before torch 1.6"])
def test_objects_of_other_classes_become_empty_shells(tmp_path, zipped):
    path = tmp_path / "file.ckpt"
    with foreign_class() as config, foreign_class("Thing", "elsewhere.things") as thing:
        content = {
            "hyper_parameters": config(lr=0.1, nested=config(a=[1])),
            "args": argparse.Namespace(lr=1.0, list=[1, 2]),
            "nested": [{"deep": thing(x=1)}],
            "state_dict": TENSORS,
            "numpy": np.float64(3.0),
            "array": np.arange(3),
            "dtype": torch.float16,
            "counter": collections.Counter("abc"),
            "default": collections.defaultdict(list, {"a": [1]}),
            "path": Reduced(os.system, (f"touch {tmp_path}/system",)),
        }
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)
    found = read_tensors(path)
    same(found.tensors, FLAT)
    assert {"omegaconf_stand_in.dictconfig.DictConfig", "elsewhere.things.Thing", "argparse.Namespace"} <= {
        *found.foreign
    }
    assert f"{os.system.__module__}.system" in found.foreign
    assert [file.name for file in tmp_path.iterdir()] == ["file.ckpt"]


MARK = "ran"


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before torch 1.6"])
@pytest.mark.parametrize("place", ["key", "value", "state", "items", "pairs", "whole"])
def test_nothing_that_a_file_names_is_run(tmp_path, zipped, place):
    """``open`` for writing would leave a file, ``eval`` another, wherever in the file they stand."""
    evil = CreatesAFile(tmp_path / MARK)
    call = Reduced(eval, (f"open({str(tmp_path / MARK)!r}, 'w')",))
    content = {
        "key": {(evil, call): 1},
        "value": {"x": [evil, call]},
        "state": {"x": Reduced(collections.OrderedDict, (), {"a": evil, "b": call})},
        "items": {"x": Reduced(list, (), None, iter([evil, call]))},
        "pairs": {"x": Reduced(collections.OrderedDict, (), None, None, iter([("a", evil), ("b", call)]))},
        "whole": evil,
    }[place]
    path = tmp_path / "file.pth"
    saved = content if place == "whole" else {"state_dict": TENSORS, **content}
    torch.save(saved, path, _use_new_zipfile_serialization=zipped)
    if place == "whole":
        refused(path, "holds no tensors by name")
    else:
        found = read_tensors(path)
        same({name: found.tensors[name] for name in tensor_names({"state_dict": TENSORS})}, FLAT)
        assert any(name.endswith(".open") for name in found.foreign)
    assert [file.name for file in tmp_path.iterdir()] == ["file.pth"]
    if zipped:  # the same file, read as it is usually read, does run it
        torch.load(path, weights_only=False)
        assert (tmp_path / MARK).exists()


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before torch 1.6"])
def test_a_whole_network_is_no_state_dict(tmp_path, zipped):
    path = tmp_path / "model.pt"
    torch.save(nn.Linear(2, 2), path, _use_new_zipfile_serialization=zipped)
    refused(
        path, r"holds no tensors by name, only objects of torch\.nn\.modules\.linear\.Linear.*model\.state_dict\(\)"
    )


# ------------------------------------------------------------------------------------------------------ what is no file


def write(path, content):
    path.write_bytes(content)
    return path


def good(tmp_path, zipped=True):
    path = tmp_path / "good.ckpt"
    torch.save({"state_dict": {"w": torch.randn(200, 200)}}, path, _use_new_zipfile_serialization=zipped)
    return path.read_bytes()


def refused(path, message):
    with pytest.raises(WeightsError, match=message) as error:
        read_tensors(path)
    assert str(path) in str(error.value)


def test_missing_and_folder(tmp_path):
    refused(tmp_path / "nothing.ckpt", "is not there")
    refused(tmp_path, "is a folder, not a file")


@pytest.mark.parametrize("suffix", ["ckpt", "safetensors"])
def test_empty(tmp_path, suffix):
    refused(write(tmp_path / f"file.{suffix}", b""), "empty")


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("kind", ["zip", "old", "safetensors"])
def test_cut_off(tmp_path, kind, share):
    if kind == "safetensors":
        save_file({"w": torch.randn(200, 200)}, tmp_path / "good.safetensors")
        whole = (tmp_path / "good.safetensors").read_bytes()
    else:
        whole = good(tmp_path, kind == "zip")
    path = write(
        tmp_path / f"cut.{'safetensors' if kind == 'safetensors' else 'ckpt'}", whole[: int(share * len(whole))]
    )
    refused(path, "cut off")


def test_a_changed_byte_anywhere_in_a_zip_is_noticed(tmp_path):
    """Or does not matter: it stands between the parts, where nothing is read."""
    whole = good(tmp_path)
    expected = read_tensors(tmp_path / "good.ckpt").tensors["state_dict.w"]
    noticed = 0
    for position in range(0, len(whole), len(whole) // 60):
        changed = bytearray(whole)
        changed[position] ^= 0xFF
        path = write(tmp_path / "changed.ckpt", changed)
        try:
            found = read_tensors(path).tensors
        except WeightsError:
            noticed += 1
        else:
            assert torch.equal(found["state_dict.w"], expected)
    assert noticed > 50


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<!DOCTYPE html><html>404</html>", "is no checkpoint"),
        (b"\x89PNG\r\n\x1a\n" + b"0" * 100, "is no checkpoint"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is no checkpoint"),
        (pickle.dumps({"a": 1}), "cannot be read"),
        (b"\x80\x02", "cannot be read"),
        (struct.pack("<Q", 10**9) + b"{" + b"0" * 50, "is no checkpoint"),
    ],
    ids=["html", "png", "lfs", "pickle", "begun", "header"],
)
def test_other_files(tmp_path, content, message):
    refused(write(tmp_path / "file.pth", content), message)


def test_other_archives(tmp_path):
    with zipfile.ZipFile(tmp_path / "file.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    refused(tmp_path / "file.zip", "is a zip file, and no checkpoint")
    with tarfile.open(tmp_path / "file.tar", "w") as archive:
        archive.add(tmp_path / "file.zip", "file.zip")
    refused(tmp_path / "file.tar", "is a tar archive")


def test_a_torchscript_program_is_code(tmp_path):
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), tmp_path / "program.pt")
    refused(tmp_path / "program.pt", "TorchScript program, which is code")


@pytest.mark.parametrize("content", [{}, {"epoch": 3, "state_dict": {}}, [1, 2], "text"])
def test_without_tensors(tmp_path, content):
    torch.save(content, tmp_path / "file.pth")
    refused(tmp_path / "file.pth", "holds no tensors by name")


def test_two_tensors_of_one_name(tmp_path):
    torch.save({"a.b": torch.ones(1), "a": {"b": torch.ones(1)}}, tmp_path / "file.pth")
    refused(tmp_path / "file.pth", r"two tensors of the name a\.b")


def test_a_bare_tensor_has_no_name(tmp_path):
    torch.save(torch.ones(3), tmp_path / "file.pth")
    refused(tmp_path / "file.pth", "holds no tensors by name")


def test_lists_that_hold_one_another_many_times_over(tmp_path):
    content = {"a": torch.ones(1)}
    for _ in range(40):
        content = {"x": content, "y": content}
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(
        WeightsError, match=r"a\.pth: it holds more than 1,000,000 lists and mappings, which is no checkpoint"
    ):
        read_tensors(tmp_path / "a.pth")


@pytest.mark.parametrize(("epoch", "processed", "epochs"), [(2, 3, 3), (2, 2, None), (0, 1, 1)])
def test_the_epochs_that_a_checkpoint_of_lightning_has(tmp_path, epoch, processed, epochs):
    loops = {"fit_loop": {"epoch_progress": {"current": {"processed": processed}}}}
    torch.save({"state_dict": TENSORS, "epoch": epoch, "loops": loops}, tmp_path / "last.ckpt")
    assert read_tensors(tmp_path / "last.ckpt").epochs == epochs

"""Exported backbones: what the printed lines of Python make of a file gives the backbone's own features."""

import copy
import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import nn

from solo_frossl.methods.backbones import Stem
from solo_frossl.weights import Architecture, Pretrained, export, load_backbone
from solo_frossl.weights.export import SUFFIXES, ExportError, export_backbone, recipe

NETWORKS = {
    "narrow, grey": Architecture("resnet18", "cifar", width=0.25, channels=1, image_size=16),
    "plain": Architecture("resnet18", image_size=64),
    "of its own stem": Architecture("resnet18", Stem(5, 2, True, padding=1, relu=False), image_size=32),
    "a ViT": Architecture("test_vit", image_size=160),
    "a ConvNeXt": Architecture("test_convnext", image_size=64),
}
IN_TORCHVISION = ("plain", "of its own stem")
PAIRS = [
    pytest.param(name, format, marks=() if name == "narrow, grey" and format != "onnx" else pytest.mark.slow)
    for name in NETWORKS
    for format in SUFFIXES
    if format != "torchvision" or name in IN_TORCHVISION
]


def pretrained(name: str, **kwargs) -> Pretrained:
    """Random weights and BatchNorm statistics, so that leaving either out would show."""
    torch.manual_seed(0)
    network = NETWORKS[name].build()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return Pretrained(network, name=name, architecture=NETWORKS[name], **kwargs)


def read_back(backbone: Pretrained, path, format: str, images):
    """Features by what the recipe's lines define, which know nothing of this package."""
    text = recipe(backbone, path, format)
    assert "solo_frossl" not in text
    names: dict = {}
    exec(text, names)
    if format == "onnx":
        return torch.from_numpy(names["features"](images.numpy()))
    with torch.no_grad():
        return names["features"](images)


@pytest.mark.parametrize(("name", "format"), PAIRS)
def test_the_file_gives_the_same_features(tmp_path, name, format):
    backbone, path = pretrained(name), tmp_path / f"a{SUFFIXES[format]}"
    assert export_backbone(backbone, path, format) <= 1e-4
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    size = NETWORKS[name].image_size
    images = torch.randn(3, NETWORKS[name].channels, size, size)
    with torch.no_grad():
        expected = backbone(images)
    torch.testing.assert_close(
        read_back(backbone, path, format, images), expected, rtol=0, atol=1e-4 * float(expected.abs().max())
    )
    if format != "onnx":  # and this package reads it as any other file
        with torch.no_grad():
            again = load_backbone(str(path), stem=NETWORKS[name].stem, architecture=NETWORKS[name].backbone)(images)
        torch.testing.assert_close(again, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["convnext_tiny", "vit_base_patch32_224"])
def test_vits_and_convnexts_get_torchvision_s_names(tmp_path, name):
    torch.manual_seed(0)
    architecture = Architecture(name, image_size=64)
    backbone = Pretrained(architecture.build(), name=name, architecture=architecture)
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    path, images = tmp_path / "a.pth", torch.randn(2, 3, 64, 64)
    assert export_backbone(backbone, path, "torchvision") <= 1e-4
    with torch.no_grad():
        expected = backbone(images)
        again = load_backbone(path)
        torch.testing.assert_close(read_back(backbone, path, "torchvision", images), expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(again(images), expected, rtol=1e-5, atol=1e-5)
    assert again.architecture.backbone == name
    if "vit" in name:
        with pytest.raises(ExportError, match="one size, here 64 pixels"):
            export_backbone(backbone, path, "torchvision", 96)
    path.unlink()


@pytest.mark.slow
def test_a_network_whose_weights_lie_channels_last(tmp_path):
    backbone = pretrained("plain")
    backbone.backbone.to(memory_format=torch.channels_last)
    for format, suffix in SUFFIXES.items():
        assert export_backbone(backbone, tmp_path / f"a{suffix}", format, image_size=48) <= 1e-4


def test_what_torchvision_cannot_hold(tmp_path):
    for name, message in {"narrow, grey": "width 0.25", "a ViT": "no such ResNet, ViT or ConvNeXt"}.items():
        with pytest.raises(ExportError, match=message):
            export_backbone(pretrained(name), tmp_path / "a.pth", "torchvision")
    grey = Architecture("convnext_tiny", channels=1)
    with torch.device("meta"), pytest.raises(ExportError, match=r"images of 1 channel\(s\), and torchvision's"):
        export_backbone(Pretrained(grey.build(), name="grey", architecture=grey), tmp_path / "a.pth", "torchvision")
    with pytest.raises(ExportError, match="format is 'caffe': it must be timm, torchvision, safetensors, onnx"):
        export_backbone(pretrained("plain"), tmp_path / "a.pth", "caffe")
    assert not list(tmp_path.iterdir())


def test_a_file_of_other_features_is_not_kept(tmp_path, monkeypatch):
    backbone, path = pretrained("plain"), tmp_path / "a.pth"
    path.write_bytes(b"the one before")

    def without_statistics(backbone):
        tensors = copy.deepcopy(backbone.backbone.state_dict())
        return {key: value + 0.01 if key.endswith("running_mean") else value for key, value in tensors.items()}

    monkeypatch.setattr(export, "_plain", without_statistics)
    with pytest.raises(ExportError, match="so nothing was written"):
        export_backbone(backbone, path, "timm")
    assert path.read_bytes() == b"the one before"
    assert len(list(tmp_path.iterdir())) == 1


def test_single_images_are_compared_too(tmp_path, monkeypatch):
    """A file may have frozen the batch that it was made with."""

    def frozen(backbone, path, images):
        path.write_bytes(b"x")
        return lambda batch: backbone(batch) if len(batch) > 1 else backbone(batch) + 1

    monkeypatch.setattr(export, "_write_timm", frozen)
    with torch.no_grad(), pytest.raises(ExportError, match="so nothing was written"):
        export_backbone(pretrained("plain"), tmp_path / "a.pth", "timm")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("format", ["timm", "safetensors"])
def test_a_full_disk_is_an_oserror_and_leaves_nothing(tmp_path, format):
    """torch.save by itself makes a RuntimeError of it."""
    path = tmp_path / f"a{SUFFIXES[format]}"
    for part in (f"{path}.part", f"{path}.part.part"):
        Path(part).symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        export_backbone(pretrained("plain"), path, format)
    assert not path.exists()


@pytest.mark.parametrize("size", [0, -4])
def test_an_image_size_that_is_none(tmp_path, size):
    with pytest.raises(ExportError, match=f"image_size is {size}: it must be at least 1 pixel"):
        export_backbone(pretrained("plain"), tmp_path / "a.pth", "timm", size)


def test_onnx_without_its_packages(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(ExportError, match=r"pip install 'solo-frossl\[onnx\]'"):
        export_backbone(pretrained("plain"), tmp_path / "a.onnx", "onnx")


@pytest.mark.slow
def test_what_the_files_say_of_themselves(tmp_path):
    onnx = pytest.importorskip("onnx")
    backbone = pretrained("narrow, grey", mean=[0.3], std=[0.4])
    export_backbone(backbone, tmp_path / "a.safetensors", "safetensors")
    export_backbone(backbone, tmp_path / "a.onnx", "onnx")
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        said = json.loads(file.metadata()["solo_frossl"])
    (entry,) = onnx.load(tmp_path / "a.onnx").metadata_props
    for about in (said, json.loads(entry.value)):
        assert (about["mean"], about["std"]) == ([0.3], [0.4])
        assert Architecture.from_dict(about["architecture"]) == NETWORKS["narrow, grey"]
    again = load_backbone(tmp_path / "a.safetensors")
    assert (again.mean, again.std, again.image_size) == ((0.3,), (0.4,), 16)

"""A backbone as a file that other libraries read: a plain state dict, safetensors or ONNX, checked as it is written."""

import copy
import json
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, get_args

import torch
import torchvision
from safetensors.torch import load_file
from timm.models.resnet import ResNet
from torch import Tensor, nn

from solo_frossl.methods.backbones import STEMS
from solo_frossl.replacing import replacing
from solo_frossl.seeding import generator
from solo_frossl.weights.layouts import recognise
from solo_frossl.weights.pretrained import Pretrained
from solo_frossl.zoo import write_weights

Features = Callable[[Tensor], Tensor]
Format = Literal["timm", "torchvision", "safetensors", "onnx"]
SUFFIXES: dict[str, str] = {"timm": ".pth", "torchvision": ".pth", "safetensors": ".safetensors", "onnx": ".onnx"}
"""The ending of each format's files."""
TOLERANCE = 1e-4
"""Greatest difference of features that an export may have, relative to their greatest magnitude."""
_BATCH = 4


class ExportError(ValueError):
    """A backbone that a format cannot hold, or a file that does not give its features."""


def export_backbone(backbone: Pretrained, path: str | Path, format: Format, image_size: int | None = None) -> float:
    """Write a backbone in another library's format, read it back, and compare features of random images.

    Nothing replaces ``path`` before the comparison has succeeded.

    Args:
        backbone: what to write.
        path: the file.
        format: ``timm`` or ``torchvision``: a state dict under that library's names, without a classifier, for
            ``torch.load(path, weights_only=True)``; ``safetensors``: the same tensors, timm's names, with architecture,
            mean and std in the metadata; ``onnx``: the network from normalised images ``(B, C, S, S)`` to features
            ``(B, F)``, B being free.
        image_size: side S of the images, pixels; none given: the side that the network was trained at, else 224.

    Returns:
        The greatest difference of a feature from the backbone's own, relative to the features' greatest magnitude.

    Raises:
        ExportError: the format cannot hold this network, the image size cannot be, or the file gives other features.
        OSError: the file cannot be written.
    """
    if format not in get_args(Format):
        raise ExportError(f"format is {format!r}: it must be {', '.join(get_args(Format))}")
    if image_size is not None and image_size < 1:
        raise ExportError(f"image_size is {image_size}: it must be at least 1 pixel")
    path = Path(path)
    size = image_size or backbone.architecture.image_size or 224
    write = {
        "timm": _write_timm,
        "torchvision": _write_torchvision,
        "safetensors": _write_safetensors,
        "onnx": _write_onnx,
    }[format]
    draw = generator(0, "export")
    images = torch.randn(_BATCH, backbone.architecture.channels, size, size, generator=draw)
    with replacing(path) as part:
        features = write(backbone, part, images)
        difference = _difference(backbone, features, images)
        if not difference <= TOLERANCE:
            raise ExportError(
                f"{backbone.name} as {format} gives features that differ by {difference:.1e} of their greatest"
                f" magnitude (at most {TOLERANCE:.0e} is allowed), so nothing was written"
            )
    return difference


def recipe(backbone: Pretrained, path: str | Path, format: Format) -> str:
    """Lines of Python that read an exported file without this package.

    They leave ``features``, a function of normalised images, and for the state dicts ``model`` in eval mode.

    Args:
        backbone: what was exported.
        path: the file.
        format: its format.
    """
    if format == "onnx":
        return (
            "import onnxruntime\n\n"
            f"session = onnxruntime.InferenceSession({str(path)!r})\n"
            'features = lambda images: session.run(None, {"images": images})[0]  # float32 NumPy arrays'
        )
    return "\n".join([*_network(backbone, format), *_reading(path, format), "features = model.eval()"])


def _network(backbone: Pretrained, format: Format) -> list[str]:
    """Lines that build the network in the format's own library."""
    architecture = backbone.architecture
    resnet = isinstance(backbone.backbone, ResNet)
    arguments = [f'"{architecture.backbone}"', "num_classes=0"]
    if architecture.channels != 3:
        arguments.append(f"in_chans={architecture.channels}")
    if architecture.width != 1:
        arguments.append(f"channels={tuple(_stage_channels(backbone))}")
    if not resnet and architecture.image_size and hasattr(backbone.backbone, "pos_embed"):
        arguments.append(f"img_size={architecture.image_size}")
    if format == "torchvision":
        name, size = _in_torchvision(backbone)
        built = f"torchvision.models.{name}({f'image_size={size}' if size else ''})"
        lines = ["import torch, torchvision", f"model = {built}"]
        lines.append(f'model.set_submodule("{_classifier(name)}", torch.nn.Identity())')
    else:
        first = "import safetensors.torch, timm, torch" if format == "safetensors" else "import timm, torch"
        lines = [first, f"model = timm.create_model({', '.join(arguments)})"]
    stem = STEMS[architecture.stem] if isinstance(architecture.stem, str) else architecture.stem
    if resnet and (architecture.stem != "imagenet" or (format == "torchvision" and architecture.channels != 3)):
        padding = stem.kernel_size // 2 if stem.padding is None else stem.padding
        lines.append(
            f"model.conv1 = torch.nn.Conv2d({architecture.channels}, {backbone.backbone.conv1.out_channels},"
            f" {stem.kernel_size}, stride={stem.stride}, padding={padding}, bias=False)"
        )
        if not stem.relu:
            lines.append(f"model.{'relu' if format == 'torchvision' else 'act1'} = torch.nn.Identity()")
        if not stem.max_pool:
            lines.append("model.maxpool = torch.nn.Identity()")
    return lines


def _reading(path: str | Path, format: Format) -> list[str]:
    if format == "safetensors":
        return [f"model.load_state_dict(safetensors.torch.load_file({str(path)!r}))"]
    return [f"model.load_state_dict(torch.load({str(path)!r}, weights_only=True))"]


def _stage_channels(backbone: Pretrained) -> list[int]:
    """Channels inside the blocks of a ResNet's four stages, what timm calls ``channels``."""
    stages = (getattr(backbone.backbone, f"layer{i}")[0] for i in (1, 2, 3, 4))
    return [stage.conv2.out_channels for stage in stages]


def _plain(backbone: Pretrained) -> dict[str, Tensor]:
    return {name: value.detach().cpu().contiguous() for name, value in backbone.backbone.state_dict().items()}


def _write_timm(backbone: Pretrained, path: Path, images: Tensor) -> Features:
    with path.open("wb") as file:  # by itself torch.save tells of a full disk or a closed folder as a RuntimeError
        torch.save(_plain(backbone), file)
    return _rebuilt(backbone, torch.load(path, weights_only=True))


def _in_torchvision(backbone: Pretrained) -> tuple[str, int | None]:
    """The network's name there, and the size of image that it must be built for, which only ViTs have.

    Raises:
        ExportError: torchvision does not have it.
    """
    architecture, network = backbone.architecture, backbone.backbone
    name, size = architecture.backbone.partition(".")[0], None  # without the name of timm's weights
    if vit := re.fullmatch(r"vit_(base|large|huge)_patch(\d+)_\d+", name):
        name, size = f"vit_{vit[1][0]}_{vit[2]}", network.patch_embed.img_size[0]
    known = isinstance(network, ResNet) or name.startswith(("vit_", "convnext_"))
    reason = None
    if not known or name not in torchvision.models.list_models():
        reason = f"is a {architecture.backbone}, and torchvision has no such ResNet, ViT or ConvNeXt"
    elif architecture.width != 1:
        reason = f"is a {name} of width {architecture.width:g}, and torchvision's has width 1 only"
    elif architecture.channels != 3 and not isinstance(network, ResNet):
        reason = f"takes images of {architecture.channels} channel(s), and torchvision's {name} of 3 only"
    if reason:
        raise ExportError(f"{backbone.name} {reason}: choose the format timm, safetensors or onnx")
    return name, size


def _classifier(name: str) -> str:
    """What torchvision's network of this name has beside its backbone."""
    return {"vit": "heads", "convnext": "classifier.2"}.get(name.split("_")[0], "fc")


def _write_torchvision(backbone: Pretrained, path: Path, images: Tensor) -> Features:
    name, size = _in_torchvision(backbone)
    if isinstance(backbone.backbone, ResNet):
        return _write_timm(backbone, path, images)
    if size and images.shape[-1] != size:
        raise ExportError(f"torchvision's ViT takes images of one size, here {size} pixels: give no other image_size")
    model = torchvision.models.get_model(name, **({"image_size": size} if size else {}))
    model.set_submodule(_classifier(name), nn.Identity())
    theirs = model.state_dict()
    names = recognise(theirs).encoder().names
    tensors = {names[key]: value.view_as(theirs[names[key]]) for key, value in _plain(backbone).items()}
    with path.open("wb") as file:
        torch.save(tensors, file)
    model.load_state_dict(torch.load(path, weights_only=True))
    return model.eval()


def _write_safetensors(backbone: Pretrained, path: Path, images: Tensor) -> Features:
    write_weights(path, _plain(backbone), backbone.about())
    return _rebuilt(backbone, load_file(path))


def _rebuilt(backbone: Pretrained, tensors: Mapping[str, Tensor]) -> Features:
    """A network of the same architecture with the tensors that were read back."""
    model = backbone.architecture.build().eval()
    model.load_state_dict(tensors)
    return model


def _write_onnx(backbone: Pretrained, path: Path, images: Tensor) -> Features:
    try:
        import onnx  # noqa: F401
        import onnxruntime
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise ExportError(f"ONNX needs the package {error.name}: pip install 'solo-frossl[onnx]'") from error
    model = copy.deepcopy(backbone.backbone).cpu().float().eval().to(memory_format=torch.contiguous_format)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter about itself
        program = torch.onnx.export(
            model,
            (images,),
            dynamo=True,
            verbose=False,
            input_names=["images"],
            output_names=["features"],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
        )
    program.model.metadata_props["solo_frossl"] = json.dumps(backbone.about())
    program.save(path, external_data=False)
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    return lambda batch: torch.from_numpy(session.run(None, {"images": batch.numpy()})[0])


def _difference(backbone: Pretrained, features: Features, images: Tensor) -> float:
    """Of whole batches and of single images, for an ONNX file may have frozen what it should not."""
    with torch.no_grad():
        own = copy.deepcopy(backbone.backbone).cpu().float().eval()(images)
        theirs = features(images)
        single = torch.cat([features(image[None]) for image in images])
    if theirs.shape != own.shape:
        raise ExportError(f"{backbone.name} has features {tuple(own.shape)}, the file {tuple(theirs.shape)}")
    return float(torch.maximum((theirs - own).abs().max(), (single - own).abs().max()) / own.abs().max())

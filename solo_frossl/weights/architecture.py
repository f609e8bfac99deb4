"""What must be known to build a network, and how much of it its weights tell."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cache
from typing import Any, Literal

import timm
import torch
from torch import Tensor, nn

from solo_frossl.methods.backbones import STEMS, Stem, build_backbone
from solo_frossl.weights.files import WeightsError
from solo_frossl.weights.layouts import purpose_of, shown


@dataclass(frozen=True)
class Architecture:
    """A backbone without its weights; plain values.

    Args:
        backbone: timm model.
        stem: first layers of a ResNet: ``imagenet``, ``cifar``, or a :class:`Stem`.
        width: factor of the channels in a ResNet's four stages.
        channels: channels of the images.
        image_size: side of the images that the network was trained on, pixels; None: unknown.
    """

    backbone: str
    stem: Literal["imagenet", "cifar"] | Stem = "imagenet"
    width: float = 1.0
    channels: int = 3
    image_size: int | None = None

    def build(self) -> nn.Module:
        """The network with random weights: images ``(B, channels, H, W)`` to features ``(B, F)``.

        Raises:
            WeightsError: timm has no such model, or it is no ResNet and has a stem or a width of its own.
        """
        try:
            return build_backbone(
                self.backbone, self.stem, self.channels, image_size=self.image_size or 224, width=self.width
            )
        except ValueError as error:
            raise WeightsError(str(error)) from error

    def to_dict(self) -> dict[str, Any]:
        """As plain values: a mapping for JSON or YAML."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Architecture":
        """The architecture of a mapping made by :meth:`to_dict`.

        Raises:
            WeightsError: a key is missing, unknown, or its value impossible.
        """
        if unknown := values.keys() - {f.name for f in fields(cls)}:
            raise WeightsError(f"an architecture has no {', '.join(sorted(unknown))}")
        try:
            stem = values.get("stem", "imagenet")
            made = cls(**{**values, "stem": Stem(**stem) if isinstance(stem, Mapping) else stem})
        except (TypeError, ValueError) as error:
            raise WeightsError(f"the architecture {dict(values)} is not one: {error}") from error
        if isinstance(made.stem, str) and made.stem not in STEMS:
            raise WeightsError(f"stem is {made.stem!r}: it must be {' or '.join(STEMS)}, or the values of one")
        return made

    def __str__(self) -> str:
        """``resnet18 with a 3x3 stem of stride 1 without max-pool, 1 channel, 32 pixels``."""
        parts = [self.backbone]
        if self.stem != "imagenet":
            stem = STEMS[self.stem] if isinstance(self.stem, str) else self.stem
            padding = "" if stem.padding in (None, stem.kernel_size // 2) else f" and padding {stem.padding}"
            pool = "with" if stem.max_pool else "without"
            side = stem.kernel_size
            relu = "" if stem.relu else " and without ReLU"
            parts[0] += f" with a {side}x{side} stem of stride {stem.stride}{padding} {pool} max-pool{relu}"
        if self.width != 1:
            parts.append(f"width {self.width:g}")
        if self.channels != 3:
            parts.append(f"{self.channels} channel{'s' if self.channels > 1 else ''}")
        if self.image_size:
            parts.append(f"{self.image_size} pixels")
        return ", ".join(parts)


_RESNETS = {
    # kind of block, blocks of each stage, groups, width of a group at 64 channels
    ("basic", (2, 2, 2, 2), 1, 64): "resnet18",
    ("basic", (3, 4, 6, 3), 1, 64): "resnet34",
    ("bottleneck", (2, 2, 2, 2), 1, 64): "resnet26",
    ("bottleneck", (3, 4, 6, 3), 1, 64): "resnet50",
    ("bottleneck", (3, 4, 23, 3), 1, 64): "resnet101",
    ("bottleneck", (3, 8, 36, 3), 1, 64): "resnet152",
    ("bottleneck", (3, 4, 6, 3), 1, 128): "wide_resnet50_2",
    ("bottleneck", (3, 4, 23, 3), 1, 128): "wide_resnet101_2",
    ("bottleneck", (3, 4, 6, 3), 32, 4): "resnext50_32x4d",
    ("bottleneck", (3, 4, 23, 3), 32, 4): "resnext101_32x4d",
    ("bottleneck", (3, 4, 23, 3), 32, 8): "resnext101_32x8d",
    ("bottleneck", (3, 4, 23, 3), 64, 4): "resnext101_64x4d",
}
_VITS = {192: "tiny", 384: "small", 768: "base", 1024: "large", 1280: "huge"}
"""By channels. The number of heads is in none of a ViT's shapes: these have 64 channels each, huge 80."""
_CONVNEXTS = {
    # channels of the first stage, blocks of the third
    (40, 6): "atto",
    (48, 6): "femto",
    (64, 6): "pico",
    (80, 8): "nano",
    (96, 9): "tiny",
    (96, 27): "small",
    (128, 27): "base",
    (192, 27): "large",
}
_MOST_NAMED = 12
"""Tensors that an error names at most of those that differ; of a network that is quite another these are all."""
NAME_IT = "give its timm name as architecture"


def infer_architecture(
    tensors: Mapping[str, Tensor],
    hint: str | None = None,
    *,
    max_pool: bool | None = None,
    padding: int | None = None,
    relu: bool = True,
) -> Architecture:
    """The network that a backbone's tensors belong to.

    A ResNet is told by its blocks, and its stem by the kernel of its first convolution: 7x7 has stride 2 and a
    max-pool, any other stride 1 and no max-pool. Neither leaves a trace in weights, so this is the rule where nothing
    else is known. ViTs and ConvNeXts are told by their shapes, if these are of one of timm's usual ones only.

    Args:
        tensors: by the network's own names, as timm has them.
        hint: timm name of the network, where it is known; its stem, width and channels are still seen in the tensors.
        max_pool: whether a max-pool follows the stem, where that is known.
        padding: padding of the stem's convolution in pixels, where that is known.
        relu: whether a ReLU follows the stem's BatchNorm.

    Raises:
        WeightsError: it cannot be told, or timm does not have it.
    """
    if hint is None:
        hint, width = _resnet(tensors) if _is_resnet(tensors) else (_other(tensors), 1.0)
    else:
        width = _width(hint, tensors)
    usual = usual_shapes(hint)
    stem = _stem(tensors, usual, max_pool, padding, relu)
    return Architecture(hint, stem, width, _channels(hint, tensors), _image_size(tensors))


@cache
def usual_shapes(name: str) -> dict[str, tuple[int, ...]]:
    """Shapes of a timm model without classifier, by the names of its tensors in their order.

    Raises:
        WeightsError: timm has no such model.
    """
    try:
        with torch.device("meta"):  # shapes only
            model = build_backbone(name)
    except ValueError as error:
        raise WeightsError(str(error)) from error
    except (NotImplementedError, RuntimeError):  # it computes with numbers as it is built
        model = build_backbone(name)
    return {key: tuple(value.shape) for key, value in model.state_dict().items()}


def _input_layer(name: str) -> str | None:
    """The weights that see the images, by timm's word or, where it has none that fits, by their three channels."""
    usual = usual_shapes(name)
    configured = timm.get_pretrained_cfg_value(name, "first_conv") if timm.is_model_pretrained(name) else None
    named = [configured] if isinstance(configured, str) else list(configured or ())
    for layer in named:
        shape = usual.get(f"{layer}.weight", ())
        if len(shape) > 1 and shape[1] % 3 == 0:  # of patches taken apart, several numbers a channel
            return f"{layer}.weight"
    return next((key for key, shape in usual.items() if len(shape) > 3 and shape[1] == 3), None)


def _channels(name: str, tensors: Mapping[str, Tensor]) -> int:
    """Channels of the images that a network of this timm name was built for."""
    layer = _input_layer(name)
    kernel = None if layer is None else tensors.get(layer)
    usual = usual_shapes(name).get(layer, ())
    if kernel is None or kernel.ndim != len(usual) or 3 * kernel.shape[1] % usual[1]:
        return 3
    return 3 * kernel.shape[1] // usual[1]


def _is_resnet(tensors: Mapping[str, Tensor]) -> bool:
    return "layer1.0.conv1.weight" in tensors or "layer1.0.conv2.weight" in tensors


def _resnet(tensors: Mapping[str, Tensor]) -> tuple[str, float]:
    blocks = tuple(_count(tensors, rf"layer{stage}\.(\d+)\.conv[12]\.weight") for stage in (1, 2, 3, 4))
    bottleneck = "layer1.0.conv3.weight" in tensors
    last = [tensors.get(f"layer{i}.0.conv{3 if bottleneck else 2}.weight") for i in (1, 2, 3, 4)]
    middle = tensors.get("layer1.0.conv2.weight")
    first = tensors.get("conv1.weight")
    if any(t is None or t.ndim != 4 for t in (*last, middle, first)) or any(
        "downsample.1.weight" in name and tensor.ndim == 4 for name, tensor in tensors.items()
    ):
        raise WeightsError(
            _nearest_resnet(tensors)
            or f"it looks like a ResNet, but not one of the plain family; {NAME_IT}:\n{shown(tensors)}"
        )
    planes = [t.shape[0] // (4 if bottleneck else 1) for t in last]
    width = planes[-1] / 512
    groups = middle.shape[0] // middle.shape[1] if bottleneck else 1
    group_width = round(middle.shape[0] / groups * 64 / planes[0]) if bottleneck else 64
    structure = ("bottleneck" if bottleneck else "basic", blocks, groups, group_width)
    name = _RESNETS.get(structure)
    if name is None or planes != [max(1, round(width * usual)) for usual in (64, 128, 256, 512)]:
        stages = "+".join(map(str, blocks))
        raise WeightsError(
            _nearest_resnet(tensors)
            or f"it is a ResNet of {stages} {structure[0]} blocks with {', '.join(map(str, planes))}"
            f" channels, {groups} group(s) of {group_width}, and timm has no such one; if it has, {NAME_IT}"
        )
    if first.shape[0] != 64:
        raise WeightsError(
            f"its stem has {first.shape[0]} channels, and the stem of timm's {name} has 64: only its four stages can be"
            " wider or narrower"
        )
    return name, width


def _nearest_resnet(tensors: Mapping[str, Tensor]) -> str | None:
    """In what the plain ResNet with almost the same names differs; None if none has."""
    differences = {name: _difference(tensors, usual_shapes(name), "conv1.weight") for name in _RESNETS.values()}
    name = min(differences, key=lambda name: sum(map(len, differences[name])))
    return _unlike(name, *differences[name]) if sum(map(len, differences[name])) <= _MOST_NAMED else None


def _width(hint: str, tensors: Mapping[str, Tensor]) -> float:
    """How much wider the last stage is than usual."""
    usual = usual_shapes(hint)
    names = [name for name in usual if re.fullmatch(r"layer4\.0\.bn\d\.weight", name)]
    if not names or names[-1] not in tensors:
        return 1.0
    return tensors[names[-1]].shape[0] / usual[names[-1]][0]


def _stem(
    tensors: Mapping[str, Tensor],
    usual: Mapping[str, tuple[int, ...]],
    max_pool: bool | None,
    padding: int | None,
    relu: bool,
) -> Literal["imagenet", "cifar"] | Stem:
    kernel = tensors.get("conv1.weight")
    if "layer1.0.conv1.weight" not in usual or len(usual.get("conv1.weight", ())) != 4 or kernel is None:
        return "imagenet"
    side = kernel.shape[-1]
    if side % 2 == 0:
        raise WeightsError(f"its first convolution has a kernel of {side}x{side} pixels, and a stem's is odd")
    large = side == 7
    stem = Stem(side, 2 if large else 1, large if max_pool is None else max_pool, padding, relu)
    return next((name for name, named in STEMS.items() if named == stem), stem)


def _image_size(tensors: Mapping[str, Tensor]) -> int | None:
    """Side of a ViT's images, by its positions and the size of its patches."""
    positions, patches = tensors.get("pos_embed"), tensors.get("patch_embed.proj.weight")
    if positions is None or patches is None or positions.ndim != 3:
        return None
    prefix = sum(tensors[name].shape[1] for name in ("cls_token", "reg_token", "dist_token") if name in tensors)
    for tokens in (positions.shape[1] - prefix, positions.shape[1]):
        side = round(tokens**0.5)
        if tokens > 0 and side * side == tokens:
            return side * patches.shape[-1]
    return None


def _other(tensors: Mapping[str, Tensor]) -> str:
    """The usual ViT or ConvNeXt whose names and shapes are these, whatever the number of channels and positions."""
    name = _vit_or_convnext(tensors)
    if not (name and timm.is_model(name)):
        raise WeightsError(
            f"the network is none of the usual ViTs and ConvNeXts; {NAME_IT}. It holds:\n{shown(tensors)}"
        )
    missing, unexpected, misfits = _difference(tensors, usual_shapes(name), _input_layer(name))
    if not (missing or unexpected or misfits):
        return name
    raise WeightsError(_unlike(name, missing, unexpected, misfits))


def _difference(
    tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]], first: str | None
) -> tuple[list[str], list[str], list[str]]:
    """Names that are missing, names that are unexpected, and names whose shapes do not fit, each with them.

    The layer that sees the images may have any number of channels, and positions may have any number.
    """

    def fits(key: str, shape: tuple[int, ...]) -> bool:
        found = tuple(tensors[key].shape)
        if key == "pos_embed":
            return len(found) == 3 and found[2] == shape[2]
        return found[:1] + found[2:] == shape[:1] + shape[2:] if key == first else found == shape

    return (
        [key for key in shapes if key not in tensors and not key.endswith(".num_batches_tracked")],
        [key for key in tensors if key not in shapes and not purpose_of(key)],
        [
            f"{key} is {tuple(tensors[key].shape)}, must be {shape}"
            for key, shape in shapes.items()
            if key in tensors and not fits(key, shape)
        ],
    )


def _unlike(name: str, missing: list[str], unexpected: list[str], misfits: list[str]) -> str:
    found = {"missing": missing, "unexpected": [*(misfit.split(" is ")[0] for misfit in misfits), *unexpected]}
    lines = [f"  {what}: {_in_words(keys)}" for what, keys in found.items() if keys]
    lines += [f"  {misfit}" for misfit in misfits[:_MOST_NAMED]]
    return (
        "\n".join([f"the network is like {name}, but not the same:", *lines])
        + f"\nIf it is another one, {NAME_IT}; if not, its weights are not whole"
    )


def _vit_or_convnext(tensors: Mapping[str, Tensor]) -> str | None:
    patches, channels = tensors.get("patch_embed.proj.weight"), _length(tensors, "patch_embed.proj.")
    if channels and (patches is None or patches.ndim == 4):
        return f"vit_{_VITS.get(channels)}_patch{16 if patches is None else patches.shape[-1]}_224"
    if channels := _length(tensors, "stem.0."):
        size = _CONVNEXTS.get((channels, _count(tensors, r"stages\.2\.blocks\.(\d+)\.\w.*")))
        return f"convnext{'v2' if any('.grn.' in name for name in tensors) else ''}_{size}"
    return None


def _length(tensors: Mapping[str, Tensor], layer: str) -> int | None:
    """Output channels of a layer, by its weight or, where that is missing, by its bias."""
    found = [tensors[layer + kind] for kind in ("weight", "bias") if layer + kind in tensors]
    return found[0].shape[0] if found and found[0].ndim else None


def _in_words(names: list[str]) -> str:
    """How many tensors, and the first names."""
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return f"{len(names)} tensor{'' if len(names) == 1 else 's'}, {', '.join(names[:_MOST_NAMED])}{more}"


def _count(tensors: Mapping[str, Tensor], pattern: str) -> int:
    return len({match[1] for name in tensors if (match := re.fullmatch(pattern, name))})

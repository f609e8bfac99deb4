"""Backbones: timm models without their classifier, with the stem that the image size asks for."""

import difflib
from dataclasses import dataclass
from typing import Literal

import timm
import torch
from timm.models.resnet import ResNet
from torch import nn


@dataclass(frozen=True)
class Stem:
    """First layers of a ResNet: one convolution, BatchNorm and ReLU, then perhaps a max-pool.

    Args:
        kernel_size: side of the convolution's kernel in pixels, odd.
        stride: stride of the convolution in pixels.
        max_pool: whether the 3x3, stride 2 max-pool follows.
        padding: zeros on each side of the image in pixels; none given: half of the kernel, rounded down.
        relu: whether the ReLU is there.
    """

    kernel_size: int = 7
    stride: int = 2
    max_pool: bool = True
    padding: int | None = None
    relu: bool = True

    def __post_init__(self) -> None:
        if self.kernel_size < 1 or self.kernel_size % 2 == 0:
            raise ValueError(f"stem.kernel_size is {self.kernel_size}: it must be odd and at least 1")
        if self.stride < 1:
            raise ValueError(f"stem.stride is {self.stride}: it must be at least 1")
        if self.padding is not None and self.padding < 0:
            raise ValueError(f"stem.padding is {self.padding}: it must be 0 or more, or null for half of the kernel")


STEMS = {
    "imagenet": Stem(kernel_size=7, stride=2, max_pool=True),
    "cifar": Stem(kernel_size=3, stride=1, max_pool=False),
}
"""The named stems; CIFAR's padding is 1, so that a 32 x 32 image gives a 32 x 32 feature map."""


def build_backbone(
    name: str,
    stem: Literal["imagenet", "cifar"] | Stem = "imagenet",
    channels: int = 3,
    zero_init_residual: bool = False,
    image_size: int = 224,
    width: float = 1.0,
) -> nn.Module:
    """A randomly initialised timm backbone that maps images ``(B, channels, H, W)`` to features ``(B, F)``.

    A model whose input size is fixed unless it is told otherwise (ViT and its like) is built for `image_size` and takes
    other sizes too, as multi-crop needs: its positional embeddings are interpolated.

    Args:
        name: any timm model, for example ``resnet18``.
        stem: ``imagenet`` leaves the model as it is; ``cifar`` (3x3, stride 1, padding 1, no max-pool) and a
            :class:`Stem` replace the first layers of a ResNet.
        channels: channels of the images.
        zero_init_residual: start the last BatchNorm of a ResNet's residual branches at zero, as timm does, instead of
            at one, as torchvision and the code of the papers' tables do.
        image_size: side of the images, pixels.
        width: factor of the channels in a ResNet's four stages, > 0, rounded to whole channels; the stem keeps its own.

    Returns:
        The module; its ``num_features`` is F.

    Raises:
        ValueError: the name is unknown, or the model is no ResNet and is asked for what only a ResNet has.

    >>> build_backbone("resnet18", "cifar").conv1.stride
    (1, 1)
    """
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=3)
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise ValueError(f"backbone is {name!r}, which timm does not have{hint}")
    if width <= 0:
        raise ValueError(f"width is {width:g}: it must be above 0")
    stages = {} if width == 1 else {"channels": _stage_channels(name, width)}
    backbone = create_timm(name, image_size, in_chans=channels, **stages)
    if zero_init_residual and not isinstance(backbone, ResNet):
        raise ValueError(f"zero_init_residual is for ResNets, and the backbone is {name!r}")
    if isinstance(backbone, ResNet) and not zero_init_residual:
        for norm in (m for m in backbone.modules() if isinstance(m, nn.BatchNorm2d)):
            nn.init.ones_(norm.weight)
    if stem != "imagenet":
        _replace_stem(backbone, name, STEMS[stem] if isinstance(stem, str) else stem, channels)
    return backbone


def create_timm(name: str, image_size: int | None, **kwargs) -> nn.Module:
    """A timm model without classifier, its input size left open where it can be.

    Args:
        name: a model that timm has.
        image_size: side of the images that a model with a fixed input size is built for, pixels; None: its own.
        kwargs: further arguments of ``timm.create_model``.
    """
    fixed = {} if image_size is None else {"img_size": image_size}
    for flexible in ({"dynamic_img_size": True}, {"strict_img_size": False}):
        try:
            return timm.create_model(name, num_classes=0, **fixed, **flexible, **kwargs)
        except TypeError:  # no such argument: this family does not fix its input size
            continue
    return timm.create_model(name, num_classes=0, **kwargs)


def _stage_channels(name: str, width: float) -> tuple[int, ...]:
    with torch.device("meta"):  # shapes only
        usual = timm.create_model(name, num_classes=0)
    if not isinstance(usual, ResNet):
        raise ValueError(f"width is for ResNets, and the backbone is {name!r}")
    stages = [info for info in usual.feature_info if info["module"].startswith("layer")]
    planes = [info["num_chs"] // usual.get_submodule(info["module"])[-1].expansion for info in stages]
    return tuple(max(1, round(width * number)) for number in planes)


def _replace_stem(backbone: nn.Module, name: str, stem: Stem, channels: int) -> None:
    if not isinstance(backbone, ResNet) or not isinstance(backbone.conv1, nn.Conv2d):
        raise ValueError(f"backbone {name!r} has no single-convolution ResNet stem to replace: use stem 'imagenet'")
    backbone.conv1 = nn.Conv2d(
        channels,
        backbone.conv1.out_channels,
        stem.kernel_size,
        stride=stem.stride,
        padding=stem.kernel_size // 2 if stem.padding is None else stem.padding,
        bias=False,
    )
    nn.init.kaiming_normal_(backbone.conv1.weight, mode="fan_out", nonlinearity="relu")
    if not stem.relu:
        backbone.act1 = nn.Identity()
    if not stem.max_pool:
        backbone.maxpool = nn.Identity()

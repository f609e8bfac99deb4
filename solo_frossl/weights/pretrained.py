"""A backbone with its weights, from whatever names it: a run, a file, the zoo, timm."""

import copy
import json
import logging
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import timm
import torch
from PIL import Image
from timm.data import resolve_data_config
from timm.models.resnet import ResNet
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode, v2

from solo_frossl.methods.backbones import STEMS, Stem, create_timm
from solo_frossl.run_files import find_run
from solo_frossl.weights.accounting import Accounting, fill
from solo_frossl.weights.architecture import Architecture, infer_architecture, usual_shapes
from solo_frossl.weights.files import FileContent, WeightsError, read_tensors
from solo_frossl.weights.layouts import Encoder, Layout, Role, recognise
from solo_frossl.zoo.files import METADATA_KEY

_OF_TENSORS = ("bicubic", "bilinear", "nearest")
"""How tensors can be resized; timm has a few models that are evaluated on pictures resized in another way."""


class Pretrained(nn.Module):
    """A backbone in eval mode: normalised images ``(B, C, H, W)`` to features ``(B, F)``.

    Args:
        backbone: the network.
        name: where it comes from, as the user reads it.
        architecture: what was built.
        image_size: side of the images that it is given, pixels; None: unknown.
        mean: mean of each channel that images in 0 to 1 are normalised by; None: unknown.
        std: their standard deviation; None: unknown.
        accounting: where each tensor came from; None for random weights.
        config: configuration of the run that trained it; None: unknown.
        encoder: which encoder of that run it is.
        epochs: that it was trained; None: unknown, or it was saved within one.
        eval_crop: side of the centre square that :attr:`transform` keeps, as a fraction of the resized shorter side.
        interpolation: how :attr:`transform` resizes: ``bicubic``, ``bilinear`` or ``nearest``.

    Attributes:
        num_features: F.
    """

    def __init__(
        self,
        backbone: nn.Module,
        *,
        name: str,
        architecture: Architecture,
        image_size: int | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        accounting: Accounting | None = None,
        config: dict[str, Any] | None = None,
        encoder: Role = "backbone",
        epochs: int | None = None,
        eval_crop: float = 1.0,
        interpolation: str = "bicubic",
    ) -> None:
        super().__init__()
        for what, values in (("mean", mean), ("std", std)):
            if values is not None:
                _check_normalisation(what, values, name, architecture.channels)
        if image_size is not None and (not isinstance(image_size, int) or image_size < 1):
            raise WeightsError(f"image_size is {image_size!r}: it must be a whole number of pixels, at least 1")
        self.backbone = backbone
        self.name = name
        self.architecture = architecture
        self.num_features: int = backbone.num_features
        self.image_size = image_size or architecture.image_size
        self.mean = None if mean is None else tuple(mean)
        self.std = None if std is None else tuple(std)
        self.accounting = accounting
        self.config = config
        self.encoder: Role = encoder
        self.epochs = epochs
        self.eval_crop = eval_crop
        self.interpolation = interpolation
        self._grey: tuple[tuple[float, ...], tuple[float, ...]] | None = None
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Features ``(B, F)`` of normalised images ``(B, C, H, W)``; after :meth:`accept_grey` C may be 1."""
        if self._grey is not None and images.shape[1] == 1:
            mean, std = (images.new_tensor(values).view(1, -1, 1, 1) for values in self._grey)
            images = (images * std + mean).expand(-1, self.architecture.channels, -1, -1)
            if self.mean is not None and self.std is not None:
                own_mean, own_std = (images.new_tensor(values).view(1, -1, 1, 1) for values in (self.mean, self.std))
                images = (images - own_mean) / own_std
            else:
                images = (images - mean) / std
        return self.backbone(images)

    def accept_grey(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Take grey images ``(B, 1, H, W)`` too: every channel is the grey, normalised as this network's images are.

        Args:
            mean: mean that the grey images are normalised by, one value.
            std: their standard deviation, one value.
        """
        if len(mean) != 1 or len(std) != 1:
            raise WeightsError(f"grey images have one mean and one std, not {len(mean)} and {len(std)}")
        self._grey = (tuple(mean), tuple(std))

    @property
    def transform(self) -> v2.Transform:
        """From a PIL image or a uint8 tensor ``(..., C, H, W)`` to what :meth:`forward` takes, float32.

        Raises:
            WeightsError: mean, std or image size are unknown.
        """
        values = {"image_size": self.image_size, "mean": self.mean, "std": self.std}
        if unknown := [name for name, value in values.items() if value is None]:
            raise WeightsError(
                f"{self.name} does not say its {', '.join(unknown)}, which the transform needs: give them as"
                f" {', '.join(f'{name}=...' for name in unknown)} when loading it"
            )
        channels = {1: [v2.Grayscale(1)], 3: [v2.RGB()]}.get(self.architecture.channels, [])
        return v2.Compose(
            [
                *([v2.Lambda(_in_colours, Image.Image)] if channels else []),
                v2.ToImage(),
                *channels,
                v2.Resize(round(self.image_size / self.eval_crop), InterpolationMode(self.interpolation)),
                v2.CenterCrop(self.image_size),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(self.mean, self.std),
                v2.ToPureTensor(),
            ]
        )

    def about(self) -> dict[str, Any]:
        """What a file of these weights says of itself; plain values, without the folders of whoever made it."""
        config = self.config or {}
        path = Path(self.name)
        return {
            "name": path.name if path.is_absolute() else self.name,
            "method": config.get("method"),
            **({} if self.encoder == "backbone" else {"encoder": self.encoder}),
            "dataset": config.get("dataset"),
            "architecture": replace(self.architecture, image_size=self.image_size).to_dict(),
            "mean": None if self.mean is None else list(self.mean),
            "std": None if self.std is None else list(self.std),
            "epochs": self.epochs,
            "seed": config.get("seed_everything", 0 if config else None),
            "config": None if self.config is None else _without_paths(self.config),
            "precision": "float32",
        }


def _without_paths(config: Mapping[str, Any]) -> dict[str, Any]:
    """A run's configuration with absolute paths cut to their last part: they say where its author's files lay."""
    config = copy.deepcopy(dict(config))
    for group in (config, config.get("data") or {}):
        for key, value in group.items():
            if isinstance(value, str) and os.path.isabs(value):
                group[key] = os.path.basename(value.rstrip("/")) or "/"
    return config


def _check_normalisation(what: str, values: Any, name: str, channels: int) -> None:
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise WeightsError(f"{what} is {values!r}: it must be a list of numbers, one a channel")
    if len(values) != channels:
        raise WeightsError(f"{what} has {len(values)} values, and {name} takes images of {channels} channel(s)")
    if not all(isinstance(number, int | float) and math.isfinite(number) for number in values):
        raise WeightsError(f"{what} is {list(values)}: it must be finite numbers")
    if what == "std" and min(values) <= 0:
        raise WeightsError(f"{what} is {list(values)}: it must be above 0")


def _in_colours(image: Image.Image) -> Image.Image:
    """A picture of any mode in grey or RGB, as ``data.sources.read_image`` reads it from its file."""
    if image.mode == "I" or image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image).astype(np.int32) >> 8).clip(0, 255).astype(np.uint8))
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image if image.mode in ("L", "RGB") else image.convert("RGB")


def load_backbone(
    spec: str | Path,
    *,
    encoder: Role = "backbone",
    architecture: str | None = None,
    stem: Literal["imagenet", "cifar"] | Stem | None = None,
    image_size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    runs_dir: str | Path = "runs",
    index: str | Path | None = None,
    cache: str | Path | None = None,
    seed: int = 0,
    channels: int = 3,
    width: float = 1.0,
) -> Pretrained:
    """A backbone with its weights, in eval mode.

    Args:
        spec: a run folder or the name of a run (its newest checkpoint that can be read); a checkpoint of this library,
            solo-learn, lightly, torchvision, timm, MoCo or DINO, or a safetensors file; ``zoo:NAME``; ``timm:NAME``
            with the weights that timm has for it; ``untrained:NAME``, a timm model with random weights.
        encoder: of a file that holds two: ``backbone``, the one that was trained, or ``target``, the momentum encoder
            or teacher that follows it.
        architecture: timm name of the network in a file, where the weights leave it open.
        stem: first layers of a ResNet, where they are not what the weights let suppose (:func:`infer_architecture`).
        image_size: side of the images that will be given, pixels; none given: what it was trained on.
        mean: mean of each channel that images in 0 to 1 are normalised by; none given: what it was trained with.
        std: their standard deviation; none given: what it was trained with.
        runs_dir: folder that holds the run folders.
        index: the zoo's index; none given: the one that comes with the package.
        cache: folder for checkpoints of the zoo; none given: the user's.
        seed: of the random weights of ``untrained:NAME``.
        channels: channels of the images of ``untrained:NAME`` and ``timm:NAME``; files tell theirs.
        width: factor of the channels in the stages of ``untrained:NAME``, a ResNet; files tell theirs.

    Raises:
        WeightsError: there is nothing of that name, it cannot be read or is not recognised, or does not fit.
        ZooError: the zoo does not have it, or it cannot be fetched.

    >>> load_backbone("untrained:resnet18", stem="cifar")(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 512])
    """
    if encoder not in ("backbone", "target"):
        raise WeightsError(f"encoder is {encoder!r}: it must be 'backbone' or 'target'")
    if isinstance(stem, str) and stem not in STEMS:
        raise WeightsError(f"stem is {stem!r}: it must be {' or '.join(STEMS)}, or a Stem")
    spec = str(spec)
    if not spec.strip():
        raise WeightsError("the backbone's name is empty: give a run, a checkpoint file, zoo:NAME, timm:NAME, ...")
    kind, _, rest = spec.partition(":")
    if kind in ("zoo", "timm") and not rest:
        raise WeightsError(f"{spec} has no name behind the colon: write {kind}:NAME")
    given = {"image_size": image_size, "mean": mean, "std": std}
    if kind == "untrained" and rest:
        network = Architecture(rest, stem or "imagenet", width, channels, image_size)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return Pretrained(network.build(), name=spec, architecture=network, **given)
    if kind == "timm" and rest:
        if stem is not None:
            raise WeightsError(f"{spec} has the stem of its weights: give no other")
        return _from_timm(spec, rest, channels, given)
    path, name = _find(spec, kind, rest, runs_dir, index, cache)
    try:
        return _from_file(path, name, encoder, architecture, stem, given)
    except WeightsError as error:
        if str(path) in str(error):
            raise
        raise WeightsError(f"{name}: {error}") from error


def _find(
    spec: str, kind: str, rest: str, runs_dir: str | Path, index: str | Path | None, cache: str | Path | None
) -> tuple[Path, str]:
    """The file that a name stands for, and what to call it."""
    if kind == "zoo" and rest:
        from solo_frossl import zoo  # the zoo is a room of its own

        return Path(zoo.fetch(zoo.read_index(index).find(rest), cache=cache)), spec
    path = Path(spec).expanduser()
    if path.is_file():
        return path, spec
    try:
        run = find_run(runs_dir, str(path))
    except FileNotFoundError as error:
        looked = "a folder without config.yaml, so no run" if Path(spec).is_dir() else "no file"
        raise WeightsError(
            f"{spec} is {looked}, and {error}; give a run, a checkpoint file, zoo:NAME, timm:NAME or untrained:NAME"
        ) from error
    from solo_frossl.runs import CheckpointError, newest_readable  # brings Lightning

    try:
        newest = newest_readable(run)
    except CheckpointError as error:
        raise WeightsError(str(error)) from error
    if newest is None:
        raise WeightsError(f"the run {run.path} has no checkpoint yet")
    return newest, str(newest)


def _from_timm(spec: str, name: str, channels: int, given: Mapping[str, Any]) -> Pretrained:
    usual_shapes(name)  # says which names are near when there is no such model
    hub = logging.getLogger("huggingface_hub")
    level = hub.level
    try:
        hub.setLevel(logging.ERROR)  # it tells of every try; in the end one error says as much
        with _watch_loading() as loads:
            network = create_timm(name, None, in_chans=channels, pretrained=True)
    except Exception as error:  # of the hub, the network, the disk, or timm: each has classes of its own
        reason = " ".join(f"{error}".split()) or type(error).__name__
        raise WeightsError(
            f"timm could not load pretrained weights of {name} ({reason}). They come from a hub: check the network, or"
            " name a file that you have instead"
        ) from error
    finally:
        hub.setLevel(level)
    accounting = _timm_accounting(spec, network, loads)
    images = resolve_data_config(pretrained_cfg=network.pretrained_cfg, model=network)
    if channels != len(images["mean"]):
        images |= {"mean": None, "std": None}
    size = images["input_size"][-1]
    return Pretrained(
        network,
        name=spec,
        architecture=Architecture(name, channels=channels, image_size=size),
        image_size=given["image_size"],
        mean=given["mean"] or images["mean"],
        std=given["std"] or images["std"],
        accounting=accounting,
        eval_crop=images["crop_pct"],
        interpolation=images["interpolation"] if images["interpolation"] in _OF_TENSORS else "bicubic",
    )


@contextmanager
def _watch_loading() -> Iterator[list[Any]]:
    """What each ``load_state_dict`` meanwhile has found missing and unexpected; timm does not ask for all of a file."""
    loads: list[Any] = []
    load = nn.Module.load_state_dict

    def watched(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        loads.append(load(module, *args, **kwargs))
        return loads[-1]

    nn.Module.load_state_dict = watched
    try:
        yield loads
    finally:
        nn.Module.load_state_dict = load


def _timm_accounting(spec: str, network: nn.Module, loads: Sequence[Any]) -> Accounting:
    """What timm's loading, seen from outside, has left of a network with random weights.

    Raises:
        WeightsError: naming them, if there are any.
    """
    needed = {*dict(network.named_parameters()), *(name for name in network.state_dict() if ".running_" in name)}
    missing = {name for load in loads for name in load.missing_keys}
    accounting = Accounting(
        spec,
        "timm's own loading",
        "",
        tuple(name for name in network.state_dict() if name not in missing),
        missing=tuple(name for name in network.state_dict() if name in missing),
        unexpected=tuple(name for load in loads for name in load.unexpected_keys),
    )
    if missing & needed:
        raise WeightsError(f"the weights that timm has for {spec} are not whole:\n{accounting}")
    return accounting


def _from_file(
    path: Path,
    name: str,
    role: Role,
    hint: str | None,
    stem: Literal["imagenet", "cifar"] | Stem | None,
    given: Mapping[str, Any],
) -> Pretrained:
    content = read_tensors(path)
    about = _about(content)
    known = about.pop("architecture", None) if hint is None else None
    hint = hint or (known.backbone if known else None)
    layout = recognise(content.tensors, usual_shapes(hint) if hint else ())
    if about:
        layout = replace(layout, name="solo_frossl")
    alone = about.get("encoder") == role  # a target network in a file of its own
    chosen = layout.encoder("backbone" if alone else role)
    tensors = chosen.tensors(content.tensors)
    known_of_stem = {"max_pool": chosen.max_pool, "padding": chosen.padding, "relu": chosen.relu}
    seen = infer_architecture(tensors, hint, **known_of_stem)
    # A configuration leaves the channels to the dataset; positions tell the size that a ViT was built for.
    built = replace(known, channels=seen.channels, image_size=seen.image_size or known.image_size) if known else seen
    if stem is not None:
        built = replace(built, stem=stem)
    network = built.build()
    notes = [f"network: {built}"]
    if known is None and isinstance(network, ResNet) and isinstance(network.conv1, nn.Conv2d) and stem is None:
        notes.append(_stem_note(network, layout, chosen))
    if known is None and isinstance(network, VisionTransformer):
        notes.append(_heads_note(network, layout, tensors))
    if content.foreign:
        notes.append(f"not read: objects of {', '.join(content.foreign)}")
    accounting = fill(network, content.tensors, layout, chosen, name, tuple(notes))
    config = about.get("config")
    data = (config or {}).get("data") or {}
    return Pretrained(
        network,
        name=name,
        architecture=built if built.image_size else replace(built, image_size=given["image_size"]),
        image_size=given["image_size"],
        mean=given["mean"] or about.get("mean"),
        std=given["std"] or about.get("std"),
        accounting=accounting,
        config=config,
        encoder=about.get("encoder") or role,
        epochs=about.get("epochs"),
        eval_crop=data.get("eval_crop") or 1.0,
    )


def _stem_note(network: ResNet, layout: Layout, encoder: Encoder) -> str:
    side, stride, padding = network.conv1.kernel_size[0], network.conv1.stride[0], network.conv1.padding[0]
    pool = "no max-pool" if isinstance(network.maxpool, nn.Identity) else "a max-pool"
    why = "which weights do not show; give the stem if it is another"
    if encoder.padding is not None:
        why = f"as {layout.name}'s for CIFAR; give the stem if it is another"
    elif not encoder.relu:
        pool += " and no ReLU"
        why = "both by the numbers of the layers, the stride by the kernel; give the stem if it is another"
    elif encoder.max_pool is not None:
        why = "the max-pool by the numbers of the layers, the stride by the kernel; give the stem if it is another"
    return f"supposed: a {side}x{side} stem has stride {stride}, padding {padding} and {pool}, {why}"


def _heads_note(network: VisionTransformer, layout: Layout, tensors: Mapping[str, Tensor]) -> str:
    heads, channels = network.blocks[0].attn.num_heads, network.embed_dim
    positions = tensors.get("pos_embed")
    # Sines and cosines, as MoCo v3 and MAE have them, are zero for the class token.
    fixed = positions is not None and positions.ndim == 3 and not positions[:, 0].any()
    if heads < 12 and fixed and layout.name in ("MoCo v3", "solo-learn"):
        raise WeightsError(
            f"{layout.name}'s ViT of {channels} channels and fixed positions (of MoCo v3 or MAE) has 12 heads,"
            f" and timm's has {heads}: their weights have the same shapes, and would give other features"
        )
    return f"supposed: {heads} heads of {channels // heads} channels, which weights do not show"


def _about(content: FileContent) -> dict[str, Any]:
    """What a file of this library says of itself: architecture, mean, std, config, as far as it does."""
    if METADATA_KEY in content.metadata:
        try:
            about = dict(json.loads(content.metadata[METADATA_KEY]))
            return {**about, "architecture": Architecture.from_dict(about["architecture"])}
        except (ValueError, TypeError, KeyError) as error:
            raise WeightsError(f"what its metadata {METADATA_KEY!r} says cannot be read: {error!r}") from error
    config = content.config
    if not _is_of_a_run(config):
        return {}
    from solo_frossl.data import DATASETS  # for what the datasets publish of themselves

    model, data, dataset = config["model"], config.get("data") or {}, DATASETS.get(config["dataset"])
    size = data.get("image_size") or data.get("resize") or (dataset.native_size if dataset else None)
    prepared = {  # by what the run recorded; an older checkpoint leaves it to configuration and dataset
        "image_size": size,
        "mean": data.get("mean") or (dataset.native_mean if dataset else None),
        "std": data.get("std") or (dataset.native_std if dataset else None),
    } | content.images
    values = {key: model[key] for key in ("stem", "width") if key in model} | {"image_size": prepared.pop("image_size")}
    return {
        "architecture": Architecture.from_dict({"backbone": model["backbone"], **values}),
        **prepared,
        "config": config,
        "epochs": content.epochs,
    }


def _is_of_a_run(config: Mapping[str, Any] | None) -> bool:
    """Whether it is a configuration of this library; others put one into their checkpoints under the same key."""
    if config is None or not all(isinstance(config.get(key), str) for key in ("method", "dataset")):
        return False
    model, data = config.get("model"), config.get("data") or {}
    if not (isinstance(model, Mapping) and isinstance(data, Mapping) and isinstance(model.get("backbone"), str)):
        return False
    lists = [data[key] for key in ("mean", "std") if data.get(key) is not None]
    numbers = [model.get("width", 1.0), *(number for values in lists if isinstance(values, list) for number in values)]
    return (
        timm.is_model(model["backbone"])
        and all(isinstance(values, list) for values in lists)
        and all(isinstance(number, int | float) for number in numbers)
    )

"""Recognising whose checkpoint it is: which tensors are a backbone's, and what the others are for."""

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from solo_frossl.weights.files import WeightsError

Role = Literal["backbone", "target"]
"""Which encoder: the one that was trained, or the target network (momentum encoder, teacher) that follows it."""


@dataclass(frozen=True)
class Encoder:
    """One network within a file.

    Attributes:
        root: what its names in the file begin with, ``state_dict.backbone.``; empty for a plain state dict.
        names: name in the file by the name that timm has for the tensor.
        max_pool: whether a max-pool follows the stem, where the layout tells; else None.
        padding: padding of the stem's convolution in pixels, where the layout tells; else None.
        relu: whether a ReLU follows the stem's BatchNorm.
    """

    root: str
    names: Mapping[str, str]
    max_pool: bool | None = None
    padding: int | None = None
    relu: bool = True

    def tensors(self, file: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Its tensors by timm's names, of those of the file; torchvision's layer scale (C, 1, 1) is timm's (C,)."""
        return {
            name: file[own].flatten() if own.endswith(".layer_scale") and name.endswith(".gamma") else file[own]
            for name, own in self.names.items()
        }


@dataclass(frozen=True)
class Layout:
    """Whose names a file has.

    Attributes:
        name: the library, as the user reads it.
        encoders: by role; more than one of a role where the file holds several networks that cannot be told apart.
        left_out: names in the file that are no encoder's, by what they are for.
    """

    name: str
    encoders: Mapping[Role, tuple[Encoder, ...]]
    left_out: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def encoder(self, role: Role = "backbone") -> Encoder:
        """The encoder of a role.

        Raises:
            WeightsError: there is none, or more than one.
        """
        found = self.encoders.get(role, ())
        if len(found) == 1:
            return found[0]
        if found:
            roots = ", ".join(repr(encoder.root) for encoder in found)
            raise WeightsError(
                f"there are {len(found)} networks that could be the {role}, below {roots}, and their weights differ:"
                " write the one that you want to a file of its own"
            )
        other = "target" if role == "backbone" else "backbone"
        roots = ", ".join(repr(encoder.root) for encoder in self.encoders.get(other, ()))
        raise WeightsError(f"there is no {role} in it, only the {other} below {roots}: ask for encoder {other!r}")

    def others(self, encoder: Encoder) -> dict[str, list[str]]:
        """Names in the file that are not this encoder's, by what they are for."""
        reasons = defaultdict(list, {reason: list(names) for reason, names in self.left_out.items()})
        for role, encoders in self.encoders.items():
            for other in encoders:
                if other is not encoder:
                    reasons[f"other encoder ({role})"] += other.names.values()
        return dict(reasons)


_CONTAINERS = ("state_dict", "model_state_dict", "state_dict_ema", "model", "model_ema", "net", "network", "weights")
WRAPPERS = ("module", "_orig_mod")
_TARGET = {"momentum", "target", "teacher", "ema", "k", "key"}
_ONLINE = {"student", "query", "q", "online", "base", "anchor"}
_PURPOSES = (
    (r"optim|sched|scaler|^amp$|^loops$|^callbacks$", "optimiser, schedule and callbacks"),
    (r"epoch_means|accuracy|metric", "metrics"),
    (
        r"queue|bank|loss|criterion|cent(er|re)|correlation|covariance|statistics|^running$|temperature",
        "loss and what it remembers",
    ),
    (r"predict", "predictor"),
    (r"prototype", "prototypes"),
    (r"classif", "classifier"),
    (r"project|^proj", "projector"),
    (r"^(fc|linear|last_linear)$|(^|_)heads?(_|$)|^fc_norm$", "classifier or other head"),
    (r"decoder|mask_token", "decoder and mask token"),
)
_LIGHTLY = re.compile(
    r"(projection|prediction)_head|(student|teacher)_head|online_classifier|backbone_momentum|(student|teacher|query)_backbone"
)
# Each is of two tensors that such a network has: a file that lacks one is told, and what it lacks is named.
_RESNET = re.compile(r"(?P<root>(?:.*\.)?)layer1\.0\.conv[12]\.weight")
_SEQUENCE = re.compile(r"(?P<root>(?:.*\.)?)(?P<stage>[2-4])\.0\.conv1\.weight")
_VIT = re.compile(r"(?P<root>(?:.*\.)?)patch_embed\.proj\.(weight|bias)")
_CONVNEXT = re.compile(r"(?P<root>(?:.*\.)?)stages\.0\.blocks\.[01]\.conv_dw\.weight")
_TORCHVISION_VIT = re.compile(r"(?P<root>(?:.*\.)?)encoder\.layers\.encoder_layer_[01]\.self_attention\.in_proj_weight")
_TORCHVISION_CONVNEXT = re.compile(r"(?P<root>(?:.*\.)?)features\.1\.[01]\.layer_scale")
_Renames = tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...]
_SHORTCUT: _Renames = ((r"^(layer\d+\.\d+)\.shortcut\.", r"\1.downsample."),)
"""lightly's ResNetGenerator calls ``shortcut`` what torchvision and timm call ``downsample``."""
_RENAMES: dict[re.Pattern[str], _Renames] = {
    _RESNET: _SHORTCUT,
    _VIT: (),
    _CONVNEXT: (),
    _TORCHVISION_VIT: (
        (r"^class_token$", "cls_token"),
        (r"^conv_proj\.", "patch_embed.proj."),
        (r"^encoder\.pos_embedding$", "pos_embed"),
        (r"^encoder\.ln\.", "norm."),
        (r"^encoder\.layers\.encoder_layer_(\d+)\.", r"blocks.\1."),
        (r"^(blocks\.\d+)\.ln_(\d)\.", r"\1.norm\2."),
        (r"^(blocks\.\d+)\.self_attention\.in_proj_", r"\1.attn.qkv."),
        (r"^(blocks\.\d+)\.self_attention\.out_proj\.", r"\1.attn.proj."),
        (r"^(blocks\.\d+)\.mlp\.(0|linear_1)\.", r"\1.mlp.fc1."),  # linear_1 before torchvision 0.13
        (r"^(blocks\.\d+)\.mlp\.(3|linear_2)\.", r"\1.mlp.fc2."),
    ),
    _TORCHVISION_CONVNEXT: (
        (r"^features\.0\.", "stem."),
        (r"^features\.([1357])\.(\d+)\.", lambda found: f"stages.{int(found[1]) // 2}.blocks.{found[2]}."),
        (r"^features\.([246])\.", lambda found: f"stages.{int(found[1]) // 2}.downsample."),
        (r"^(stages\.\d\.blocks\.\d+)\.layer_scale$", r"\1.gamma"),
        (r"^(stages\.\d\.blocks\.\d+)\.block\.0\.", r"\1.conv_dw."),
        (r"^(stages\.\d\.blocks\.\d+)\.block\.2\.", r"\1.norm."),
        (r"^(stages\.\d\.blocks\.\d+)\.block\.3\.", r"\1.mlp.fc1."),
        (r"^(stages\.\d\.blocks\.\d+)\.block\.5\.", r"\1.mlp.fc2."),
        (r"^classifier\.0\.", "head.norm."),
    ),
}
"""What tells of a network, by names that only it has, and how its names become timm's: one pattern after the other."""


def recognise(tensors: Mapping[str, Tensor], names: Collection[str] = ()) -> Layout:
    """Find the encoders among the tensors of a file, and say what the rest is for.

    ResNets are found by their stages, as torchvision, timm and lightly name them and as ``nn.Sequential`` numbers them;
    ViTs and ConvNeXts by the names that timm and torchvision have for them; any other network by its names, when they
    are given.

    Args:
        tensors: by their full names in the file.
        names: names of the network's own state dict, where it is known which network it is.

    Raises:
        WeightsError: no encoder is found; the text shows what there is.
    """
    encoders = _innermost(_union(_named(tensors, names), _structured(tensors), names))
    if not encoders:
        raise WeightsError(
            f"no backbone is recognised among its {len(tensors)} tensors:\n{shown(tensors)}\nKnown are the layouts of"
            " this library, solo-learn, lightly, torchvision, timm, MoCo and DINO, with a ResNet, or with a ViT or a"
            " ConvNeXt under the names of timm or torchvision; for another timm network give its name as architecture"
        )
    encoders, repeated = _distinct(encoders, tensors)
    claimed = {name for encoder in encoders for name in encoder.names.values()} | {*repeated}
    left_out: dict[str, list[str]] = defaultdict(list)
    for name in tensors:
        if name not in claimed:
            left_out[_purpose(name)].append(name)
    if repeated:
        left_out["the same weights a second time"] = repeated
    library = _library(tensors, encoders)
    if library == "solo-learn":
        encoders = [_solo_learn(encoder, tensors) for encoder in encoders]
    return Layout(library, _roles(encoders), {reason: tuple(found) for reason, found in left_out.items()})


def purpose_of(name: str) -> str | None:
    """What a tensor beside a backbone is for, by the first part of its name; None when that does not tell.

    >>> purpose_of("projector.0.weight"), purpose_of("layer5.0.conv1.weight")
    ('projector', None)
    """
    part = name.split(".")[0]
    return next((purpose for pattern, purpose in _PURPOSES if re.search(pattern, part)), None)


def shown(tensors: Mapping[str, Tensor], most: int = 12) -> str:
    """The first names and shapes of a file, a line each."""
    lines = [f"  {name} {tuple(tensor.shape)}" for name, tensor in list(tensors.items())[:most]]
    return "\n".join(lines + ([f"  and {len(tensors) - most} more"] if len(tensors) > most else []))


# ---------------------------------------------------------------------------------------------------- finding encoders


def _named(tensors: Mapping[str, Tensor], names: Collection[str]) -> list[Encoder]:
    """Networks of which at least half of the names are there."""
    anchors = [*names][:1] + [*names][-1:]
    roots = {f[: -len(a)] for a in anchors for f in tensors if f == a or f.endswith("." + a)}
    encoders = []
    for root in sorted(roots):
        own = {name.removeprefix(root): name for name in tensors if name.startswith(root)}
        renamed = {_timm_name(name): file_name for name, file_name in own.items()}
        if sum(name in renamed for name in names) >= len(names) / 2:
            encoders.append(Encoder(root, renamed))
    return encoders


def _structured(tensors: Mapping[str, Tensor]) -> list[Encoder]:
    encoders: list[Encoder] = []
    numbered: dict[str, set[int]] = {}
    for name in tensors:
        for pattern, renames in _RENAMES.items():
            if (match := pattern.fullmatch(name)) and (pattern is not _VIT or _is_vit(match["root"], tensors)):
                root = match["root"]
                own = {name.removeprefix(root): name for name in tensors if name.startswith(root)}
                encoders.append(Encoder(root, {_timm_name(name, renames): own[name] for name in own}))
        if (match := _SEQUENCE.fullmatch(name)) and f"{match['root']}1.running_mean" in tensors:
            numbered.setdefault(match["root"], set()).add(int(match["stage"]))
    encoders += [_sequence(root, min(stages), tensors) for root, stages in numbered.items()]
    return encoders


def _union(named: list[Encoder], structured: list[Encoder], names: Collection[str]) -> list[Encoder]:
    """Encoders found in either way, once each; what looks like a network within a named one is a part of that."""
    parts = {name[: i + 1] for name in names for i, letter in enumerate(name) if letter == "."}
    whole = [e for e in structured if not any(e.root.removeprefix(n.root) in parts for n in named)]
    return list({encoder.root: encoder for encoder in [*named, *whole]}.values())


def _is_vit(root: str, tensors: Mapping[str, Tensor]) -> bool:
    return any(f"{root}blocks.{i}.attn.qkv.weight" in tensors for i in (0, 1))


def _timm_name(name: str, renames: _Renames = _SHORTCUT) -> str:
    for pattern, replacement in renames:
        name = re.sub(pattern, replacement, name)
    return name


def _sequence(root: str, first: int, tensors: Mapping[str, Tensor]) -> Encoder:
    """``nn.Sequential(*resnet.children())``: convolution 0, BatchNorm 1, perhaps ReLU and max-pool, then four stages.

    With the stages from 4 on there is a max-pool or what replaces it; from 3 on a ReLU only; from 2 on neither, as in
    the children of lightly's ResNetGenerator: its ReLU there is no module, and a sequence of modules is without it.
    """
    parts = {"0": "conv1", "1": "bn1", **{str(first + i): f"layer{i + 1}" for i in range(4)}}
    names = {}
    for file_name in tensors:
        if file_name.startswith(root):
            part, _, rest = file_name.removeprefix(root).partition(".")
            names[_timm_name(f"{parts.get(part, part)}.{rest}" if rest else part)] = file_name
    return Encoder(root, names, max_pool=None if first == 4 else False, relu=first != 2)


def _innermost(encoders: list[Encoder]) -> list[Encoder]:
    """Encoders without what is below another's root, where one root begins with another."""
    result = []
    for encoder in encoders:
        inner = [e.root for e in encoders if e.root != encoder.root and e.root.startswith(encoder.root)]
        own = {k: v for k, v in encoder.names.items() if not any(v.startswith(root) for root in inner)}
        result.append(replace(encoder, names=own))
    return result


def _distinct(encoders: list[Encoder], tensors: Mapping[str, Tensor]) -> tuple[list[Encoder], list[str]]:
    """Encoders that differ, and the names of those whose weights are another's once more (a network with two names)."""
    kept: list[Encoder] = []
    repeated: list[str] = []
    for encoder in encoders:
        if any(_same(encoder, other, tensors) for other in kept):
            repeated += encoder.names.values()
        else:
            kept.append(encoder)
    return kept, repeated


def _same(one: Encoder, other: Encoder, tensors: Mapping[str, Tensor]) -> bool:
    return (
        one.names.keys() == other.names.keys()
        and not _target(one.root) ^ _target(other.root)
        and all(torch.equal(tensors[file_name], tensors[other.names[name]]) for name, file_name in one.names.items())
    )


# ------------------------------------------------------------------------------------------------------- who is who


def _words(root: str) -> set[str]:
    return {word for part in root.split(".") for word in part.split("_")}


def _target(root: str) -> bool:
    return bool(_words(root) & _TARGET)


def _roles(encoders: list[Encoder]) -> dict[Role, tuple[Encoder, ...]]:
    """Trained encoders and target networks.

    Where one is called student, query or anchor and another has a neutral name, as in lightly's benchmarks of DINO and
    MoCo and its MSN, the neutral one is the target network.
    """
    explicit = any(_words(encoder.root) & _ONLINE and not _target(encoder.root) for encoder in encoders)
    named_target = any(_target(encoder.root) for encoder in encoders)
    roles: dict[Role, tuple[Encoder, ...]] = {}
    for encoder in encoders:
        neutral = not _words(encoder.root) & (_ONLINE | _TARGET)
        role: Role = "target" if _target(encoder.root) or (neutral and explicit and not named_target) else "backbone"
        roles[role] = (*roles.get(role, ()), encoder)
    return roles


def _top(name: str) -> str:
    """The first part of a name that says something: neither a container of state dicts nor a wrapper."""
    parts = name.split(".")
    for i, part in enumerate(parts[:-1]):
        if part not in WRAPPERS and (i or part not in _CONTAINERS):
            return part
    return parts[-1]


def _library(tensors: Mapping[str, Tensor], encoders: Iterable[Encoder]) -> str:
    tops = {_top(name) for name in tensors}
    bases = {encoder.root.rstrip(".").rpartition(".")[2] for encoder in encoders}
    numbered = any(name.startswith(f"{encoder.root}0.") for encoder in encoders for name in encoder.names.values())
    shortcuts = any(".shortcut." in name for encoder in encoders for name in encoder.names.values())
    if "epoch_means" in tops:
        return "solo_frossl"
    if bases & {"encoder_q", "encoder_k"}:
        return "MoCo"
    if "base_encoder" in bases:
        return "MoCo v3"
    if tops & {"student", "teacher"}:
        return "DINO"
    masked = any(f"{encoder.root.removesuffix('vit.')}mask_token" in tensors for encoder in encoders)
    if numbered or shortcuts or (masked and bases == {"vit"}) or any(_LIGHTLY.search(top) for top in tops):
        return "lightly"
    owners = {"encoder", "backbone", "momentum_encoder", "momentum_backbone"}
    if bases <= owners and any(re.search("classifier|projector", top) for top in tops):
        return "solo-learn"
    if all(_top(encoder.root + "conv1") == "conv1" for encoder in encoders):
        return "torchvision or timm"
    return f"a network named {', '.join(sorted(bases))}"


def _solo_learn(encoder: Encoder, tensors: Mapping[str, Tensor]) -> Encoder:
    """solo-learn's stem for CIFAR, the only one that it has with a 3x3 kernel, is padded by 2."""
    kernel = tensors.get(encoder.names.get("conv1.weight", ""))
    small = kernel is not None and kernel.ndim == 4 and kernel.shape[-1] == 3
    return replace(encoder, max_pool=False, padding=2) if small else encoder


def _purpose(name: str) -> str:
    """What a tensor outside every encoder is for, by the first of its parts that tells."""
    told = (purpose_of(part) for part in name.split("."))
    return next(filter(None, told), f"outside the backbone ({_top(name)})")

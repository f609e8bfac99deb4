"""Between drawing and applying: a view's parameters in the order of work, packed so that one copy takes them away."""

from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from solo_frossl.augment.parameters import CONTRAST, HUE, SATURATION, Parameters

BLEND_ARGUMENTS = ("factor", "gray_share", "mean_share")

# Rows of the packed tensor. factor, gray_share and mean_share: arguments of `functional.blend_` for a sample's three
# jitter operations other than hue, first to last. source: the sample's place in the batch. The last three begin with
# the places, in the order of work, of the samples that the operation changes.
_FLOATS = ("top", "left", "height", "width", "flip", "hue", "sigma")
_BLENDS = tuple(f"{name}{j}" for name in BLEND_ARGUMENTS for j in range(3))
_SUBSETS = ("grayscale", "blur", "solarize")
_ROW = {name: row for row, name in enumerate((*_FLOATS, *_BLENDS, "source", *_SUBSETS))}


class Plan(NamedTuple):
    """The order of work of one view, and its parameters in that order.

    Samples with colour jitter come first, those whose hue turns last in front. So the samples whose operation j comes
    before their hue are a prefix of the batch, those where it comes after are the rest of the jittered ones, and the 24
    orders of the four operations cost two slices an operation: no sample is moved and none is worked on in vain.

    Attributes:
        packed: ``(20, B)`` float32, a row a parameter.
        jittered: number of samples with colour jitter.
        turns_hue: whether their hue is to be turned at all.
        before_hue: for operation j of 0, 1, 2 (hue not counted), the length of its prefix.
        subsets: for grayscale, blur and solarize the ascending places of the samples concerned.
        boxes: per sample its place in the batch, top, left, height, width and flip.
    """

    packed: Tensor
    jittered: int
    turns_hue: bool
    before_hue: list[int]
    subsets: dict[str, list[int]]
    boxes: list[list[int]]

    def row(self, name: str, start: int, stop: int) -> Tensor:
        """Parameter ``name`` of the samples from ``start`` to ``stop``, ``(stop - start,)`` float32."""
        return self.packed[_ROW[name], start:stop]

    def source(self, start: int, stop: int) -> Tensor:
        """Places in the batch of the samples from ``start`` to ``stop``, ``(stop - start,)`` int64."""
        return self.row("source", start, stop).long()

    def subset(self, name: str, start: int, stop: int) -> Tensor:
        """Which of the samples from ``start`` to ``stop`` the operation changes, counted from ``start``, int64."""
        places = self.subsets[name]
        return self.row(name, bisect_left(places, start), bisect_left(places, stop)).long() - start


def make_plan(parameters: Parameters, *, colour: bool, hue: bool) -> Plan:
    """The plan on the CPU.

    Args:
        parameters: of one view.
        colour: whether the images have colours; saturation does nothing to those that have none.
        hue: whether any hue turns.
    """
    p = parameters
    hue_place = (p.jitter_order == HUE).int().argmax(1) if hue else torch.full((len(p),), 3)
    key = torch.where(p.jitter, hue_place, -1)
    key, order = key.sort(descending=True, stable=True)

    saturation = p.saturation if colour else torch.ones_like(p.saturation)
    operations = p.jitter_order[p.jitter_order != HUE].view(-1, 3)
    factors = torch.stack((p.brightness, p.contrast, saturation), 1).gather(1, operations)
    shares = torch.stack((operations == SATURATION, operations == CONTRAST)).float()
    blends = torch.cat((factors.T, shares[0].T, shares[1].T))
    floats = torch.stack([getattr(p, name).float() for name in _FLOATS])
    sorted_rows = torch.cat((floats, blends))[:, order]

    flags = torch.stack([getattr(p, name) for name in _SUBSETS])[:, order]
    places = [row.nonzero().flatten() for row in flags]
    subsets = torch.zeros(len(_SUBSETS), len(p))
    for row, members in zip(subsets, places, strict=True):
        row[: len(members)] = members
    boxes = torch.stack((order, *(getattr(p, name)[order] for name in ("top", "left", "height", "width", "flip"))), 1)
    return Plan(
        packed=torch.cat((sorted_rows, order.unsqueeze(0), subsets)),
        jittered=int(p.jitter.sum()),
        turns_hue=hue,
        before_hue=[int((key > j).sum()) for j in range(3)],
        subsets={name: members.tolist() for name, members in zip(_SUBSETS, places, strict=True)},
        boxes=boxes.tolist(),
    )


def to_device(plans: Sequence[Plan], device: torch.device) -> list[Plan]:
    """The plans with their parameters on the device: one copy for all, for which a GPU's host does not wait."""
    if device.type == "cpu":
        return list(plans)
    packed = torch.stack([plan.packed for plan in plans])
    if device.type == "cuda":
        packed = packed.pin_memory()
    moved = packed.to(device, non_blocking=True)
    return [plan._replace(packed=rows) for plan, rows in zip(plans, moved, strict=True)]

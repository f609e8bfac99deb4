"""Filling a network so that each tensor is accounted for: a probe of half-loaded weights would measure nothing."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from solo_frossl.weights.files import WeightsError
from solo_frossl.weights.layouts import WRAPPERS, Encoder, Layout, purpose_of

_COUNTER = ".num_batches_tracked"
"""BatchNorm's count of batches, which eval mode never uses; files from before torch 0.4.1 do not have it."""


@dataclass(frozen=True)
class Accounting:
    """What became of every tensor of a file, and where every tensor of a network came from.

    Attributes:
        file: where the weights come from, as the user reads it.
        layout: whose names the file has.
        root: what the names of the encoder taken begin with.
        loaded: names in the file that went into the network.
        left_out: names in the file that did not, by what they are for.
        missing: names of the network that the file does not have.
        unexpected: names in the file that are below the root, neither the network's nor of a known purpose, or of
            another shape.
        notes: sentences on what had to be supposed or changed.
    """

    file: str
    layout: str
    root: str
    loaded: tuple[str, ...]
    left_out: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        """What the user reads; a line for every group of names."""
        below = f", below {self.root!r}" if self.root else ""
        lines = [f"{self.file} (layout: {self.layout}{below})", f"  loaded: {_tensors(self.loaded)}"]
        for reason, names in self.left_out.items():
            lines.append(f"  left out: {_tensors(names)}, {reason} ({_groups(names)})")
        if self.missing:
            all_counters = all(name.endswith(_COUNTER) for name in self.missing)
            what = "BatchNorm's num_batches_tracked, which eval mode does not use" if all_counters else None
            lines.append(f"  missing: {_tensors(self.missing)}, {what or ', '.join(self.missing)}")
        if self.unexpected:
            lines.append(f"  unexpected: {_tensors(self.unexpected)}, {', '.join(self.unexpected)}")
        return "\n".join(lines + [f"  {note}" for note in self.notes])


def fill(
    network: nn.Module,
    tensors: Mapping[str, Tensor],
    layout: Layout,
    encoder: Encoder,
    file: str,
    notes: tuple[str, ...] = (),
) -> Accounting:
    """Copy an encoder of a file into a network; every name and every shape must match.

    Args:
        network: what to fill; unchanged when the weights are refused.
        tensors: those of the file, by their names in it.
        layout: whose names they are.
        encoder: which of the layout's networks.
        file: where they come from, as the user reads it.
        notes: what the accounting is to say besides.

    Raises:
        WeightsError: listing every name that is missing, unexpected, or of another shape.

    >>> import torch
    >>> layout = Layout("plain", {"backbone": (Encoder("", {"weight": "weight"}),)})
    >>> fill(nn.Linear(2, 1), {"weight": torch.ones(1, 3)}, layout, layout.encoder(), "run.ckpt")
    Traceback (most recent call last):
    ...
    solo_frossl.weights.files.WeightsError: the weights do not fit this Linear:
    run.ckpt (layout: plain)
      loaded: 0 tensors
      missing: 1 tensor, bias
      unexpected: 1 tensor, weight
      weight is (1, 3), must be (1, 2)
    Is it another architecture (its timm name), or another stem?
    """
    wanted = network.state_dict()
    values, loaded, unexpected, changed = {}, [], [], []
    left_out = layout.others(encoder)
    misfits = []
    for name, value in encoder.tensors(tensors).items():
        file_name = encoder.names[name]
        if name not in wanted:
            purpose = purpose_of(name)
            (left_out.setdefault(purpose, []) if purpose else unexpected).append(file_name)
            continue
        if name.endswith((".running_mean", ".running_var")) and _is_split(value, wanted[name]):
            value = value.view(-1, len(wanted[name])).mean(0)
            changed.append(file_name)
        if value.shape == wanted[name].shape:
            values[name] = value
            loaded.append(file_name)
        else:
            unexpected.append(file_name)
            misfits.append(f"{file_name} is {tuple(value.shape)}, must be {tuple(wanted[name].shape)}")
    if changed:
        notes = (*notes, f"averaged: {_tensors(changed)}, statistics of BatchNorm kept by parts of the batch")
    accounting = Accounting(
        file=file,
        layout=layout.name,
        root=encoder.root,
        loaded=tuple(loaded),
        left_out={reason: tuple(names) for reason, names in left_out.items()},
        missing=tuple(name for name in wanted if name not in encoder.names),
        unexpected=tuple(unexpected),
        notes=notes,
    )
    if unexpected or any(not name.endswith(_COUNTER) for name in accounting.missing):
        lines = [f"the weights do not fit this {type(network).__name__}:", str(accounting)]
        raise WeightsError(
            "\n".join([*lines, *(f"  {misfit}" for misfit in misfits)])
            + "\nIs it another architecture (its timm name), or another stem?"
        )
    broken = [name for name, value in values.items() if value.is_floating_point() and not value.isfinite().all()]
    if broken:
        raise WeightsError(f"{file} holds values that are not finite, in {_tensors(broken)}: {', '.join(broken[:5])}")
    network.load_state_dict(values, strict=False)
    return accounting


def _is_split(found: Tensor, wanted: Tensor) -> bool:
    """Whether these are statistics of several parts of the batch in a row, as lightly's SplitBatchNorm has them."""
    return found.ndim == 1 and len(found) > len(wanted) and len(found) % len(wanted) == 0


def _tensors(names: tuple[str, ...] | list[str]) -> str:
    return f"{len(names)} tensor{'' if len(names) == 1 else 's'}"


def _groups(names: tuple[str, ...]) -> str:
    """Names by what they begin with: ``projector.* and 2 more groups``."""
    depth = 2 if len({name.split(".")[0] for name in names}) == 1 else 1
    groups = Counter(_group(name.split("."), depth) for name in names)
    most = [group for group, _ in groups.most_common(4)]
    return ", ".join(most) + (f" and {len(groups) - 4} more groups" if len(groups) > 4 else "")


def _group(parts: list[str], depth: int) -> str:
    """What a name begins with, wrappers not counted.

    >>> _group("state_dict.module.queue_ptr".split("."), 2), _group("state_dict.fc.0.bias".split("."), 2)
    ('state_dict.module.queue_ptr', 'state_dict.fc.*')
    """
    while depth < len(parts) and parts[depth - 1] in WRAPPERS:
        depth += 1
    return ".".join(parts[:depth]) + (".*" if len(parts) > depth else "")

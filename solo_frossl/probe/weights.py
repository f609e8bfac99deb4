"""Putting a checkpoint's backbone into a network, strictly: a probe of half-loaded weights would measure nothing."""

from collections.abc import Mapping

from torch import Tensor, nn

_PREFIX = "backbone."


class BackboneMismatchError(ValueError):
    """A checkpoint's backbone is not the one to be filled."""


def load_backbone_weights(backbone: nn.Module, state_dict: Mapping[str, Tensor], source: str) -> None:
    """Copy the entries ``backbone.*`` of a checkpoint into ``backbone``; every key and every shape must match.

    Args:
        backbone: the network to fill; unchanged when the checkpoint is refused.
        state_dict: the checkpoint's ``state_dict``; other entries (``projector.*``, ``classifier.*``) are left out.
        source: where the weights come from, for the error.

    Raises:
        BackboneMismatchError: listing every entry that is missing, unexpected, or of another shape.

    >>> import torch
    >>> load_backbone_weights(nn.Linear(2, 1), {"backbone.weight": torch.ones(1, 3)}, "run.ckpt")
    Traceback (most recent call last):
    ...
    solo_frossl.probe.weights.BackboneMismatchError: the backbone in run.ckpt does not fit this Linear:
      missing from the checkpoint: bias
      of another shape: weight is (1, 3), must be (1, 2)
    Use the backbone, the stem and the channels of the run that wrote it: see config.yaml in its folder.
    """
    found = {name.removeprefix(_PREFIX): value for name, value in state_dict.items() if name.startswith(_PREFIX)}
    if not found:
        some = ", ".join(sorted(state_dict)[:3]) or "nothing"
        raise BackboneMismatchError(
            f"{source} holds no weights named '{_PREFIX}*', only {some}, ...: give a checkpoint of a pretraining run"
        )
    wanted = backbone.state_dict()
    differences = {
        "missing from the checkpoint": sorted(wanted.keys() - found.keys()),
        "not in this backbone": sorted(found.keys() - wanted.keys()),
        "of another shape": [
            f"{name} is {tuple(found[name].shape)}, must be {tuple(wanted[name].shape)}"
            for name in sorted(wanted.keys() & found.keys())
            if found[name].shape != wanted[name].shape
        ],
    }
    if any(differences.values()):
        lines = [f"  {what}: {', '.join(names)}\n" for what, names in differences.items() if names]
        raise BackboneMismatchError(
            f"the backbone in {source} does not fit this {type(backbone).__name__}:\n{''.join(lines)}"
            "Use the backbone, the stem and the channels of the run that wrote it: see config.yaml in its folder."
        )
    backbone.load_state_dict(found)

"""Weights as safetensors, with what must be known of them in the file's own metadata."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from solo_frossl.replacing import replacing
from solo_frossl.zoo.errors import ZooError

if TYPE_CHECKING:
    import torch

METADATA_KEY = "solo_frossl"
"""Key of the file's metadata that holds what is known of the weights, as JSON."""


def write_weights(path: str | Path, tensors: "Mapping[str, torch.Tensor]", about: Mapping[str, Any]) -> None:
    """Write a safetensors file atomically; the same tensors and words give the same bytes.

    Args:
        path: the file; its folder is made.
        tensors: by name; each with a memory of its own.
        about: plain values: name, method, encoder (where it is the target network), dataset, architecture, mean, std,
            epochs, seed, config, precision.

    Raises:
        ZooError: ``about`` cannot be written as JSON, or two tensors share memory.
        OSError: the file cannot be written; nothing is left of it then.
    """
    from safetensors.torch import save

    path = Path(path)
    try:
        metadata = {METADATA_KEY: json.dumps(dict(about), allow_nan=False, sort_keys=True)}
        content = save({key: value.detach().cpu().contiguous() for key, value in tensors.items()}, metadata)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ZooError(f"{path} cannot be written as safetensors: {error}") from error
    with replacing(path, sync=True) as part:
        part.write_bytes(content)


def read_about(path: str | Path) -> dict[str, Any]:
    """What a file of :func:`write_weights` says of its weights; reads its header only, and imports no torch.

    Raises:
        ZooError: there is no such file, it is no safetensors file, or no such words are in it.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise ZooError(f"{path} cannot be read as safetensors: {error}") from None
    try:
        about = json.loads(metadata[METADATA_KEY])
        if not isinstance(about, dict):
            raise TypeError
    except (KeyError, ValueError, TypeError):
        raise ZooError(
            f"{path} does not say what its weights are: its metadata has no {METADATA_KEY!r} with a JSON mapping in it"
        ) from None
    return about

"""FroSSL and its rivals: self-supervised visual representation learning, exactly as in the papers."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from solo_frossl.weights import Pretrained

__version__ = "0.1.0"


def load(spec: str, **options: Any) -> "Pretrained":
    """A backbone with its weights, in eval mode, with its ``transform``: :func:`solo_frossl.weights.load_backbone`.

    Args:
        spec: a run, a checkpoint file, ``zoo:NAME``, ``timm:NAME`` or ``untrained:NAME``.
        options: ``encoder``, ``architecture``, ``stem``, ``image_size``, ``mean``, ``std``, ... of that function.
    """
    from solo_frossl.weights import load_backbone  # on first use: it brings torch and timm

    return load_backbone(spec, **options)

"""Networks from files: tensors read without running code, whose layout it is, which network, and all accounted for."""

from solo_frossl.weights.accounting import Accounting, fill
from solo_frossl.weights.architecture import Architecture, infer_architecture
from solo_frossl.weights.files import FileContent, WeightsError, read_tensors
from solo_frossl.weights.layouts import Encoder, Layout, recognise
from solo_frossl.weights.pretrained import Pretrained, load_backbone

__all__ = [
    "Accounting",
    "Architecture",
    "Encoder",
    "FileContent",
    "Layout",
    "Pretrained",
    "WeightsError",
    "fill",
    "infer_architecture",
    "load_backbone",
    "read_tensors",
    "recognise",
]

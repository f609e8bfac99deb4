"""Unpickling that runs no code: tensors and plain containers as they are, an empty shell for everything else.

``torch.load(weights_only=True)`` refuses a file as soon as it meets an object that it does not know; checkpoints of
other libraries often hold one beside their tensors (a configuration, parsed arguments). Here such an object becomes an
:class:`Inert` shell: its class is never imported, and nothing of it is ever called.
"""

import collections
import pickle
import types
from typing import Any, BinaryIO

import torch
from torch import _utils


class Inert:
    """Stands in for an object of any class, and does nothing."""

    pickled_name = "an object"
    """Module and name of what it stands for."""
    dump_patches = False
    """What ``torch.load`` asks the class of a pickled network for."""

    def __new__(cls, *args: Any, **kwargs: Any) -> "Inert":
        """A shell; arguments are dropped."""
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...

    def __setitem__(self, key: Any, value: Any) -> None: ...

    def append(self, item: Any) -> None:
        """Drop an item of a list."""

    def extend(self, items: Any) -> None:
        """Drop items of a list."""

    def add(self, item: Any) -> None:
        """Drop an item of a set."""


_TORCH_TYPES = {
    name: value for name, value in vars(torch).items() if isinstance(value, torch.dtype) and name.isidentifier()
}
_KNOWN = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch", "Size"): torch.Size,
    ("torch", "device"): torch.device,
    ("torch._utils", "_rebuild_tensor"): _utils._rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): _utils._rebuild_parameter,
    **{("torch", name): value for name, value in _TORCH_TYPES.items()},
}
"""All that a name ever stands for: what tensors and state dicts are made of. Storages are torch.load's own."""


class InertReader:
    """An unpickler for ``torch.load``, in the form of the module that it asks for.

    Attributes:
        foreign: names of the classes and functions that shells stand for, in the order met.
    """

    __name__ = "solo_frossl.weights.inert"

    def __init__(self) -> None:
        self.foreign: dict[str, None] = {}
        reader = self

        class Unpickler(pickle.Unpickler):
            def find_class(self, module: str, name: str) -> Any:
                return _KNOWN[module, name] if (module, name) in _KNOWN else reader._shell(f"{module}.{name}")

        self.Unpickler = Unpickler

    def load(self, file: BinaryIO, **kwargs: Any) -> Any:
        """One pickled object."""
        return self.Unpickler(file, **kwargs).load()

    def _shell(self, name: str) -> type[Inert]:
        self.foreign[name] = None
        return types.new_class("Inert", (Inert,), exec_body=lambda body: body.update(pickled_name=name))

"""Methods: one file each; every class in this folder that is a ``Method`` with nothing left abstract is found."""

import importlib
import inspect
import pkgutil

from solo_frossl.methods.base import Method, Objective, Progress
from solo_frossl.methods.momentum import MomentumMethod

__all__ = ["METHODS", "Method", "MomentumMethod", "Objective", "Progress"]


def _discover() -> dict[str, type[Method]]:
    found = {}
    for info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{info.name}")
        for value in vars(module).values():
            own = isinstance(value, type) and value.__module__ == module.__name__
            if own and issubclass(value, Method) and not inspect.isabstract(value):
                found[info.name] = value
    return dict(sorted(found.items()))


METHODS: dict[str, type[Method]] = _discover()
"""Method classes by the name of their file: ``frossl``, ``barlow_twins``, ..."""

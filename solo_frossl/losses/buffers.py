"""What an objective remembers in more than the precision of the weights."""

from collections.abc import Callable
from typing import Self

from torch import Tensor, nn


class Float64Buffers(nn.Module):
    """A module whose buffers stay float64 when it is cast: ``half()``, ``to(dtype)`` and their like only move them."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        def moved_only(tensor: Tensor) -> Tensor:
            result = fn(tensor)
            return result if result.dtype == tensor.dtype else tensor.to(result.device)

        return super()._apply(moved_only, recurse)

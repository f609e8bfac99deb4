"""Which loss, and what it is about."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

SIMILARITIES = ("euclidean", "cosine")
VARIANTS = ("plain", "iso", "no_stop_gradient", "no_predictor")


def check_sigma(sigma: float) -> None:
    if not (sigma >= 0 and np.isfinite(sigma)):
        raise ValueError(f"sigma is {sigma}: the noise's standard deviation must be 0 or more, and finite")


@dataclass(frozen=True)
class Siamese:
    """One of the losses, and what it is about.

    Args:
        similarity: ``euclidean``, d(a, b) = ||a - b||^2 / 2, or ``cosine``, d(a, b) = -cos(a, b).
        variant: ``plain`` (Eqs. 3 and 4), ``iso`` (IsoLoss, Eqs. 15 and 17), ``no_stop_gradient`` (Eq. 12, C.2) or
            ``no_predictor`` (Eqs. 13 and 14).
        alpha: power of the predictor's eigenvalues, above 0.
        sigma: standard deviation of the noise on each view, 0 or more.
        normalize: divide the correlation's eigenvalues by the largest before the power, as the authors' code does and
            the paper does not.
        noisy_correlation: the predictor is of the views' correlation, E[z z^T] = k W W^T, as in the product, not of
            the clean inputs' one, W W^T.

    Raises:
        ValueError: a value is out of range.
    """

    similarity: Literal["euclidean", "cosine"]
    variant: Literal["plain", "iso", "no_stop_gradient", "no_predictor"] = "plain"
    alpha: float = 1.0
    sigma: float = 0.1
    normalize: bool = False
    noisy_correlation: bool = False

    def __post_init__(self) -> None:
        for name, known in (("similarity", SIMILARITIES), ("variant", VARIANTS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {getattr(self, name)!r}: it must be one of {', '.join(known)}")
        if not (self.alpha > 0 and np.isfinite(self.alpha)):
            raise ValueError(f"alpha is {self.alpha}: it must be above 0, and finite")
        check_sigma(self.sigma)

    @property
    def k(self) -> float:
        """Variance of a view's inputs, 1 + sigma^2."""
        return 1 + self.sigma**2


LOSSES = tuple(Siamese(similarity, variant) for similarity in SIMILARITIES for variant in VARIANTS)
"""The paper's eight, with alpha = 1 and sigma = 0.1."""


def positive(name: str, values: float | np.ndarray, *, zero: bool = False) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    if not (np.isfinite(values) & ((values >= 0) if zero else (values > 0))).all():
        raise ValueError(f"{name} is {values}: it must be {'0 or more' if zero else 'above 0'}, and finite")
    return values

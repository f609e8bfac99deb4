"""Second moments of two views and their modes, and layers that are aligned with them."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

TOLERANCE = 1e-8


@dataclass(frozen=True)
class Modes:
    """Eigenvalues of the second moments of two views, in their common eigenvectors.

    Args:
        first: ``(K,)`` lambda of view 1, above 0.
        second: ``(K,)`` gamma of view 2, above 0.
        cross: ``(K,)`` kappa = rho sqrt(lambda gamma) of X1^T X2 / N.

    Raises:
        ValueError: shapes differ, an eigenvalue is not above 0, or a correlation is outside [-1, 1].
    """

    first: np.ndarray
    second: np.ndarray
    cross: np.ndarray

    def __post_init__(self) -> None:
        for name in ("first", "second", "cross"):
            object.__setattr__(self, name, np.atleast_1d(np.asarray(getattr(self, name), dtype=np.float64)))
        if not (self.first.shape == self.second.shape == self.cross.shape and self.first.ndim == 1):
            shapes = ", ".join(str(a.shape) for a in (self.first, self.second, self.cross))
            raise ValueError(f"modes of both views and of their product must be as many, got shapes {shapes}")
        for name, values in (("first", self.first), ("second", self.second)):
            if not (values > 0).all():
                raise ValueError(
                    f"eigenvalue {np.argmin(values)} of the {name} view is {values.min():g}: all must be above 0; leave"
                    " out the directions in which the samples do not vary"
                )
        if (np.abs(self.rho) > 1 + TOLERANCE).any():
            worst = int(np.argmax(np.abs(self.rho)))
            raise ValueError(
                f"the views' correlation rho in mode {worst} is {self.rho[worst]:g}: it must lie in [-1, 1], so |cross|"
                f" must be at most sqrt(first second) = {np.sqrt(self.first[worst] * self.second[worst]):g}"
            )

    @classmethod
    def correlated(cls, rho: float | np.ndarray, first: np.ndarray, second: np.ndarray | None = None) -> "Modes":
        """Modes of given variance and correlation.

        Args:
            rho: correlation of the views, from -1 to 1; one for all modes or ``(K,)``.
            first: ``(K,)`` lambda.
            second: ``(K,)`` gamma; None: the same.
        """
        first = np.atleast_1d(np.asarray(first, dtype=np.float64))
        second = first if second is None else np.atleast_1d(np.asarray(second, dtype=np.float64))
        with np.errstate(invalid="ignore"):
            return cls(first, second, rho * np.sqrt(first * second))

    @property
    def rho(self) -> np.ndarray:
        """``(K,)`` correlation of the views in each mode."""
        return self.cross / np.sqrt(self.first * self.second)


@dataclass(frozen=True)
class Moments:
    """Second moments of two views.

    Args:
        first: ``(D, D)`` float64, G1.
        second: ``(D, D)`` float64, G2.
        cross: ``(D, D)`` float64, K = X1^T X2 / N.

    Raises:
        ValueError: shapes differ, or together they are no covariance: not symmetric, or not positive semi-definite.
    """

    first: Tensor
    second: Tensor
    cross: Tensor

    def __post_init__(self) -> None:
        for name in ("first", "second", "cross"):
            object.__setattr__(self, name, torch.as_tensor(getattr(self, name), dtype=torch.float64))
        shape = self.first.shape
        if len(shape) != 2 or shape[0] != shape[1] or {self.second.shape, self.cross.shape} != {shape}:
            raise ValueError(
                f"moments must be three square matrices of one size, got {tuple(shape)}, {tuple(self.second.shape)},"
                f" {tuple(self.cross.shape)}"
            )
        scale = float(torch.maximum(self.first.abs().max(), self.second.abs().max()))
        for name, matrix in (("first", self.first), ("second", self.second)):
            if float((matrix - matrix.T).abs().max()) > TOLERANCE * scale:
                raise ValueError(f"the {name} view's second moment is not symmetric")
        whole = torch.cat([torch.cat([self.first, self.cross], 1), torch.cat([self.cross.T, self.second], 1)])
        least = float(torch.linalg.eigvalsh(whole)[0])
        if least < -TOLERANCE * scale:
            raise ValueError(
                f"the views' joint covariance has the eigenvalue {least:g}: there are no samples with such moments;"
                " compute all three from the same samples, as Moments.of does"
            )

    @classmethod
    def of(cls, view1: Tensor, view2: Tensor) -> "Moments":
        """Moments of samples.

        Args:
            view1: ``(N, D)``, centred or not.
            view2: ``(N, D)``, the same samples seen otherwise.

        Raises:
            ValueError: shapes differ or there is no sample.
        """
        view1, view2 = (torch.as_tensor(x).double() for x in (view1, view2))
        if view1.ndim != 2 or view1.shape != view2.shape or not len(view1):
            raise ValueError(f"views must be (N, D) and of one shape, got {tuple(view1.shape)}, {tuple(view2.shape)}")
        count = len(view1)
        return cls(view1.T @ view1 / count, view2.T @ view2 / count, view1.T @ view2 / count)

    @classmethod
    def aligned(cls, modes: Modes, vectors: Tensor | None = None) -> "Moments":
        """Moments that have these modes.

        Args:
            modes: K of them.
            vectors: ``(D, K)`` orthonormal columns V, the common eigenvectors; None: the axes.
        """
        v = torch.eye(len(modes.first), dtype=torch.float64) if vectors is None else vectors.double()
        return cls(*((v * torch.as_tensor(m)) @ v.T for m in (modes.first, modes.second, modes.cross)))


def aligned_weights(s1: np.ndarray, s2: np.ndarray, *, outputs: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Layers W_v = U diag(s_v) V^T.

    U is the same for both layers (the paper's Prop. D.1 lets it differ; then the singular vectors rotate, and no
    equation of the modes holds).

    Args:
        s1: ``(..., K)`` singular values of W1.
        s2: ``(..., K)`` of W2.
        outputs: ``(M, K)`` orthonormal columns U.
        vectors: ``(D, K)`` orthonormal columns V, those of the moments.

    Returns:
        W1 and W2, ``(..., M, D)``.
    """
    first, second = (torch.as_tensor(s, dtype=torch.float64) for s in (s1, s2))
    return (outputs * first[..., None, :]) @ vectors.mT, (outputs * second[..., None, :]) @ vectors.mT


def must_be_symmetric(modes: Modes) -> None:
    if not np.allclose(modes.first, modes.second, rtol=TOLERANCE, atol=0):
        raise ValueError(
            "the views' eigenvalues differ: the closed form holds for first = second only; integrate the rate instead"
        )

"""One check: what a global batch tells of its spectrum. The device makes matrices, the host finds their eigenvalues."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from solo_frossl import distributed
from solo_frossl.spectrum.eigenvalues import centre, descending_eigenvalues, moment_matrices, rankme


class Moments(NamedTuple):
    """What a check needs of a global batch of N samples; the matrices are symmetric and float64.

    Attributes:
        samples: N.
        dimensions: D, of the embeddings, and F, of the features.
        embeddings: view 1 around its mean and around zero, each ``(min(N, D), min(N, D))``; see
            :func:`~solo_frossl.spectrum.eigenvalues.moment_matrices`.
        features: the same of the features, each ``(min(N, F), min(N, F))``.
        view_correlation: ``(D,)``; ``(0,)`` if there is but one view.
        predictor: W_P, ``(D, D)``; ``(0, 0)`` if there is none.
        correlation: E[z z^T] over the embeddings of all views, ``(D, D)``; ``(0, 0)`` without a predictor.
    """

    samples: int
    dimensions: tuple[int, int]
    embeddings: tuple[Tensor, Tensor]
    features: tuple[Tensor, Tensor]
    view_correlation: Tensor
    predictor: Tensor
    correlation: Tensor

    def map(self, change: Callable[[Tensor], Tensor]) -> "Moments":
        """The same with every tensor changed, as to another device."""
        return Moments(
            self.samples,
            self.dimensions,
            tuple(map(change, self.embeddings)),
            tuple(map(change, self.features)),
            *map(change, (self.view_correlation, self.predictor, self.correlation)),
        )


@torch.no_grad()
def batch_moments(features: Sequence[Tensor], embeddings: Sequence[Tensor], predictor: Tensor | None = None) -> Moments:
    """Gather the batch of all processes and reduce it to its moments; on a GPU nothing waits for it.

    Args:
        features: V >= 1 tensors ``(N/W, F)``, one a view.
        embeddings: V tensors ``(N/W, D)``, one a view.
        predictor: closed-form W_P, ``(D, D)``, where there is one.

    Returns:
        The same on every process; on the views' device where that is CUDA, else on the CPU.
    """
    x = _everyone(features[0])
    views = [_everyone(z) for z in (embeddings[:2] if predictor is None else embeddings)]
    samples, dimensions = views[0].shape
    if predictor is None:
        predictor = correlation = x.new_zeros(0, 0)
    else:
        predictor = predictor.to(x)
        correlation = sum(z.T @ z for z in views) / (len(views) * samples)
    return Moments(
        samples=samples,
        dimensions=(dimensions, x.shape[1]),
        embeddings=moment_matrices(views[0]),
        features=moment_matrices(x),
        view_correlation=view_correlation(*views[:2]) if len(views) > 1 else x.new_zeros(0),
        predictor=predictor,
        correlation=correlation,
    )


def _everyone(x: Tensor) -> Tensor:
    rows = distributed.gather(x.detach())
    return (rows if rows.is_cuda else rows.cpu()).double()


@torch.no_grad()
def spectrum_of(moments: Moments) -> dict[str, Tensor] | None:
    """All that a check measures.

    Args:
        moments: on the CPU.

    Returns:
        A float64 value for each field of :class:`~solo_frossl.run_files.Spectra` but ``step`` and ``epoch``, without
        its first dimension; None if the batch was not finite.
    """
    matrices = (*moments.embeddings, *moments.features, moments.view_correlation, moments.predictor)
    if not all(bool(m.isfinite().all()) for m in matrices):
        return None
    spectrum = {}
    for name, (centred, around_zero), size in zip(
        ("embeddings", "features"), (moments.embeddings, moments.features), moments.dimensions, strict=True
    ):
        spectrum[name] = descending_eigenvalues(centred)[: min(moments.samples - 1, size)]
        spectrum[f"{name}_rankme"] = rankme(_significant(descending_eigenvalues(around_zero)).sqrt())
    centred, around_zero = (m.trace() for m in moments.embeddings)
    share = (moments.samples - 1) * centred / around_zero if around_zero > 0 else around_zero
    return spectrum | {
        "predictor": descending_eigenvalues(moments.predictor),
        "alignment": predictor_alignment(moments.correlation, moments.predictor),
        "view_correlation": moments.view_correlation,
        "variance_share": share.clamp(max=1),
    }


def view_correlation(z1: Tensor, z2: Tensor) -> Tensor:
    """Pearson's correlation of two views in each dimension, over the samples.

    Args:
        z1: ``(N, D)``.
        z2: ``(N, D)``, of the same samples.

    Returns:
        ``(D,)`` float64, from -1 to 1; 0 where a view is constant.
    """
    (a, _), (b, _) = centre(z1), centre(z2)
    norms = torch.linalg.vector_norm(a, dim=0) * torch.linalg.vector_norm(b, dim=0)
    return ((a * b).sum(0) / norms.masked_fill(norms == 0, torch.inf)).clamp(-1, 1)


def predictor_alignment(correlation: Tensor, predictor: Tensor) -> Tensor:
    """How far the predictor shares the eigenvectors of the embeddings' correlation: Halvagal et al. 2023, Fig. 4.

        a_i = cos(u_i, W_P u_i),   C = E[z z^T] = sum_i s_i u_i u_i^T

    A closed-form predictor has the eigenvectors of a moving average of C. Here C is of the batch alone, both views
    together, so that this tells how well the average fits the present embeddings.

    Args:
        correlation: C, ``(D, D)`` float64, around zero.
        predictor: W_P, ``(D, D)``.

    Returns:
        ``(D,)``, in the order of descending s_i; 1 is aligned. NaN where the batch has no such direction (s_i is 0
        within rounding, as all beyond the number of samples are) or W_P takes it to 0.
    """
    s, u = torch.linalg.eigh(correlation)
    s, u = s.flip(0), u.flip(1)
    mapped = predictor @ u
    cosine = (u * mapped).sum(0) / torch.linalg.vector_norm(mapped, dim=0)
    return cosine.clamp(-1, 1).masked_fill(_significant(s) == 0, torch.nan)


def _significant(eigenvalues: Tensor) -> Tensor:
    """Eigenvalues ``(m,)``, descending, with those that are rounding errors set to 0."""
    error = len(eigenvalues) * torch.finfo(eigenvalues.dtype).eps
    return torch.where(eigenvalues > error * eigenvalues[:1], eigenvalues, 0.0)

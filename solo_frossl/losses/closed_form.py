"""Linear predictors in closed form, and the losses that use them (Halvagal et al. 2023).

The paper is https://arxiv.org/abs/2212.04858; the predictors are of Tian et al. 2021, https://arxiv.org/abs/2102.06810
(DirectPred) and Wang et al. 2021, https://arxiv.org/abs/2110.04947 (DirectCopy).
"""

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor

from solo_frossl import distributed
from solo_frossl.losses.buffers import Float64Buffers
from solo_frossl.losses.normalise import check_views, mean_cosine, unit_rows


@torch.no_grad()
def predictor_from_correlation(
    correlation: Tensor, *, alpha: float, normalize: bool = True, eps: float = 0.0
) -> Tensor:
    """The linear predictor W_P = U D^alpha U^T of a correlation C = U D U^T (Halvagal et al. 2023, Eq. 1).

    Eigenvalues below 0, which only rounding errors give, count as 0. With `normalize` they are then divided by the
    largest, which the authors' code does by default and the paper does not; `eps` is added, and the power is taken.
    A correlation of zeros has the predictor eps^alpha I, which is 0 by default: with it every gradient of the losses
    below is 0 or finite.

    Args:
        correlation: ``(D, D)``, symmetric; half precision is computed in float32. No gradient passes.
        alpha: power of the eigenvalues, > 0: 0.5 in DirectPred, 1 in DirectCopy.
        normalize: divide the eigenvalues by the largest.
        eps: added to the eigenvalues, 0 or more.

    Returns:
        W_P, ``(D, D)``, symmetric positive semi-definite.

    Raises:
        ValueError: if the correlation is not a square matrix; for `alpha` or `eps` out of range.

    >>> predictor_from_correlation(torch.diag(torch.tensor([16.0, 4.0])), alpha=0.5)
    tensor([[1.0000, 0.0000],
            [0.0000, 0.5000]])
    """
    if correlation.ndim != 2 or correlation.shape[0] != correlation.shape[1]:
        raise ValueError(f"the correlation must be (dimensions, dimensions), got shape {tuple(correlation.shape)}")
    if alpha <= 0:
        raise ValueError(f"alpha must be above 0, got {alpha}")
    if eps < 0:
        raise ValueError(f"eps must be 0 or more, got {eps}")
    with torch.autocast(correlation.device.type, enabled=False):
        correlation = correlation.to(torch.promote_types(correlation.dtype, torch.float32))
        eigenvalues, u = torch.linalg.eigh(correlation)  # also for alpha 1: clamping needs them
        eigenvalues = eigenvalues.clamp(min=0)
        if normalize:
            largest = eigenvalues[-1]
            eigenvalues = eigenvalues / largest.masked_fill(largest == 0, 1)
        return (u * (eigenvalues + eps) ** alpha) @ u.T


def asymmetric_euclidean_loss(
    z1: Tensor, z2: Tensor, predictor: Tensor | None = None, *, stop_gradient: bool = True
) -> Tensor:
    """Half the squared distance of prediction and target (Halvagal et al. 2023, Eq. 3), over the global batch.

        L = mean_i 1/2 || W_P z1_i - sg(z2_i) ||^2

    with sg the stop-gradient. One-sided: the method adds the other direction. NaN gives NaN.

    Args:
        z1: ``(N/W, D)`` embeddings, unnormalised; half precision is computed in float32. This process's part of the
            global batch of N samples, of the same size on each of W processes.
        z2: ``(N/W, D)`` embeddings of the other view.
        predictor: W_P, ``(D, D)``, symmetric, which gets no gradient; None for the ablation without one, W_P = I.
        stop_gradient: false is the ablation in which z2 gets a gradient as well.

    Returns:
        Scalar, the same on every process.

    Raises:
        ValueError: if the views cannot be used (:func:`~solo_frossl.losses.normalise.check_views`), or the predictor
            does not fit them.

    >>> z = torch.tensor([[2.0, 0.0], [0.0, 4.0]])
    >>> asymmetric_euclidean_loss(z, z, 0.5 * torch.eye(2)).item()  # (1/2 1^2 + 1/2 2^2) / 2
    1.25
    """
    z1, z2, predictor = _prepared(z1, z2, predictor)
    with torch.autocast(z1.device.type, enabled=False):
        difference = _predicted(z1, predictor) - (z2.detach() if stop_gradient else z2)
        return distributed.reduce_mean(difference.square().sum(1).mean() / 2)


def asymmetric_cosine_loss(
    z1: Tensor, z2: Tensor, predictor: Tensor | None = None, *, stop_gradient: bool = True
) -> Tensor:
    """Negative cosine of prediction and target (Halvagal et al. 2023, Eq. 4), over the global batch.

        L = -mean_i cos(W_P z1_i, sg(z2_i))

    A row of norm 0 has the cosine 0 and no gradient. The rest, and all arguments, as for
    :func:`asymmetric_euclidean_loss`.

    >>> z = torch.tensor([[2.0, 0.0], [0.0, 4.0]])
    >>> asymmetric_cosine_loss(z, z, torch.diag(torch.tensor([0.5, 0.0]))).item()  # cosines 1 and 0
    -0.5
    """
    z1, z2, predictor = _prepared(z1, z2, predictor)
    with torch.autocast(z1.device.type, enabled=False):
        return -mean_cosine(_predicted(z1, predictor), z2.detach() if stop_gradient else z2)


def iso_euclidean_loss(
    z1: Tensor, z2: Tensor, predictor: Tensor | None = None, *, stop_gradient: bool = True
) -> Tensor:
    """Euclidean IsoLoss (Halvagal et al. 2023, Eq. 15), over the global batch.

        L = mean_i 1/2 || z1_i - sg(z2_i + z1_i - W_P z1_i) ||^2

    It has the value of :func:`asymmetric_euclidean_loss`, and its gradient without the factor W_P, (W_P z1 - z2) / N:
    in the eigenbasis of W_P, Eq. 8 without the eigenvalue that makes each mode learn at a speed of its own. Without the
    stop-gradient it is that loss without its stop-gradient. The rest, and all arguments, as there.

    >>> z = torch.tensor([[2.0, 0.0], [0.0, 4.0]])
    >>> iso_euclidean_loss(z, z, 0.5 * torch.eye(2)).item()
    1.25
    """
    z1, z2, predictor = _prepared(z1, z2, predictor)
    with torch.autocast(z1.device.type, enabled=False):
        target = z2 + z1 - _predicted(z1, predictor)
        return distributed.reduce_mean((z1 - (target.detach() if stop_gradient else target)).square().sum(1).mean() / 2)


def iso_cosine_loss(z1: Tensor, z2: Tensor, predictor: Tensor | None = None, *, stop_gradient: bool = True) -> Tensor:
    """Cosine IsoLoss (Halvagal et al. 2023, Eq. 17), over the global batch.

        L = mean_i  -z1_i . sg(z2_i / (|| W_P z1_i || ||z2_i||))
                    + 1/2 sg(W_P z1_i . z2_i / (|| W_P z1_i ||^3 ||z2_i||)) || W_P^(1/2) z1_i ||^2

    with W_P^(1/2) the root of W_P itself: || W_P^(1/2) z ||^2 = z^T W_P z. Its value is not that of
    :func:`asymmetric_cosine_loss`, but its gradient is, without the factor W_P (Eq. 10 without the leading
    eigenvalue); it goes as 1 / scale of W_P. Without the stop-gradient both factors sg(...) pass a gradient. A row
    whose prediction or target has norm 0 has no gradient and adds 0. The rest, and all arguments, as for
    :func:`asymmetric_euclidean_loss`.

    >>> z = torch.tensor([[2.0, 0.0], [0.0, 4.0]])
    >>> iso_cosine_loss(z, z).item()  # -1 + 1/2
    -0.5
    """
    z1, z2, predictor = _prepared(z1, z2, predictor)
    with torch.autocast(z1.device.type, enabled=False):
        prediction = _predicted(z1, predictor)
        if stop_gradient:
            prediction, z2 = prediction.detach(), z2.detach()
        norm = torch.linalg.vector_norm(prediction, dim=1, keepdim=True)
        target = unit_rows(z2)
        cosine = (unit_rows(prediction) * target).sum(1)
        z = z1 / norm.masked_fill(norm == 0, torch.inf)  # ||W_P z1|| as a unit: no cubes
        return distributed.reduce_mean(
            (cosine * (z * _predicted(z, predictor)).sum(1) / 2 - (z * target).sum(1)).mean()
        )


class CorrelationEMA(Float64Buffers):
    """Moving average of the uncentred correlation E[z z^T] of embeddings over the global batch.

    One update with the embeddings z_v of V views and N samples is

        C <- momentum * C + (1 - momentum) * (1 / V) sum_v z_v^T z_v / N

    C starts at 0, so that it is short by the factor 1 - momentum^updates, which does not matter to a predictor with
    normalised eigenvalues. The buffer stays float64 when the module is cast: in half precision a momentum of 0.998
    would leave it where it is.

    Args:
        dimensions: D, dimensions of the embeddings.
        momentum: share of C that stays, in [0, 1).

    Attributes:
        value: buffer ``(D, D)`` float64, the same on every process.

    Raises:
        ValueError: for arguments out of range.

    >>> correlation = CorrelationEMA(2, momentum=0.5)
    >>> correlation.update([torch.tensor([[2.0, 0.0], [0.0, 4.0]])])
    >>> correlation.value
    tensor([[1., 0.],
            [0., 4.]], dtype=torch.float64)
    """

    value: Tensor

    def __init__(self, dimensions: int, momentum: float = 0.998) -> None:
        super().__init__()
        if dimensions < 1:
            raise ValueError(f"dimensions must be at least 1, got {dimensions}")
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), got {momentum}")
        self.momentum = momentum
        self.register_buffer("value", torch.zeros(dimensions, dimensions, dtype=torch.float64))

    @torch.no_grad()
    def update(self, embeddings: Sequence[Tensor]) -> None:
        """Take in one batch, out of place: a tensor that was ``value`` keeps its values.

        A batch with NaN or infinity is passed over; the loss of the same embeddings tells of it.

        Args:
            embeddings: V >= 1 tensors ``(N/W, D)``, one a view, unnormalised; half precision is computed in float32.

        Raises:
            ValueError: without embeddings, or if they are not ``(samples, D)``.
        """
        dimensions = len(self.value)
        if not embeddings or any(z.ndim != 2 or z.shape[1] != dimensions for z in embeddings):
            raise ValueError(
                f"embeddings must be one or more tensors (samples, {dimensions}), got shapes"
                f" {[tuple(z.shape) for z in embeddings]}"
            )
        with torch.autocast(self.value.device.type, enabled=False):
            shares = [_correlation(z.to(torch.promote_types(z.dtype, torch.float32))) for z in embeddings]
            batch = distributed.reduce_mean(torch.stack(shares).double().mean(0))
        value = self.momentum * self.value + (1 - self.momentum) * batch
        self.value = torch.where(batch.isfinite().all(), value, self.value)


def _correlation(z: Tensor) -> Tensor:
    return z.T @ z / len(z)


def _prepared(z1: Tensor, z2: Tensor, predictor: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """The three checked, in one type, float32 or better as the views say; the predictor without gradient."""
    check_views([z1, z2])
    dtype = reduce(torch.promote_types, (z1.dtype, z2.dtype), torch.float32)
    if predictor is not None:
        dimensions = z1.shape[1]
        if predictor.shape != (dimensions, dimensions):
            raise ValueError(
                f"the predictor must be ({dimensions}, {dimensions}) as the embeddings have {dimensions} dimensions,"
                f" got shape {tuple(predictor.shape)}"
            )
        predictor = predictor.detach().to(dtype)
    return z1.to(dtype), z2.to(dtype), predictor


def _predicted(z: Tensor, predictor: Tensor | None) -> Tensor:
    return z if predictor is None else z @ predictor.T

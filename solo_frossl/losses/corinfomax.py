"""CorInfoMax: correlative information maximisation (Ozsoy et al. 2022, https://arxiv.org/abs/2209.07999)."""

from functools import reduce

import torch
from torch import Tensor

from solo_frossl import distributed
from solo_frossl.losses.buffers import Float64Buffers
from solo_frossl.losses.normalise import check_views, unit_rows


class CorInfoMaxLoss(Float64Buffers):
    """CorInfoMax objective (Ozsoy et al. 2022), over the global batch, with a running covariance of each view.

    With la the forgetting factor, m and C the mean and covariance of view v that the module remembers,

        m_v <- la m_v + (1 - la) mean_i z_i
        C_v <- la C_v + (1 - la) mean_i (z_i - m_v) (z_i - m_v)^T                                (with the new m_v)
        L   = -(log det(C_1 + eps I) + log det(C_2 + eps I)) / D + invariance_weight * mean (z_1 - z_2)^2

    The mean in the invariance term is over N * D values; without the memory and 1 / D it is Eq. 7 of Skean et al. 2023,
    negated. The gradient flows through the batch's share of m and C, not through what is remembered, which is 0 and I
    at first.

    The memory changes once a call in training mode, and never in evaluation mode, where the loss is still that of the
    memory with this batch. It is the same on every process. The determinant, and all that leads to it, is computed in
    float64, and the buffers stay float64 when the module is cast. On a GPU one value is waited for in each call, to be
    able to refuse a bad covariance.

    Embeddings that are NaN or infinite give such a loss, and leave the memory as it was.

    Args:
        dimensions: D, dimensions of the embeddings.
        invariance_weight: weight of the mean squared distance; the paper's alpha. The authors use 250 on CIFAR-10,
            1000 on CIFAR-100 and 500 on ImageNet-100.
        forgetting_factor: weight la of the past, in [0, 1).
        eps: added to the diagonal of the covariances, 0 or more.
        normalize: bring embeddings to unit norm first, an option of the authors' code that the comparison in FroSSL's
            tables does not use.

    Attributes:
        mean: buffer ``(2, D)`` float64, m of each view.
        covariance: buffer ``(2, D, D)`` float64, C of each view.

    Raises:
        ValueError: for arguments out of range.

    >>> z = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])  # mean 0 and covariance I
    >>> loss = CorInfoMaxLoss(2, invariance_weight=3.0, eps=0.0)
    >>> round(loss(z, z + 0.0).item(), 6), round(loss(z, -z).item(), 6)  # log det 0, distance 0 and 4
    (0.0, 12.0)
    """

    mean: Tensor
    covariance: Tensor

    def __init__(
        self,
        dimensions: int,
        *,
        invariance_weight: float = 250.0,
        forgetting_factor: float = 0.01,
        eps: float = 1e-6,
        normalize: bool = False,
    ) -> None:
        super().__init__()
        if dimensions < 1:
            raise ValueError(f"dimensions must be at least 1, got {dimensions}")
        if not 0 <= forgetting_factor < 1:
            raise ValueError(f"forgetting_factor must be in [0, 1), got {forgetting_factor}")
        if eps < 0:
            raise ValueError(f"eps must be 0 or more, got {eps}")
        self.invariance_weight = invariance_weight
        self.forgetting_factor = forgetting_factor
        self.eps = eps
        self.normalize = normalize
        self.register_buffer("mean", torch.zeros(2, dimensions, dtype=torch.float64))
        self.register_buffer("covariance", torch.eye(dimensions, dtype=torch.float64).repeat(2, 1, 1))

    def forward(self, z1: Tensor, z2: Tensor) -> Tensor:
        """The objective; in training mode the memory takes in this batch.

        Args:
            z1: ``(N/W, D)`` embeddings of the first view, unnormalised; half precision is computed in float32 or
                better. This process's part of the global batch of N samples, of the same size on each of W processes.
            z2: ``(N/W, D)`` embeddings of the second view.

        Returns:
            Scalar, the same on every process.

        Raises:
            ValueError: if the views cannot be used (:func:`~solo_frossl.losses.normalise.check_views`), or have not
                `dimensions` dimensions; if a covariance is not positive definite, which leaves the memory as it was.
        """
        log_determinant, invariance = self.terms(z1, z2)
        return log_determinant + self.invariance_weight * invariance

    def terms(self, z1: Tensor, z2: Tensor) -> tuple[Tensor, Tensor]:
        """The two terms of :meth:`forward`, unweighted, in its place: the memory takes in this batch as well.

        Returns:
            ``log_determinant``, -(log det(C_1 + eps I) + log det(C_2 + eps I)) / D, and ``invariance``,
            mean (z_1 - z_2)^2; scalars.
        """
        check_views([z1, z2])
        if z1.shape[1] != self.mean.shape[1]:
            raise ValueError(
                f"embeddings have {z1.shape[1]} dimensions, the running covariance has {self.mean.shape[1]}"
            )
        dtype = reduce(torch.promote_types, (z1.dtype, z2.dtype), torch.float32)
        with torch.autocast(z1.device.type, enabled=False):
            z = torch.stack([z1.double(), z2.double()])
            if self.normalize:
                z = unit_rows(z)
            past = self.forgetting_factor
            mean = past * self.mean + (1 - past) * distributed.reduce_mean(z.mean(1))
            c = z - mean.unsqueeze(1)
            share = distributed.reduce_mean(c.mT @ c / z.shape[1])
            covariance = past * self.covariance + (1 - past) * share
            finite = covariance.detach().isfinite().all()
            log_determinant = self._log_determinant(covariance, finite)
            invariance = distributed.reduce_mean((z[0] - z[1]).square().mean())
        if self.training:  # nothing is kept of a batch that is not finite, without asking the device
            self.mean = torch.where(finite, mean.detach(), self.mean)
            self.covariance = torch.where(finite, covariance.detach(), self.covariance)
        return log_determinant.to(dtype), invariance.to(dtype)

    def _log_determinant(self, covariance: Tensor, finite: Tensor) -> Tensor:
        dimensions = covariance.shape[1]
        identity = torch.eye(dimensions, dtype=covariance.dtype, device=covariance.device)
        factor, failed = torch.linalg.cholesky_ex(covariance + self.eps * identity)
        if bool(failed.any() & finite):  # what is NaN goes on as NaN
            raise ValueError(
                f"the running covariance of view {int(failed.argmax())} is not positive definite with eps"
                f" {self.eps:g}: raise eps, or look for collapse or embeddings that grow without bound"
            )
        return -2 * factor.diagonal(dim1=1, dim2=2).log().sum() / dimensions

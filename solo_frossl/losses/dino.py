"""DINO: self-distillation with no labels (Caron et al. 2021, https://arxiv.org/abs/2104.14294)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from solo_frossl import distributed
from solo_frossl.losses.normalise import check_views
from solo_frossl.losses.swav import check_targets, cross_entropy_between_views


def dino_loss(
    student: Sequence[Tensor],
    teacher: Sequence[Tensor],
    centre: Tensor,
    *,
    student_temperature: float,
    teacher_temperature: float,
) -> Tensor:
    """Cross entropy of a centred, sharpened teacher and a student (Caron et al. 2021, Eqs. 1 to 3), global batch.

    With T teacher outputs t_a, of the first T of V views, and c the centre:

        q_a = softmax((t_a - c) / teacher_temperature),    p_v = softmax(s_v / student_temperature)
        L   = mean over all pairs a <= T, v != a of  -mean_i sum_k q_a,ik log p_v,ik

    The paper's Eq. 3 is a sum over pairs instead of a mean: T (V - 1) times as much. Teacher and centre are constants;
    equal student outputs give log K. NaN gives NaN.

    Args:
        student: V >= 2 tensors ``(N/W, K)``, one a view; half precision is computed in float32. This process's part of
            the global batch of N samples, of the same size on each of W processes.
        teacher: 1 to V tensors ``(N/W, K)``, for the first views.
        centre: ``(K,)``, mean output of the teacher (:class:`Centre`).
        student_temperature: > 0.
        teacher_temperature: > 0; below the student's, it sharpens.

    Returns:
        Scalar, the same on every process.

    Raises:
        ValueError: if the student's outputs cannot be used (:func:`~solo_frossl.losses.normalise.check_views`), if the
            teacher's or the centre do not fit them, or if a temperature is not positive.

    >>> s, t = torch.zeros(2, 3), torch.eye(3)[:2]
    >>> loss = dino_loss([s, s], [t, t], torch.zeros(3), student_temperature=0.1, teacher_temperature=0.04)
    >>> round(loss.item(), 4)  # log 3
    1.0986
    """
    check_views(student)
    check_targets("teacher outputs", teacher, student)
    if centre.shape != student[0].shape[1:]:
        raise ValueError(f"centre must be ({student[0].shape[1]},), got shape {tuple(centre.shape)}")
    if not student_temperature > 0:
        raise ValueError(f"student_temperature must be > 0, got {student_temperature}")
    if not teacher_temperature > 0:
        raise ValueError(f"teacher_temperature must be > 0, got {teacher_temperature}")
    with torch.no_grad(), torch.autocast(student[0].device.type, enabled=False):
        targets = [
            ((t.to(torch.promote_types(t.dtype, torch.float32)) - centre) / teacher_temperature).softmax(1)
            for t in teacher
        ]
    return cross_entropy_between_views(student, targets, student_temperature)


class Centre(nn.Module):
    """Running mean of the teacher's outputs (Caron et al. 2021, Eq. 4): c <- momentum * c + (1 - momentum) * mean.

    The mean is over all teacher views and the global batch. Only :meth:`update` changes the centre.

    Args:
        dimensions: K, of an output, >= 1.
        momentum: share that stays, in [0, 1].

    Attributes:
        value: buffer ``(K,)``, zeros at first.

    Raises:
        ValueError: if an argument is out of range.

    >>> centre = Centre(2, momentum=0.5)
    >>> centre.update([torch.tensor([[4.0, 0.0], [0.0, 0.0]])])
    >>> centre.value
    tensor([1., 0.])
    """

    value: Tensor

    def __init__(self, dimensions: int, momentum: float = 0.9) -> None:
        super().__init__()
        if dimensions < 1:
            raise ValueError(f"dimensions must be at least 1, got {dimensions}")
        if not 0 <= momentum <= 1:
            raise ValueError(f"momentum must be in [0, 1], got {momentum}")
        self.momentum = momentum
        self.register_buffer("value", torch.zeros(dimensions))

    @torch.no_grad()
    def update(self, teacher: Sequence[Tensor]) -> None:
        """Move towards the mean of these outputs. The buffer is replaced, not written into.

        Args:
            teacher: one or more tensors ``(N/W, K)`` of one shape, also on every process.

        Raises:
            ValueError: if there is none, or one that is not ``(samples, K)``.
        """
        if not teacher:
            raise ValueError("outputs of at least one teacher view are needed")
        for t in teacher:
            if t.ndim != 2 or t.shape[1] != len(self.value):
                raise ValueError(f"teacher outputs must be (samples, {len(self.value)}), got shape {tuple(t.shape)}")
        dtype = torch.promote_types(self.value.dtype, torch.float32)
        mean = distributed.reduce_mean(torch.stack([t.mean(0, dtype=dtype) for t in teacher]).mean(0))
        self.value = (self.momentum * self.value + (1 - self.momentum) * mean).to(self.value.dtype)

"""DINO: self-distillation with no labels (Caron et al. 2021, https://arxiv.org/abs/2104.14294)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from solo_frossl.losses import Centre, dino_loss
from solo_frossl.methods.base import Objective
from solo_frossl.methods.heads import Prototypes, check_global_views
from solo_frossl.methods.momentum import MomentumMethod, target_of
from solo_frossl.methods.ranges import above_zero, at_least, up_to_one


class DINO(MomentumMethod):
    """DINO (Caron et al. 2021, Eqs. 1 to 4), for two views or more, also multi-crop.

    With s_v the prototypes' scores of view v, t_v those of the target network (the teacher), c their running mean:

        L = mean over t < global_views and v != t of
            -softmax((t_t - c) / teacher_temperature) . log softmax(s_v / student_temperature)

    The scores are cosines with unit vectors, the weight-normalised last layer of the paper with its gain fixed at one.

    Args:
        num_prototypes: number of prototypes, >= 2; K in Caron et al. 2021, Eq. 1.
        global_views: the first so many views are the teacher's, all are the student's; from 1 to the number of views
            (Caron et al. 2021, Eq. 3).
        student_temperature: temperature of the student's softmax, > 0; tau_s in Caron et al. 2021, Eq. 1.
        teacher_temperature: temperature of the teacher's softmax after its warm-up, > 0; tau_t in Caron et al. 2021,
            Sec. 3.1.
        warmup_teacher_temperature: temperature of the teacher's softmax in the first step, > 0 (Caron et al. 2021,
            Sec. 3.2).
        warmup_teacher_temperature_epochs: epochs over which the teacher's temperature rises in a straight line, >= 0
            (Caron et al. 2021, Sec. 3.2); 50 in da Costa et al. 2022.
        centre_momentum: share of the centre that stays in a step, in [0, 1]; m in Caron et al. 2021, Eq. 4.
        freeze_prototypes_epochs: first epochs in which the last layer stands still, >= 0 (code of Caron et al. 2021).
    """

    def __init__(
        self,
        *,
        num_prototypes: int = 4096,
        global_views: int = 2,
        student_temperature: float = 0.1,
        teacher_temperature: float = 0.07,
        warmup_teacher_temperature: float = 0.04,
        warmup_teacher_temperature_epochs: float = 50.0,
        centre_momentum: float = 0.9,
        freeze_prototypes_epochs: int = 1,
        **kwargs,
    ) -> None:
        at_least(2, num_prototypes=num_prototypes)
        at_least(1, global_views=global_views)
        above_zero(
            student_temperature=student_temperature,
            teacher_temperature=teacher_temperature,
            warmup_teacher_temperature=warmup_teacher_temperature,
        )
        at_least(
            0,
            warmup_teacher_temperature_epochs=warmup_teacher_temperature_epochs,
            freeze_prototypes_epochs=freeze_prototypes_epochs,
        )
        up_to_one(centre_momentum=centre_momentum)
        super().__init__(**kwargs)
        self.global_views = global_views
        self.student_temperature = student_temperature
        self.teacher_temperature = teacher_temperature
        self.warmup_teacher_temperature = warmup_teacher_temperature
        self.warmup_teacher_temperature_epochs = warmup_teacher_temperature_epochs
        self.freeze_prototypes_epochs = freeze_prototypes_epochs
        self.prototypes = Prototypes(self.embedding_dimensions, num_prototypes)
        self.target_prototypes = target_of(self.prototypes) if self.momentum_config else self.prototypes
        self.centre = Centre(num_prototypes, centre_momentum)

    def objective(self, views: list[Tensor]) -> Objective:
        """Cross entropy between the teacher's and the student's assignments of different views."""
        features, embeddings = self.embed(views)
        with torch.no_grad():
            targets = self.targets(views[: self.global_views], embeddings)
            teacher = [self.target_prototypes(z) for z in targets]
        loss = dino_loss(
            [self.prototypes(z) for z in embeddings],
            teacher,
            self.centre.value,
            student_temperature=self.student_temperature,
            teacher_temperature=self.progress.linear(
                self.warmup_teacher_temperature, self.teacher_temperature, self.warmup_teacher_temperature_epochs
            ),
        )
        self.centre.update(teacher)
        return Objective(loss, {}, features[: self.global_views], embeddings[: self.global_views])

    def check_views(self, number: int) -> None:
        """As for every method; also refuse more global views than there are."""
        super().check_views(number)
        check_global_views(self.global_views, number)

    def followed(self) -> list[tuple[nn.Module, nn.Module]]:
        """Backbone, projector and prototypes."""
        return [*super().followed(), (self.target_prototypes, self.prototypes)]

    def learnable_modules(self) -> dict[str, nn.Module]:
        """Backbone, projector and prototypes."""
        return super().learnable_modules() | {"prototypes": self.prototypes}

    def frozen_parameters(self) -> Sequence[nn.Parameter]:
        """The prototypes in the first epochs."""
        return list(self.prototypes.parameters()) if self.progress.epoch < self.freeze_prototypes_epochs else ()

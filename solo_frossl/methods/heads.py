"""What stands on a backbone: projector, predictor, prototypes, and the online classifier that watches it learn."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from solo_frossl import distributed
from solo_frossl.losses.normalise import unit_rows


@dataclass(frozen=True)
class ProjectorConfig:
    """Sizes of the projector, the network from features to embeddings.

    Args:
        hidden: width of its hidden layers.
        output: dimensions D of the embeddings.
        layers: number of linear layers, at least 1.
        batch_norm: whether BatchNorm stands before each activation.
        output_batch_norm: whether BatchNorm without scale and shift stands last.
        activation: ``relu`` or ``gelu``, between the linear layers.
    """

    hidden: int = 2048
    output: int = 1024
    layers: int = 3
    batch_norm: bool = True
    output_batch_norm: bool = False
    activation: Literal["relu", "gelu"] = "relu"

    def __post_init__(self) -> None:
        for name in ("hidden", "output", "layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"projector.{name} is {getattr(self, name)}: it must be at least 1")


def build_projector(num_features: int, config: ProjectorConfig) -> nn.Sequential:
    """Linear layers with BatchNorm and an activation between them, none after the last: ``(B, F)`` to ``(B, D)``.

    >>> [type(layer).__name__ for layer in build_projector(512, ProjectorConfig(layers=2))]
    ['Linear', 'BatchNorm1d', 'ReLU', 'Linear']
    """
    widths = [num_features, *[config.hidden] * (config.layers - 1), config.output]
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(widths[:-1]):
        layers.append(nn.Linear(fan_in, fan_out))
        if config.batch_norm:
            layers.append(nn.BatchNorm1d(fan_out))
        layers.append(nn.ReLU(inplace=True) if config.activation == "relu" else nn.GELU())
    layers.append(nn.Linear(widths[-2], widths[-1], bias=not config.output_batch_norm))
    if config.output_batch_norm:
        layers.append(nn.BatchNorm1d(widths[-1], affine=False))
    return nn.Sequential(*layers)


@dataclass(frozen=True)
class PredictorConfig:
    """Sizes of the predictor, the network from the embeddings of one view to those of another.

    Args:
        hidden: width of its hidden layer.
        batch_norm: whether BatchNorm stands before its ReLU.
    """

    hidden: int = 4096
    batch_norm: bool = True

    def __post_init__(self) -> None:
        if self.hidden < 1:
            raise ValueError(f"predictor.hidden is {self.hidden}: it must be at least 1")


def build_predictor(dimensions: int, config: PredictorConfig) -> nn.Sequential:
    """Two linear layers, ``(B, D)`` to ``(B, D)``."""
    return build_projector(dimensions, ProjectorConfig(config.hidden, dimensions, 2, config.batch_norm))


def scores_of(rows: Tensor, prototypes: Tensor) -> Tensor:
    """Scores ``(B, K)`` of rows ``(B, D)`` against prototypes ``(K, D)``: float32 or better under autocast too.

    A softmax that divides them by 0.04 to 0.1 makes 10 to 25 times as much of their rounding errors.
    """
    with torch.autocast(rows.device.type, enabled=False):
        return F.linear(rows.to(torch.promote_types(rows.dtype, prototypes.dtype)), prototypes)


def check_global_views(global_views: int, views: int) -> None:
    """Refuse more global views than there are views.

    Raises:
        ValueError: naming key, value and range.
    """
    if not 1 <= global_views <= views:
        raise ValueError(
            f"model.global_views is {global_views}: it must be from 1 to {views}, the views that data.views makes"
        )


class LinearScores(nn.Linear):
    """:func:`scores_of` rows against this layer's weights; without bias."""

    def forward(self, rows: Tensor) -> Tensor:
        """Scores ``(B, K)`` of rows ``(B, D)``."""
        return scores_of(rows, self.weight)


class Prototypes(nn.Module):
    """Scores of embeddings against learnable unit vectors: ``(B, D)`` to cosines ``(B, K)``.

    Args:
        dimensions: D.
        number: K, at least 2.
    """

    def __init__(self, dimensions: int, number: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.Linear(dimensions, number, bias=False).weight.detach())

    def forward(self, embeddings: Tensor) -> Tensor:
        """Cosines in [-1, 1]; gradient through the normalisation of both."""
        return scores_of(unit_rows(embeddings), unit_rows(self.weight))


class OnlineClassifier(nn.Linear):
    """A linear classifier trained beside the backbone, on features that are detached from it.

    Its loss and accuracy leave out samples of label -1 (unlabelled).
    """

    def loss(self, logits: list[Tensor], label: Tensor) -> Tensor:
        """Cross entropy, averaged over the labelled samples of all processes and over the views.

        Args:
            logits: V tensors ``(B, classes)``.
            label: ``(B,)`` int64; -1 means unlabelled.

        Returns:
            A scalar; 0 when no sample of the global batch is labelled. Its mean over processes is the global mean.
        """
        labelled = distributed.reduce_sum((label >= 0).sum().float())
        total = torch.stack([F.cross_entropy(x, label, ignore_index=-1, reduction="sum") for x in logits]).mean()
        return total * distributed.world_size() / labelled.clamp(min=1)

    @staticmethod
    @torch.no_grad()
    def hits(logits: list[Tensor], label: Tensor) -> tuple[Tensor, Tensor]:
        """Correct top-1 answers and labelled samples, both counted over all views; scalars, no host synchronisation."""
        correct = torch.stack([(x.argmax(1) == label).sum() for x in logits]).sum()
        return correct, (label >= 0).sum() * len(logits)

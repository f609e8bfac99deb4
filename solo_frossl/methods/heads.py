"""What stands on a backbone: the projector, and the online classifier that watches it learn."""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from solo_frossl import distributed


@dataclass(frozen=True)
class ProjectorConfig:
    """Sizes of the projector, the network from features to embeddings.

    Args:
        hidden: width of its hidden layers.
        output: dimensions D of the embeddings.
        layers: number of linear layers, at least 1.
        batch_norm: whether BatchNorm stands before each ReLU.
    """

    hidden: int = 2048
    output: int = 1024
    layers: int = 3
    batch_norm: bool = True

    def __post_init__(self) -> None:
        for name in ("hidden", "output", "layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"projector.{name} is {getattr(self, name)}: it must be at least 1")


def build_projector(num_features: int, config: ProjectorConfig) -> nn.Sequential:
    """Linear layers with BatchNorm and ReLU between them, none after the last: ``(B, F)`` to ``(B, D)``.

    >>> [type(layer).__name__ for layer in build_projector(512, ProjectorConfig(layers=2))]
    ['Linear', 'BatchNorm1d', 'ReLU', 'Linear']
    """
    widths = [num_features, *[config.hidden] * (config.layers - 1), config.output]
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(widths[:-1]):
        layers.append(nn.Linear(fan_in, fan_out))
        if config.batch_norm:
            layers.append(nn.BatchNorm1d(fan_out))
        layers.append(nn.ReLU(inplace=True))
    layers.append(nn.Linear(widths[-2], widths[-1]))
    return nn.Sequential(*layers)


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

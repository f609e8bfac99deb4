"""Features of a whole dataset, computed once by a frozen backbone: what k-NN, linear probe and baselines work on."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from lightning.fabric.utilities.apply_func import move_data_to_device
from torch import Tensor, nn

from solo_frossl.batch import Batch
from solo_frossl.distributed import gather_ragged
from solo_frossl.methods.base import evaluating


class Features(NamedTuple):
    """Features of N images.

    Attributes:
        features: ``(N, F)`` float32.
        label: ``(N,)`` int64; -1 means unlabelled.
        index: ``(N,)`` int64, position of each image in its dataset.
    """

    features: Tensor
    label: Tensor
    index: Tensor

    def labelled(self) -> "Features":
        """The rows that have a label."""
        keep = self.label >= 0
        return Features(*(part[keep] for part in self))

    def gathered(self) -> "Features":
        """The rows of all processes, ordered by index: the same on every process and for any number of processes."""
        whole = [gather_ragged(part) for part in self]
        order = whole[2].argsort(stable=True)
        return Features(*(part[order] for part in whole))


def extract_features(
    backbone: nn.Module,
    loader: Iterable[Batch],
    prepare: Callable[[Batch], Batch],
    device: torch.device | str,
    precision: Callable[[], AbstractContextManager] = nullcontext,
) -> Features:
    """Features of every image that the loader yields to this process, in the loader's order.

    The backbone runs in eval mode and without gradients, and gets its training mode back afterwards. With
    ``torch.nn.Flatten()`` as the backbone the features are the raw pixels.

    Args:
        backbone: maps normalised images ``(B, C, H, W)`` to features ``(B, F)``.
        loader: yields this process's part of the dataset as :class:`Batch` of uint8 images.
        prepare: turns such a batch, on the device already, into one with float32 normalised images: the data module's
            ``on_after_batch_transfer`` outside training.
        device: where the backbone is; the features stay there.
        precision: makes the context of each forward pass, such as ``partial(torch.autocast, "cuda", torch.bfloat16)``.

    Raises:
        ValueError: the loader is empty, or the backbone's output is not ``(B, F)``.

    >>> images = torch.arange(8, dtype=torch.uint8).reshape(2, 1, 2, 2)
    >>> batch = Batch(images, label=torch.tensor([1, -1]), index=torch.tensor([4, 2]), epoch=0, step=0)
    >>> raw = extract_features(nn.Flatten(), [batch], lambda b: b._replace(image=b.image / 1), "cpu")
    >>> raw.features[0].tolist(), raw.labelled().index.tolist()
    ([0.0, 1.0, 2.0, 3.0], [4])
    """
    features, labels, indices = [], [], []
    with evaluating(backbone):
        for raw in loader:
            batch = prepare(move_data_to_device(raw, device))
            with precision():
                output = backbone(batch.image)
            if output.ndim != 2 or len(output) != len(batch.label):
                raise ValueError(
                    f"the backbone {type(backbone).__name__} gave {tuple(output.shape)} for {len(batch.label)} images"
                    f" of {tuple(batch.image.shape[1:])}: features must be (B, F), pooled and flat"
                )
            features.append(output.float())
            labels.append(batch.label)
            indices.append(batch.index)
    if not features:
        raise ValueError(
            "no features: the loader yielded no batch. Is the dataset empty, or smaller than the processes?"
        )
    return Features(torch.cat(features), torch.cat(labels), torch.cat(indices))

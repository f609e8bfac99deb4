"""Weighted k-nearest-neighbour classification of features, with bounded memory."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

_CHUNK = (1024, 16384)


@dataclass(frozen=True)
class KNNConfig:
    """k-NN classification of the validation images' features, beside training.

    Args:
        every_n_epochs: after how many epochs each time, and after the last one; 0 for never.
        k: neighbours that vote.
        temperature: a neighbour at cosine similarity s votes with weight exp(s / temperature).
    """

    every_n_epochs: int = 1
    k: int = 20
    temperature: float = 0.07

    def __post_init__(self) -> None:
        if self.every_n_epochs < 0:
            raise ValueError(f"knn.every_n_epochs is {self.every_n_epochs}: it must be 0 (never) or more")
        if self.k < 1:
            raise ValueError(f"knn.k is {self.k}: at least one neighbour must vote")
        if not self.temperature > 0:
            raise ValueError(f"knn.temperature is {self.temperature}: it must be above 0")


@torch.no_grad()
def knn_classify(
    features: Tensor,
    bank: Tensor,
    bank_labels: Tensor,
    *,
    k: int = 20,
    temperature: float = 0.07,
    num_classes: int,
    chunk: tuple[int, int] = _CHUNK,
) -> Tensor:
    """Votes of the k nearest bank rows for each class (Wu et al. 2018, https://arxiv.org/abs/1805.01978, Sec. 3.4).

    With s_i the cosine similarity of a query to its i-th nearest bank row, of label y_i,

        score_c = sum_{i <= k, y_i = c} exp((s_i - s_1) / temperature)

    The paper has exp(s_i / temperature); dividing by the nearest row's vote ranks classes alike and cannot overflow.
    Among equally similar rows the earlier ones are taken, so the answer does not depend on chance or on ``chunk``.

    Args:
        features: queries ``(Q, F)``, any scale.
        bank: rows that vote ``(M, F)``, any scale.
        bank_labels: ``(M,)`` in ``[0, num_classes)``; rows with -1 do not vote.
        k: neighbours that vote; all of them where the bank has fewer.
        temperature: above 0.
        num_classes: number of classes C.
        chunk: queries and bank rows compared at a time; bounds the memory at one ``chunk[0] x chunk[1]`` matrix of
            similarities and its like.

    Returns:
        ``(Q, C)`` float32, rows of non-negative votes.

    Raises:
        ValueError: shapes do not fit, no bank row is labelled, a label is out of range, or a feature is not finite.

    >>> bank = torch.tensor([[1.0, 0.0], [0.0, 2.0], [-1.0, 0.0]])
    >>> knn_classify(torch.tensor([[3.0, 0.1]]), bank, torch.tensor([1, 0, 0]), k=2, num_classes=2).argmax(1)
    tensor([1])
    """
    return knn_sweep(
        features, bank, bank_labels, ks=[k], temperature=temperature, num_classes=num_classes, chunk=chunk
    )[k]


@torch.no_grad()
def knn_sweep(
    features: Tensor,
    bank: Tensor,
    bank_labels: Tensor,
    *,
    ks: Sequence[int],
    temperature: float = 0.07,
    num_classes: int,
    chunk: tuple[int, int] = _CHUNK,
) -> dict[int, Tensor]:
    """Votes for several numbers of neighbours, by one search for the most of them.

    Args:
        features: as for :func:`knn_classify`, as are all that follow but ``ks``.
        bank: rows that vote.
        bank_labels: their labels.
        ks: neighbours that vote, each 1 or more.
        temperature: above 0.
        num_classes: number of classes C.
        chunk: queries and bank rows compared at a time.

    Returns:
        By k, in the order of ``ks``, exactly what :func:`knn_classify` gives for it: ``(Q, C)`` float32.

    Raises:
        ValueError: as :func:`knn_classify`, or ``ks`` is empty.

    >>> bank = torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 1.5]])
    >>> votes = knn_sweep(torch.tensor([[3.0, 0.1]]), bank, torch.tensor([1, 0, 0]), ks=[1, 3], num_classes=2)
    >>> [int(v.argmax()) for v in votes.values()]
    [1, 1]
    """
    bank, bank_labels = _checked_bank(features, bank, bank_labels, num_classes)
    if not ks or min(ks) < 1 or not temperature > 0 or min(chunk) < 1:
        raise ValueError(f"k, temperature and chunk must be positive, got {list(ks)}, {temperature}, {chunk}")
    most = max(ks)
    queries = F.normalize(features.float(), dim=1).split(chunk[0])
    nearest: list[tuple[Tensor, Tensor]] = [(q.new_empty(len(q), 0), bank_labels.new_empty(len(q), 0)) for q in queries]
    for rows, labels in zip(bank.split(chunk[1]), bank_labels.split(chunk[1]), strict=True):
        rows = F.normalize(rows.float(), dim=1)
        for i, query in enumerate(queries):
            similarity, column = _largest(query @ rows.T, most)
            candidates = torch.cat([nearest[i][0], similarity], 1)
            candidate_labels = torch.cat([nearest[i][1], labels[column]], 1)
            similarity, column = _largest(candidates, most)
            nearest[i] = similarity, candidate_labels.gather(1, column)
    return {
        k: torch.cat([_votes(s[:, :k], labels[:, :k], temperature, num_classes) for s, labels in nearest]) for k in ks
    }


def knn_accuracy(scores: Tensor, labels: Tensor, *, top_k: int = 1) -> Tensor:
    """Percent of the labelled queries whose class is among the ``top_k`` with the most votes; a 0-dimensional tensor.

    Classes with equally many votes share the places that they take together: of two that tie for the first place each
    is half a hit. So the answer is what drawing lots would give on average.

    Args:
        scores: votes ``(Q, C)`` of :func:`knn_classify`.
        labels: ``(Q,)``; queries with -1 are not counted. Without a labelled query the answer is NaN.
        top_k: places that count as a hit.

    >>> knn_accuracy(torch.tensor([[2.0, 1.0, 0.0], [2.0, 1.0, 1.0]]), torch.tensor([1, 2]), top_k=2)
    tensor(75.)
    """
    hits, counted = knn_hits(scores, labels, top_k=top_k)
    return 100 * hits / counted


def knn_hits(scores: Tensor, labels: Tensor, *, top_k: int = 1) -> Tensor:
    """Hits and labelled queries ``(2,)``, to be summed over processes; arguments as for :func:`knn_accuracy`."""
    labelled = labels >= 0
    own = scores.gather(1, labels.clamp(min=0)[:, None])
    before, equal = (scores > own).sum(1), (scores == own).sum(1)  # the own class is one of the equal
    hit = ((top_k - before) / equal).clamp(0, 1)
    return torch.stack([(hit * labelled).sum(), labelled.sum()])


def _checked_bank(features: Tensor, bank: Tensor, labels: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    if features.ndim != 2 or bank.ndim != 2 or features.shape[1] != bank.shape[1] or labels.shape != bank.shape[:1]:
        raise ValueError(
            "k-NN needs features (Q, F), a bank (M, F) and its labels (M,), got"
            f" {tuple(features.shape)}, {tuple(bank.shape)} and {tuple(labels.shape)}"
        )
    labelled = labels >= 0
    if not labelled.all():
        bank, labels = bank[labelled], labels[labelled]
    if not len(bank):
        raise ValueError("k-NN needs at least one labelled row in its bank, and there is none")
    if labels.max() >= num_classes:
        raise ValueError(f"the bank has label {int(labels.max())}, and there are only {num_classes} classes")
    for name, x in (("queries", features), ("bank", bank)):
        if not x.isfinite().all():
            raise ValueError(f"the features of the k-NN {name} are not finite: the backbone has diverged")
    return bank, labels


def _largest(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest values of each row and their columns, in order; among equal values the earlier column first."""
    values, columns = x.topk(min(k + 1, x.shape[1]))
    tied = (values[:, 1:] == values[:, :-1]).any(1).nonzero().squeeze(1)
    if len(tied):  # topk puts equal values in any order; a stable sort does not, but is far slower
        ordered = x[tied].sort(dim=1, descending=True, stable=True)
        values[tied] = ordered.values[:, : values.shape[1]]
        columns[tied] = ordered.indices[:, : values.shape[1]]
    return values[:, :k], columns[:, :k]


def _votes(similarity: Tensor, labels: Tensor, temperature: float, num_classes: int) -> Tensor:
    weight = ((similarity - similarity[:, :1]) / temperature).exp()
    scores = weight.new_zeros(len(weight), num_classes)
    for w, y in zip(weight.split(1, dim=1), labels.split(1, dim=1), strict=True):
        scores.scatter_add_(1, y, w)  # one neighbour at a time: no two meet, so the sum's order is fixed
    return scores

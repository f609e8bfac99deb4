"""Trained features beside their baselines: the untrained backbone and raw pixels, all measured in the same way."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from solo_frossl.probe.features import Features
from solo_frossl.probe.knn import KNNConfig, knn_accuracy, knn_classify
from solo_frossl.probe.linear import LinearConfig, linear_probe
from solo_frossl.spectrum import covariance_eigenvalues, effective_rank

BASELINE_RATES = (1.0, 0.1, 0.01)
"""Factors on the linear probe's learning rate that a baseline is given."""


class FeatureQuality(NamedTuple):
    """One row of the closing summary.

    Attributes:
        name: what the features are, such as ``trained`` or ``raw pixels``.
        linear_top1: top-1 of a linear probe, percent.
        knn_top1: top-1 of k-NN, percent.
        dimension: dimension F of the features.
        effective_rank: effective rank of the validation features, from 1 to F.
    """

    name: str
    linear_top1: float
    knn_top1: float
    dimension: int
    effective_rank: float


def knn_top1(train: Features, validation: Features, num_classes: int, knn: KNNConfig = KNNConfig()) -> float:
    """Top-1 of k-NN, percent: validation images classified by their nearest labelled training images.

    Args:
        train: clean training features.
        validation: validation features.
        num_classes: number of classes C.
        knn: how neighbours vote.
    """
    scores = knn_classify(
        validation.features,
        train.features,
        train.label,
        k=knn.k,
        temperature=knn.temperature,
        num_classes=num_classes,
    )
    return float(knn_accuracy(scores, validation.label))


def linear_and_knn(
    name: str,
    train: Features,
    validation: Features,
    class_names: Sequence[str],
    *,
    linear: LinearConfig = LinearConfig(),
    knn: KNNConfig = KNNConfig(),
    rates: tuple[float, ...] = (1.0,),
    seed: int = 0,
    linear_top1: float | None = None,
) -> FeatureQuality:
    """Measure features by linear probe, k-NN and effective rank.

    The probe's learning rate suits features of the scale that training gives them; raw pixels have far larger norms and
    would look weaker than they are. So a baseline is given several rates, and the best on the validation images counts.

    Args:
        name: what the features are.
        train: clean training features.
        validation: validation features.
        class_names: the classes.
        linear: how the linear probe is trained.
        knn: how neighbours vote.
        rates: factors on ``linear.learning_rate`` to try, ``BASELINE_RATES`` for a baseline.
        seed: the run's seed.
        linear_top1: percent, where the linear probe was made already.
    """
    if linear_top1 is None:
        configs = [replace(linear, learning_rate=rate * linear.learning_rate) for rate in rates]
        linear_top1 = max(linear_probe(train, validation, class_names, config, seed=seed).top1 for config in configs)
    return FeatureQuality(
        name=name,
        linear_top1=linear_top1,
        knn_top1=knn_top1(train, validation, len(class_names), knn),
        dimension=train.features.shape[1],
        effective_rank=float(effective_rank(covariance_eigenvalues(validation.features).cpu())),
    )

"""What features are worth: k-NN, linear probe, and the baselines beside them."""

from solo_frossl.probe.baselines import BASELINE_RATES, FeatureQuality, linear_and_knn
from solo_frossl.probe.features import Features, extract_features
from solo_frossl.probe.knn import KNNConfig, knn_accuracy, knn_classify
from solo_frossl.probe.linear import (
    LinearConfig,
    LinearResult,
    augmented_batches,
    evaluate_linear,
    fit_linear,
    linear_probe,
    shuffled_batches,
)
from solo_frossl.probe.online import EffectiveRank, OnlineKNN
from solo_frossl.probe.weights import BackboneMismatchError, load_backbone_weights

__all__ = [
    "BASELINE_RATES",
    "BackboneMismatchError",
    "EffectiveRank",
    "FeatureQuality",
    "Features",
    "KNNConfig",
    "LinearConfig",
    "LinearResult",
    "OnlineKNN",
    "augmented_batches",
    "evaluate_linear",
    "extract_features",
    "fit_linear",
    "knn_accuracy",
    "knn_classify",
    "linear_and_knn",
    "linear_probe",
    "load_backbone_weights",
    "shuffled_batches",
]

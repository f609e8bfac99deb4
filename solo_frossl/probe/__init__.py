"""What features are worth: k-NN, linear probe, fine-tuning, and the baselines beside them."""

from solo_frossl.probe.baselines import BASELINE_RATES, FeatureQuality, knn_top1, linear_and_knn
from solo_frossl.probe.fast_linear import (
    FastLinearConfig,
    FastLinearResult,
    Fit,
    Trial,
    fast_linear_probe,
    fit_logistic,
    fit_ridge,
)
from solo_frossl.probe.feature_files import FeatureFile, features_path, read_features, write_features
from solo_frossl.probe.features import Features, extract_features
from solo_frossl.probe.finetune import FineTune, FineTuneConfig, FineTuneResult, LabelledImages, fine_tune
from solo_frossl.probe.knn import KNNConfig, knn_accuracy, knn_classify, knn_sweep
from solo_frossl.probe.linear import (
    LinearConfig,
    LinearResult,
    augmented_batches,
    evaluate_linear,
    evaluate_scores,
    fit_linear,
    linear_probe,
    shuffled_batches,
)
from solo_frossl.probe.online import EffectiveRank, OnlineKNN

__all__ = [
    "BASELINE_RATES",
    "EffectiveRank",
    "FastLinearConfig",
    "FastLinearResult",
    "FeatureFile",
    "FeatureQuality",
    "Features",
    "FineTune",
    "FineTuneConfig",
    "FineTuneResult",
    "Fit",
    "KNNConfig",
    "LabelledImages",
    "LinearConfig",
    "LinearResult",
    "OnlineKNN",
    "Trial",
    "augmented_batches",
    "evaluate_linear",
    "evaluate_scores",
    "extract_features",
    "fast_linear_probe",
    "features_path",
    "fine_tune",
    "fit_linear",
    "fit_logistic",
    "fit_ridge",
    "knn_accuracy",
    "knn_classify",
    "knn_sweep",
    "knn_top1",
    "linear_and_knn",
    "linear_probe",
    "read_features",
    "shuffled_batches",
    "write_features",
]

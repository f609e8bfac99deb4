"""Eigenvalues of features and embeddings: statistics, the callback that measures them, their file, and collapse."""

from solo_frossl.run_files.statistics import condition_number, effective_rank, shannon_entropy
from solo_frossl.spectrum.callback import SpectrumCallback, SpectrumConfig
from solo_frossl.spectrum.collapse import CollapseStop
from solo_frossl.spectrum.eigenvalues import covariance_eigenvalues, rankme
from solo_frossl.spectrum.measure import batch_moments, predictor_alignment, spectrum_of, view_correlation
from solo_frossl.spectrum.saturation import saturation_step

__all__ = [
    "CollapseStop",
    "SpectrumCallback",
    "SpectrumConfig",
    "batch_moments",
    "condition_number",
    "covariance_eigenvalues",
    "effective_rank",
    "predictor_alignment",
    "rankme",
    "saturation_step",
    "shannon_entropy",
    "spectrum_of",
    "view_correlation",
]

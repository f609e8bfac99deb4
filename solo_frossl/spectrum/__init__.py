"""Eigenvalues of features and embeddings: statistics, the callback that measures them, their file, and collapse."""

from solo_frossl.spectrum.callback import SpectrumCallback, SpectrumConfig
from solo_frossl.spectrum.collapse import CollapseStop
from solo_frossl.spectrum.eigenvalues import (
    condition_number,
    covariance_eigenvalues,
    effective_rank,
    rankme,
    shannon_entropy,
)
from solo_frossl.spectrum.file import Spectra, SpectraFile, SpectraFileError, read_spectra
from solo_frossl.spectrum.measure import batch_moments, predictor_alignment, spectrum_of, view_correlation
from solo_frossl.spectrum.saturation import saturation_step

__all__ = [
    "CollapseStop",
    "Spectra",
    "SpectraFile",
    "SpectraFileError",
    "SpectrumCallback",
    "SpectrumConfig",
    "batch_moments",
    "condition_number",
    "covariance_eigenvalues",
    "effective_rank",
    "predictor_alignment",
    "rankme",
    "read_spectra",
    "saturation_step",
    "shannon_entropy",
    "spectrum_of",
    "view_correlation",
]

"""Eigenvalues of features and embeddings, and what they say about collapse."""

from solo_frossl.spectrum.eigenvalues import covariance_eigenvalues, effective_rank

__all__ = ["covariance_eigenvalues", "effective_rank"]

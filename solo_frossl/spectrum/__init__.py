"""Eigenvalues of features and embeddings, and their effective rank."""

from solo_frossl.spectrum.eigenvalues import covariance_eigenvalues, effective_rank, shannon_entropy

__all__ = ["covariance_eigenvalues", "effective_rank", "shannon_entropy"]

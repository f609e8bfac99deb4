"""The objectives: pure functions of embeddings, exact over the global batch."""

from solo_frossl.losses.barlow_twins import barlow_twins_loss, barlow_twins_terms
from solo_frossl.losses.frossl import frossl_loss, frossl_terms

__all__ = ["barlow_twins_loss", "barlow_twins_terms", "frossl_loss", "frossl_terms"]

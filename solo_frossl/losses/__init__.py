"""The objectives: functions of embeddings, exact over the global batch; what one remembers are buffers of a module."""

from solo_frossl.losses.barlow_twins import barlow_twins_loss, barlow_twins_terms
from solo_frossl.losses.byol import byol_loss
from solo_frossl.losses.closed_form import (
    CorrelationEMA,
    asymmetric_cosine_loss,
    asymmetric_euclidean_loss,
    iso_cosine_loss,
    iso_euclidean_loss,
    predictor_from_correlation,
)
from solo_frossl.losses.corinfomax import CorInfoMaxLoss
from solo_frossl.losses.dino import Centre, dino_loss
from solo_frossl.losses.frossl import frossl_loss, frossl_terms
from solo_frossl.losses.moco import KeyQueue, info_nce_queue_loss
from solo_frossl.losses.simclr import nt_xent_loss
from solo_frossl.losses.simsiam import negative_cosine_loss
from solo_frossl.losses.swav import sinkhorn_knopp, swav_loss
from solo_frossl.losses.vicreg import vicreg_loss, vicreg_terms
from solo_frossl.losses.wmse import wmse_loss

__all__ = [
    "Centre",
    "CorInfoMaxLoss",
    "CorrelationEMA",
    "KeyQueue",
    "asymmetric_cosine_loss",
    "asymmetric_euclidean_loss",
    "barlow_twins_loss",
    "barlow_twins_terms",
    "byol_loss",
    "dino_loss",
    "frossl_loss",
    "frossl_terms",
    "info_nce_queue_loss",
    "iso_cosine_loss",
    "iso_euclidean_loss",
    "negative_cosine_loss",
    "nt_xent_loss",
    "predictor_from_correlation",
    "sinkhorn_knopp",
    "swav_loss",
    "vicreg_loss",
    "vicreg_terms",
    "wmse_loss",
]

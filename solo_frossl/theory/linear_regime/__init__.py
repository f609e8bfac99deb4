"""FroSSL, Barlow Twins and their kin with one linear layer a view: losses, equations of the modes, closed forms.

FroSSL's Section 5.1 and Appendix D. Two linear layers W1, W2, one a view, embed N centred samples: Z_v = X_v W_v^T.
Losses depend on the data through its second moments alone, here divided by N:

    G_v = X_v^T X_v / N        K = X1^T X2 / N

If G1, G2 and K have eigenvectors in common (:class:`Modes`) and the layers start aligned with them, every mode moves
by itself: s1, s2 are the singular values of the layers in it, y_v = lambda_v s_v^2 is what spectra show, an
eigenvalue of Z_v^T Z_v / N.
"""

from solo_frossl.theory.linear_regime.equations import (
    FixedPoint,
    Logistic,
    barlow_growth,
    barlow_rate,
    fixed_points,
    frossl_growth,
    frossl_rate,
    mode_loss,
    spectral_contrastive_growth,
    spectral_contrastive_rate,
    vicreg_growth,
    vicreg_rate,
)
from solo_frossl.theory.linear_regime.losses import (
    barlow_loss,
    frossl_gradient,
    frossl_loss,
    spectral_contrastive_loss,
    vicreg_loss,
)
from solo_frossl.theory.linear_regime.setting import (
    Modes,
    Moments,
    aligned_weights,
)
from solo_frossl.theory.linear_regime.trained import (
    hadamard,
    trained_barlow_rate,
    trained_frossl_rate,
)

__all__ = [
    "FixedPoint",
    "Logistic",
    "Modes",
    "Moments",
    "aligned_weights",
    "barlow_growth",
    "barlow_loss",
    "barlow_rate",
    "fixed_points",
    "frossl_gradient",
    "frossl_growth",
    "frossl_loss",
    "frossl_rate",
    "hadamard",
    "mode_loss",
    "spectral_contrastive_growth",
    "spectral_contrastive_loss",
    "spectral_contrastive_rate",
    "trained_barlow_rate",
    "trained_frossl_rate",
    "vicreg_growth",
    "vicreg_loss",
    "vicreg_rate",
]

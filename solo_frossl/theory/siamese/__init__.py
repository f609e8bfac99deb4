"""The eight Siamese losses of Halvagal et al. 2023: losses, equations of the eigenvalues, closed forms.

The paper is https://arxiv.org/abs/2212.04858. A linear network z = W x, W of M x N, sees two views of an input,

    x_v = x + sigma n_v,   x, n_1, n_2 ~ N(0, I) and independent,   so that E[x_v x_v^T] = k I,  k = 1 + sigma^2

and learns by L = d(W_P z_1, sg(z_2)), one-sided, sg being the stop-gradient and W_P = U D^alpha U^T the closed-form
predictor of the embeddings' correlation C = U D U^T (Eq. 1). The squared distance and the cosine, each as it is, as
IsoLoss, without stop-gradient and without predictor, make eight losses (:data:`LOSSES`).

With W = U diag(sqrt(s)) V^T, s are the eigenvalues of W W^T = E[z z^T] over clean inputs, and lambda = s^alpha those of
W_P. Gradient flow, dW/dt = -grad L, turns neither U nor V: flipping the sign of one coordinate of V^T x, V^T n_1 and
V^T n_2 changes no probability, so the gradient is diagonal in these bases. Hence the eigenvalues follow equations of
their own (:func:`rate`), which are exact, the cosine's too.

The spectrum of the product's DirectPred and IsoLoss, with ``noisy_correlation``, must follow them if the network is
linear without bias and BatchNorm, learns by plain gradient descent in small steps, has no target network, takes the
present correlation, ``predictor_eps`` 0 and the theory's ``normalize``, and if inputs are white and centred, for the
cosine Gaussian and many. docs/theory.md has the conditions in full.
"""

from solo_frossl.theory.siamese.equations import (
    FixedPoint,
    common_eigenvalue,
    conserved,
    equalisation_rate,
    fixed_points,
    predictor_eigenvalues,
    rate,
    solution,
    time_to_reach,
)
from solo_frossl.theory.siamese.expectations import (
    expected_loss,
)
from solo_frossl.theory.siamese.losses import (
    alignment,
    balanced_views,
    correlation,
    draw_views,
    eigenvalues,
    fresh_loss,
    imbalance,
    mode_weights,
    predictor,
    sample_loss,
    trainable_loss,
)
from solo_frossl.theory.siamese.setting import (
    LOSSES,
    SIMILARITIES,
    VARIANTS,
    Siamese,
)

__all__ = [
    "LOSSES",
    "SIMILARITIES",
    "VARIANTS",
    "FixedPoint",
    "Siamese",
    "alignment",
    "balanced_views",
    "common_eigenvalue",
    "conserved",
    "correlation",
    "draw_views",
    "eigenvalues",
    "equalisation_rate",
    "expected_loss",
    "fixed_points",
    "fresh_loss",
    "imbalance",
    "mode_weights",
    "predictor",
    "predictor_eigenvalues",
    "rate",
    "sample_loss",
    "solution",
    "time_to_reach",
    "trainable_loss",
]

"""Linear networks under the Siamese losses of ``theory.siamese``: weights to start from, descent and equations."""

import torch

from solo_frossl.theory.flow import descend, integrate
from solo_frossl.theory.siamese import LOSSES, eigenvalues, expected_loss, rate

OUTPUTS, INPUTS, SEEDS = 3, 4, 2
EUCLIDEAN, COSINE = LOSSES[:4], LOSSES[4:]
PLAIN, ISO, NO_STOP_GRADIENT, NO_PREDICTOR = EUCLIDEAN


def name(siamese):
    options = [f"alpha {siamese.alpha}"] if siamese.alpha != 1 else []
    options += [option for option in ("normalize", "noisy_correlation") if getattr(siamese, option)]
    return " ".join([siamese.similarity, siamese.variant, *options])


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def weights(*seeds, seed=0):
    """Any: what gradient descent starts from has nothing to be aligned with."""
    return 0.4 * random(*seeds, OUTPUTS, INPUTS, seed=seed)


def orthonormal(rows, columns, seed=0):
    return torch.linalg.qr(random(rows, columns, seed=seed))[0]


def gradient(loss, *tensors):
    leaves = [t.detach().clone().requires_grad_() for t in tensors]
    return torch.autograd.grad(loss(*leaves).sum(), leaves)


def descended(siamese, w, learning_rate, time):
    return descend(
        lambda w: expected_loss(w, siamese),
        [w],
        learning_rate=learning_rate,
        steps=round(time / learning_rate),
        observe=eigenvalues,
    )


def flow(siamese, start, times):
    return integrate(lambda s: rate(s, siamese), start, times).values

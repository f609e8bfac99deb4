"""The ablations of closed-form predictors: without stop-gradient, without predictor."""

import numpy as np
import pytest
import torch
from small_methods import build

from solo_frossl.losses import (
    asymmetric_cosine_loss,
    asymmetric_euclidean_loss,
    iso_cosine_loss,
    iso_euclidean_loss,
)

METHODS = ["directpred", "directcopy", "isoloss"]
LOSSES = {
    "directpred": {"cosine": asymmetric_cosine_loss, "euclidean": asymmetric_euclidean_loss},
    "isoloss": {"cosine": iso_cosine_loss, "euclidean": iso_euclidean_loss},
}
LOSSES["directcopy"] = LOSSES["directpred"]


def inputs():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(4, 4))
    return rng.normal(size=(6, 4)), rng.normal(size=(6, 4)), a @ a.T / 4


def gradients(loss, z1, z2, predictor, **kwargs):
    z = [torch.tensor(x, requires_grad=True) for x in (z1, z2)]
    predictor = None if predictor is None else torch.tensor(predictor)
    return [g.numpy() for g in torch.autograd.grad(loss(*z, predictor, **kwargs), z, materialize_grads=True)]


def iso_cosine(z1, z2, w):
    """Eq. 17 of Halvagal et al. 2023 as it stands, every factor a variable."""
    total = 0.0
    for a, b in zip(z1, z2, strict=True):
        p, nb = w @ a, np.linalg.norm(b)
        n = np.linalg.norm(p)
        total += -a @ b / (n * nb) + 0.5 * (p @ b) / (n**3 * nb) * (a @ w @ a)
    return total / len(z1)


def numerical(f, x, step=1e-6):
    grad = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[i] += step
        down[i] -= step
        grad[i] = (f(up) - f(down)) / (2 * step)
    return grad


def test_cosine_isoloss_without_stop_gradient():
    z1, z2, w = inputs()
    found = gradients(iso_cosine_loss, z1, z2, w, stop_gradient=False)
    np.testing.assert_allclose(found[0], numerical(lambda z: iso_cosine(z, z2, w), z1), atol=1e-7)
    np.testing.assert_allclose(found[1], numerical(lambda z: iso_cosine(z1, z, w), z2), atol=1e-7)
    assert np.abs(found[0] - gradients(iso_cosine_loss, z1, z2, w)[0]).max() > 1e-2


def test_euclidean_isoloss_without_stop_gradient_is_the_euclidean_loss_without_it():
    found = gradients(iso_euclidean_loss, *inputs(), stop_gradient=False)
    expected = gradients(asymmetric_euclidean_loss, *inputs(), stop_gradient=False)
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("similarity", ["cosine", "euclidean"])
def test_isoloss_without_predictor_learns_as_directpred_without_it(similarity):
    z1, z2, _ = inputs()
    found, expected = (gradients(LOSSES[name][similarity], z1, z2, None) for name in ("isoloss", "directpred"))
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("similarity", ["cosine", "euclidean"])
@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_both(name, similarity):
    z1, z2, w = (torch.tensor(x) for x in inputs())
    loss = LOSSES[name][similarity]
    for stop_gradient in (True, False):
        arguments = ["--model.momentum=null", f"--model.stop_gradient={stop_gradient}".lower()]
        model, _ = build(name, f"--model.similarity={similarity}", *arguments)
        target = z2.clone().requires_grad_()
        value = model.one_sided_loss(z1.clone().requires_grad_(), target, w)
        torch.testing.assert_close(value.detach(), loss(z1, z2, w))
        value.backward()
        assert (target.grad is None) == stop_gradient
    model, data = build(name, f"--model.similarity={similarity}", "--model.use_predictor=false")
    data.setup()
    views = data.make_views(next(iter(data.train_dataloader()))).views
    objective = model.objective(views)
    z1, z2 = (z.detach() for z in objective.embeddings)
    target1, target2 = model.targets(views, [z1, z2])
    torch.testing.assert_close(objective.loss.detach(), model.scale * (loss(z1, target2) + loss(z2, target1)))

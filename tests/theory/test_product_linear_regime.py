"""The theory and the product: a linear backbone trained with the product's own FroSSL and Barlow Twins.

The product's objectives normalise every output. Their modes have equations when one linear layer serves both views (as
it does in the product), both views have the same second moment, the samples' moments are exact, and all outputs have
the same variance (a Hadamard left factor). Then, and only then, must the measured spectrum follow the theory.
"""

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback
from small_methods import build, trainer
from torch import nn

from solo_frossl.batch import Views
from solo_frossl.losses import barlow_twins_loss, frossl_loss
from solo_frossl.run_files import read_spectra
from solo_frossl.spectrum import SpectrumCallback, SpectrumConfig, covariance_eigenvalues
from solo_frossl.theory.flow import descend, integrate
from solo_frossl.theory.linear_regime import Modes, hadamard, trained_barlow_rate, trained_frossl_rate

SAMPLES, WIDTH = 64, 4
MODES = Modes.correlated(np.array([0.95, 0.8, 0.6, 0.3]), np.array([1.0, 0.6, 0.4, 0.25]))
START = np.array([0.9, 0.6, 0.5, 0.4])


def exact_views(modes=MODES, seed=0):
    """Two views ``(N, K)``, centred, whose moments about their mean are exactly those of the modes."""
    generator = torch.Generator().manual_seed(seed)
    count = len(modes.first)
    raw = torch.randn(SAMPLES, 2 * count, generator=generator, dtype=torch.float64)
    white = torch.linalg.qr(raw - raw.mean(0))[0] * SAMPLES**0.5
    common, rest = white[:, :count], white[:, count:]
    first, rho = torch.as_tensor(modes.first), torch.as_tensor(modes.rho)
    return common * first.sqrt(), (rho * common + (1 - rho**2).sqrt() * rest) * first.sqrt()


def layer(s):
    """``(K, K)`` W = U diag(s), the data's eigenvectors being the axes."""
    return hadamard(WIDTH) * torch.as_tensor(s)


def frossl(z1, z2):
    return frossl_loss([z1, z2])


def frossl_no_logs(z1, z2):
    return frossl_loss([z1, z2], log_variance=False, invariance_weight=3.0)


PRODUCT = {
    "frossl": (frossl, lambda s: trained_frossl_rate(s, MODES, samples=SAMPLES)),
    "frossl_no_logs": (
        frossl_no_logs,
        lambda s: trained_frossl_rate(s, MODES, samples=SAMPLES, invariance_weight=3.0, log_variance=False),
    ),
    "barlow_twins": (barlow_twins_loss, lambda s: trained_barlow_rate(s, MODES)),
}


def trained(loss, learning_rate, time, weight=None):
    x1, x2 = exact_views()
    return descend(
        lambda w: loss(x1 @ w.T, x2 @ w.T),
        [layer(START) if weight is None else weight],
        learning_rate=learning_rate,
        steps=round(time / learning_rate),
        observe=lambda w: covariance_eigenvalues(x1 @ w.T) * (SAMPLES - 1) / SAMPLES,
        every=20,
    )


@pytest.mark.parametrize("name", PRODUCT)
def test_modes_follow_the_theory_the_better_the_smaller_the_steps(name):
    loss, rate = PRODUCT[name]
    time = {"frossl": 0.4, "frossl_no_logs": 1.0, "barlow_twins": 4.0}[name]
    errors = []
    for steps in (200, 400):
        measured = trained(loss, time / steps, time)
        s = integrate(rate, START, measured.time).values
        expected = -np.sort(-MODES.first * s**2, axis=1)
        errors.append(np.abs(measured.values - expected).max())
    assert np.abs(expected[-1] - expected[0]).max() > 0.05  # something was learned
    assert errors[1] < 2e-3
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.1)


@pytest.mark.parametrize("name", PRODUCT)
def test_the_layer_s_norm_is_conserved(name):
    s = integrate(PRODUCT[name][1], START, np.linspace(0, 5, 9)).values
    np.testing.assert_allclose((s**2).sum(1), (START**2).sum(), rtol=1e-7)


def test_outputs_of_unequal_variance_do_not_follow_it():
    loss, rate = PRODUCT["frossl"]
    generator = torch.Generator().manual_seed(1)
    other = torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=generator, dtype=torch.float64))[0]
    measured = trained(loss, 1e-3, 0.4, weight=other * torch.as_tensor(START))
    expected = -np.sort(-MODES.first * integrate(rate, START, measured.time).values ** 2, axis=1)
    assert np.abs(measured.values - expected).max() > 0.05


def test_frossl_makes_all_eigenvalues_equal_and_barlow_twins_does_not():
    """FroSSL's norm of a trace-one matrix is least where all are equal; Barlow Twins sees rho y in place of y."""
    times = np.array([0.0, 200.0])
    large = integrate(lambda s: trained_frossl_rate(s, MODES, samples=10**7), START, times).values[-1]
    y = MODES.first * large**2
    np.testing.assert_allclose(y / y.mean(), 1, rtol=1e-3)
    strong = integrate(lambda s: trained_barlow_rate(s, MODES, off_diagonal_weight=1.0), START, times).values[-1]
    y = MODES.first * strong**2
    assert y.max() / y.min() > 1.2


class Rates(Callback):
    """Keeps the learning rate of each step."""

    def __init__(self):
        self.rates = []

    def on_train_batch_end(self, trainer, module, *args):
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])


@pytest.mark.parametrize(("method", "learning_rate"), [("frossl", 0.008), ("barlow_twins", 0.3)])
def test_the_spectrum_that_a_real_run_measures_is_the_theory_s(method, learning_rate, tmp_path, monkeypatch):
    """Trainer, optimiser, schedule and spectrum callback as they are; only the network and its images are exchanged."""
    model, data = build(
        method,
        "--model.optimizer.name=sgd",
        f"--model.optimizer.lr={learning_rate}",
        "--model.optimizer.momentum=0",
        "--model.optimizer.weight_decay=0",
        "--model.schedule.warmup_epochs=0",
    )
    x1, x2 = exact_views()
    model.backbone, model.projector = nn.Linear(WIDTH, WIDTH, bias=False), nn.Identity()
    model.classifier, model.memory_format = None, torch.contiguous_format
    model.double()
    model.backbone.weight.data = layer(START)
    label = torch.zeros(SAMPLES, dtype=torch.long)
    views = Views([x1, x2], label, label)
    monkeypatch.setattr(data, "on_after_batch_transfer", lambda batch, index: views)
    rates = Rates()
    spectrum = SpectrumCallback(tmp_path / "spectrum.bin", SpectrumConfig(every_n_steps=1))
    fitted = trainer(rates, spectrum, epochs=12, limit_val_batches=0)
    fitted.fit(model, datamodule=data)
    measured = read_spectra(tmp_path / "spectrum.bin").embeddings * (SAMPLES - 1) / SAMPLES
    time = np.concatenate([[0], np.cumsum(rates.rates)])[: len(measured)]
    s = integrate(PRODUCT[method][1], START, time).values
    expected = -np.sort(-MODES.first * s**2, axis=1)
    change = np.abs(expected[-1] - expected[0]).max()
    assert change > 0.02
    assert np.abs(measured - expected).max() < 0.1 * change

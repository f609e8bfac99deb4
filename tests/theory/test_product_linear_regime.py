"""The theory and the product: a linear backbone trained with the product's own FroSSL and Barlow Twins.

The product's objectives normalise every output. What the spectrum callback measures follows ``trained_frossl_rate`` and
``trained_barlow_rate`` if

1. the network is one linear layer for both views, and a projector that does nothing. A bias does not matter;
2. all outputs have the same variance: as many as modes, a power of 2, and the layer's left factor a Hadamard matrix;
3. the layer's right factor is the common eigenvectors of the views' second moments and of their product;
4. both views have the same second moment, lambda = gamma;
5. the moments are those of the batch: the batch is all the data, or so large that its moments are the data's;
6. it learns by plain gradient descent in small steps, without weight decay. Time is the sum of the learning rates.
   Momentum m multiplies it by 1 / (1 - m) once it has come up.

Each condition is broken below, and then the spectrum leaves the theory. The callback takes the covariance over N - 1:
its eigenvalues are lambda s^2 N / (N - 1).
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
TIMES = {"frossl": 0.4, "frossl_no_logs": 1.0, "barlow_twins": 4.0}
"""Until when each is followed."""


def predicted(rate, times, start=START):
    """Eigenvalues by the theory, descending: ``(T, K)``."""
    return -np.sort(-MODES.first * integrate(rate, start, times).values ** 2, axis=1)


def trained(loss, learning_rate, time, weight=None, views=None):
    x1, x2 = exact_views() if views is None else views
    return descend(
        lambda w: loss(x1 @ w.T, x2 @ w.T),
        [layer(START) if weight is None else weight],
        learning_rate=learning_rate,
        steps=round(time / learning_rate),
        observe=lambda w: covariance_eigenvalues(x1 @ w.T) * (len(x1) - 1) / len(x1),
        every=20,
    )


@pytest.mark.parametrize("name", PRODUCT)
def test_modes_follow_the_theory_the_better_the_smaller_the_steps(name):
    loss, rate = PRODUCT[name]
    time = TIMES[name]
    errors = []
    for steps in (200, 400):
        measured = trained(loss, time / steps, time)
        expected = predicted(rate, measured.time)
        errors.append(np.abs(measured.values - expected).max())
    assert np.abs(expected[-1] - expected[0]).max() > 0.05  # something was learned
    assert errors[1] < 2e-3
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.1)


@pytest.mark.parametrize("name", PRODUCT)
def test_the_layer_s_norm_is_conserved(name):
    s = integrate(PRODUCT[name][1], START, np.linspace(0, 5, 9)).values
    np.testing.assert_allclose((s**2).sum(1), (START**2).sum(), rtol=1e-7)


def turned(angle=1.2):
    """A rotation in the plane of the first two modes."""
    c, s = np.cos(angle), np.sin(angle)
    rotation = torch.eye(WIDTH, dtype=torch.float64)
    rotation[:2, :2] = torch.tensor([[c, -s], [s, c]])
    return rotation


def orthogonal(seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=generator, dtype=torch.float64))[0]


def broken_weights(condition):
    if condition == "2: outputs of unequal variance":
        return orthogonal() * torch.as_tensor(START)
    if condition == "3: a layer that is not aligned":
        return layer(START) @ turned()
    return layer(START)


def broken_views(condition):
    x1, x2 = exact_views()
    if condition == "3: views that share no eigenvectors":
        return x1, x2 @ turned()
    if condition == "4: another variance of view 2":
        return x1, x2 * torch.tensor([0.5, 1.0, 1.5, 2.0], dtype=torch.float64)
    if condition == "5: eight of the samples":
        return x1[:8], x2[:8]
    return x1, x2


BROKEN = (
    "2: outputs of unequal variance",
    "3: a layer that is not aligned",
    "3: views that share no eigenvectors",
    "4: another variance of view 2",
    "5: eight of the samples",
)


@pytest.mark.slow
@pytest.mark.parametrize("condition", [None, *BROKEN])
@pytest.mark.parametrize("name", ["frossl", "barlow_twins"])
def test_each_condition_is_needed(name, condition):
    """The equations from what is measured at the start: by how much of what is learned the end is missed."""
    loss, rate = PRODUCT[name]
    time = TIMES[name]
    measured = trained(loss, time / 400, time, broken_weights(condition), broken_views(condition))
    expected = predicted(rate, measured.time, np.sqrt(measured.values[0] / MODES.first))
    missed = np.abs(measured.values - expected).max() / np.abs(expected[-1] - expected[0]).max()
    if condition is None:
        assert missed < 0.005
    else:
        assert missed > 0.1


@pytest.mark.parametrize("name", ["frossl", "barlow_twins"])
def test_a_network_that_is_not_linear_does_not_follow_it(name):
    """Condition 1."""
    loss, rate = PRODUCT[name]
    time = TIMES[name]
    measured = trained(lambda z1, z2: loss(z1.relu(), z2.relu()), time / 400, time)
    expected = predicted(rate, measured.time)
    assert np.abs(measured.values - expected).max() > 0.1 * np.abs(expected[-1] - expected[0]).max()


@pytest.mark.parametrize(("options", "speed"), [({"momentum": 0.5}, 2.0), ({"weight_decay": 1.0}, None)])
def test_momentum_is_another_clock_and_weight_decay_another_flow(options, speed):
    """Condition 6."""
    loss, rate = PRODUCT["frossl"]
    x1, x2 = exact_views()
    weight = layer(START).requires_grad_()
    optimizer = torch.optim.SGD([weight], lr=1e-3, **options)
    for _ in range(200):
        optimizer.zero_grad()
        loss(x1 @ weight.T, x2 @ weight.T).backward()
        optimizer.step()
    found = (covariance_eigenvalues(x1 @ weight.detach().T) * (SAMPLES - 1) / SAMPLES).numpy()

    def missed(time):
        ended = predicted(rate, [0.0, time])
        return np.abs(found - ended[-1]).max() / np.abs(ended[-1] - ended[0]).max()

    assert missed(0.2) > 0.1
    if speed:
        assert missed(0.2 * speed) < 0.03


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
    expected = predicted(PRODUCT[method][1], time)
    change = np.abs(expected[-1] - expected[0]).max()
    assert change > 0.02
    assert np.abs(measured - expected).max() < 0.1 * change

"""The product's DirectPred and IsoLoss on a linear network: their modes follow the theory, where they must.

What is trained here are ``methods.DirectPred`` and ``methods.IsoLoss`` themselves, with their own losses, predictor and
moving average; what is measured are the eigenvalues of the spectrum callback. They follow ``theory.siamese`` if

1. the network is linear: a backbone z = W x without bias, no BatchNorm, and a projector that does nothing;
2. it learns by plain gradient descent, without weight decay, in small steps. Then time is t = 2 scale times the sum of
   the learning rates: 2, for the product adds both directions of the loss. Momentum m multiplies it by 1 / (1 - m);
3. there is no target network (``momentum: null``); with one it lags by learning_rate / (1 - tau), so this is also its
   limit for small steps;
4. the predictor is of the present correlation (``correlation_momentum: 0``); a moving average lags in the same way,
   and starts at 0, so this too is a limit;
5. ``predictor_eps`` is 0; with it and alpha = 1 the Euclidean losses bring the correlation's eigenvalues to
   1 / k - eps;
6. ``normalize_predictor`` is as the theory's ``normalize``: false is the paper, and true, the default, other equations;
7. inputs are white and centred with white noise on both views: E[x x^T] = I. For the Euclidean losses second moments
   are all that matters, so few samples that have them exactly will do. For the cosine inputs must be Gaussian, and
   many; on few, equations of the modes hold that have the samples' means for expectations, if the samples are their own
   mirror images in the singular vectors.

The product's predictor is of the views' own correlation k W W^T, not centred: ``noisy_correlation``. The callback takes
the centred covariance of view 1 over N - 1: its eigenvalues are k s N / (N - 1).
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from scipy.stats import qmc
from torch import nn
from torch.utils.data import DataLoader

from solo_frossl.batch import Views
from solo_frossl.methods.directpred import DirectPred
from solo_frossl.methods.heads import ProjectorConfig
from solo_frossl.methods.isoloss import IsoLoss
from solo_frossl.methods.momentum import MomentumConfig
from solo_frossl.optim import OptimizerConfig, ScheduleConfig
from solo_frossl.run_files import read_spectra
from solo_frossl.spectrum import SpectrumCallback, SpectrumConfig
from solo_frossl.spectrum.measure import batch_moments, spectrum_of
from solo_frossl.theory.flow import Trajectory, integrate
from solo_frossl.theory.siamese import (
    LOSSES,
    Siamese,
    balanced_views,
    eigenvalues,
    predictor_eigenvalues,
    rate,
)

OUTPUTS, INPUTS = 3, 4
THEORY = [replace(siamese, noisy_correlation=True) for siamese in LOSSES]
EUCLIDEAN, COSINE = THEORY[:4], THEORY[4:]
PLAIN, ISO = EUCLIDEAN[:2]


def name(siamese):
    return f"{siamese.similarity} {siamese.variant}"


def start(inputs=INPUTS):
    generator = torch.Generator().manual_seed(3)
    return 0.4 * torch.randn(OUTPUTS, inputs, generator=generator, dtype=torch.float64)


def method(siamese, w, *, momentum=None, correlation_momentum=0.0, eps=0.0, scale=1.0, **kwargs):
    """The product's method of this loss, on a linear network with these weights."""
    kind, options = DirectPred, {}
    if siamese.variant == "iso":
        kind = IsoLoss
    else:
        options["stop_gradient"] = siamese.variant != "no_stop_gradient"
        options["use_predictor"] = siamese.variant != "no_predictor"
    outputs, inputs = w.shape
    made = kind(
        similarity=siamese.similarity,
        alpha=siamese.alpha,
        normalize_predictor=siamese.normalize,
        correlation_momentum=correlation_momentum,
        predictor_eps=eps,
        scale=scale,
        momentum=momentum,
        projector=ProjectorConfig(output=outputs),
        backbone="test_resnet",
        channels_last=False,
        num_classes=0,
        **options,
        **kwargs,
    )
    made.backbone = nn.Linear(inputs, outputs, bias=False)
    made.projector = nn.Identity()
    if momentum is not None:
        made.target_backbone = nn.Linear(inputs, outputs, bias=False).requires_grad_(False)
        made.target_projector = nn.Identity()
        made.target_backbone.weight.data = w.clone()
    made.backbone.weight.data = w.clone()
    return made.double()


def trained(made, views, learning_rate, time, *, scale=1.0, k=1.01):
    """s and lambda by the callback's own measure, ``(T, 2, M)``, in the theory's time."""
    optimizer = torch.optim.SGD(made.backbone.parameters(), lr=learning_rate)
    samples = len(views[0])
    steps = round(time / (2 * scale * learning_rate))
    seen = []
    for step in range(steps + 1):
        objective = made.objective(list(views))
        embeddings = [z.detach() for z in objective.embeddings]
        spectrum = spectrum_of(batch_moments(embeddings, embeddings, made.linear_predictor()))
        s = spectrum["embeddings"] * (samples - 1) / samples / k
        lam = spectrum["predictor"] if made.linear_predictor() is not None else torch.ones_like(s)
        seen.append(torch.stack([s, lam]).numpy())
        if step < steps:
            optimizer.zero_grad()
            objective.loss.backward()
            optimizer.step()
            made.update_target()
    return Trajectory(2 * scale * learning_rate * np.arange(steps + 1), np.stack(seen))


def expected(siamese, w, times):
    s = integrate(lambda s: rate(s, siamese), eigenvalues(w).numpy(), times).values
    return np.stack([s, predictor_eigenvalues(s, siamese)], 1)


def mirrored_views(w, sigma, *, samples, even=False):
    """Samples of a Gaussian and all their mirror images in the right singular vectors of the weights, 8 times as many.

    By that symmetry the singular vectors do not turn, whatever the loss and however few the samples. In each of these
    directions the views have exactly the variance k, both together; each by itself has another.

    Args:
        w: ``(3, 3)``.
        sigma: of the noise.
        samples: before mirroring.
        even: spread evenly (quasi-random), and with each noise mirrored by itself as well, 32 times as many.

    Returns:
        The views ``(B, 3)``, and their coordinates in the singular vectors, NumPy.
    """
    if even:
        drawn = qmc.MultivariateNormalQMC(np.zeros(9), rng=np.random.default_rng(0)).random(samples)
    else:
        drawn = np.random.default_rng(0).standard_normal((samples, 9))
    x, n1, n2 = np.split(drawn, 3, axis=1)
    signs = np.array(np.meshgrid(*[[-1, 1]] * (5 if even else 3))).reshape(5 if even else 3, -1).T[:, None]
    own = (signs[..., 3:4], signs[..., 4:]) if even else (1, 1)
    modes = [(signs[..., :3] * (x + sigma * sign * n)).reshape(-1, 3) for sign, n in zip(own, (n1, n2), strict=True)]
    scale = np.sqrt((1 + sigma**2) / np.mean([(a**2).mean(0) for a in modes], 0))
    modes = [a * scale for a in modes]
    vt = torch.linalg.svd(w)[2]
    return tuple(torch.as_tensor(a) @ vt for a in modes), modes


def sample_rate(s, siamese, modes):
    """ds/dt on mirrored samples: ``theory.siamese.rate`` with means over them for its expectations, both directions."""
    lam = predictor_eigenvalues(s, siamese)
    total = 0
    for x1, x2 in (modes, modes[::-1]):
        p, q = (y / np.linalg.norm(y, axis=1, keepdims=True) for y in (lam * np.sqrt(s) * x1, np.sqrt(s) * x2))
        cosine = (p * q).sum(1, keepdims=True)
        pull = p * q - cosine * p**2
        if siamese.variant == "no_stop_gradient":
            pull = pull + p * q - cosine * q**2
        total = total + pull.mean(0)
    return total / (lam if siamese.variant == "iso" else 1)


class TestEuclidean:
    @pytest.mark.slow
    @pytest.mark.parametrize("normalize", [False, True])
    @pytest.mark.parametrize("alpha", [1.0, 0.5])
    @pytest.mark.parametrize("siamese", EUCLIDEAN, ids=name)
    def test_follows_the_theory_the_better_the_smaller_its_steps(self, siamese, alpha, normalize):
        """Conditions 1 to 7, with second moments that are exact."""
        siamese, w = replace(siamese, alpha=alpha, normalize=normalize), start()
        time = 4.0 if siamese.variant == "no_predictor" else 1.6
        errors = []
        for learning_rate in (0.04, 0.02):
            seen = trained(method(siamese, w), balanced_views(INPUTS, 0.1), learning_rate, time)
            theory = expected(siamese, w, seen.time)
            errors.append(np.abs(seen.values - theory).max())
        assert errors[1] < 0.05 * np.abs(theory[-1] - theory[0]).max()
        assert errors[0] / errors[1] == pytest.approx(2, rel=0.15)

    def test_the_correlations_eigenvalues_come_to_one_over_k(self):
        """So s comes to 1 / k^2: the predictor is of the noisy views."""
        for siamese in (PLAIN, ISO):
            s, lam = trained(method(siamese, start()), balanced_views(INPUTS, 0.1), 0.2, 40.0).values[-1]
            np.testing.assert_allclose(lam[:2], 1 / 1.01, rtol=1e-6)
            np.testing.assert_allclose(s[:2], 1 / 1.01**2, rtol=1e-6)

    def test_time_goes_with_the_scale_of_the_loss(self):
        siamese, w, views = PLAIN, start(), balanced_views(INPUTS, 0.1)
        twice = trained(method(siamese, w, scale=2.0), views, 0.01, 1.0, scale=2.0)
        once = trained(method(siamese, w), views, 0.02, 1.0)
        np.testing.assert_allclose(twice.time, once.time)
        np.testing.assert_allclose(twice.values, once.values, rtol=1e-10)

    @pytest.mark.parametrize("lagging", ["correlation", "target network"])
    def test_what_lags_does_so_the_less_the_smaller_the_steps(self, lagging):
        """Conditions 3 and 4: averages over a few steps are in the limit as none."""
        w, views = start(), balanced_views(INPUTS, 0.1)
        options = {
            "correlation": {"correlation_momentum": 0.8},
            "target network": {"momentum": MomentumConfig(base_tau=0.8, final_tau=0.8)},
        }[lagging]
        errors = []
        for learning_rate in (0.01, 0.005):
            seen = trained(method(ISO, w, **options), views, learning_rate, 1.0)
            errors.append(np.abs(seen.values[-1] - expected(ISO, w, [0.0, 1.0])[-1]).max())
        assert errors[0] > 0.01
        assert errors[0] / errors[1] == pytest.approx(2, rel=0.2)

    def test_a_lag_that_stays_is_another_flow(self):
        """The defaults at the learning rate of a run: a correlation that starts at 0 and takes 500 steps to come."""
        w, views = start(), balanced_views(INPUTS, 0.1)
        seen = trained(method(ISO, w, correlation_momentum=0.998), views, 0.02, 1.6)
        theory = expected(ISO, w, seen.time)
        assert np.abs(seen.values[-1] - theory[-1]).max() > 0.3

    def test_the_predictors_eps_moves_the_fixed_point(self):
        """Condition 5."""
        s, lam = trained(method(ISO, start(), eps=0.2), balanced_views(INPUTS, 0.1), 0.2, 20.0).values[-1]
        np.testing.assert_allclose(lam, 1 / 1.01, rtol=1e-6)
        np.testing.assert_allclose(1.01 * s, 1 / 1.01 - 0.2, rtol=1e-5)

    def test_the_default_of_dividing_by_the_largest_moves_it_too(self):
        """Condition 6: all become equal at a scale set by the start."""
        w = start()
        defaults = replace(ISO, normalize=True)
        s, lam = trained(method(defaults, w), balanced_views(INPUTS, 0.1), 0.1, 10.0).values[-1]
        np.testing.assert_allclose(lam, 1, rtol=1e-3)
        np.testing.assert_allclose(s, float(eigenvalues(w)[0]) * np.exp(-0.2), rtol=5e-3)
        assert abs(s[0] - 1 / 1.01**2) > 0.1

    @pytest.mark.parametrize("broken", ["a ReLU", "a bias", "BatchNorm"])
    def test_a_network_that_is_not_linear_leaves_the_theory(self, broken):
        """Condition 1."""
        made, w = method(ISO, start()), start()
        if broken == "a ReLU":
            made.projector = nn.ReLU()
        elif broken == "BatchNorm":
            made.projector = nn.BatchNorm1d(OUTPUTS, affine=False)
        else:
            made.backbone = nn.Linear(INPUTS, OUTPUTS)
            made.backbone.weight.data, made.backbone.bias.data = w.clone(), 0.5 * torch.ones(OUTPUTS)
        seen = trained(made.double(), balanced_views(INPUTS, 0.1), 0.02, 1.0)
        theory = integrate(lambda s: rate(s, ISO), seen.values[0, 0], seen.time).values
        assert np.abs(seen.values[-1, 0] - theory[-1]).max() > 0.05

    @pytest.mark.parametrize(("options", "speed"), [({"momentum": 0.5}, 2.0), ({"weight_decay": 0.5}, None)])
    def test_momentum_is_another_clock_and_weight_decay_another_flow(self, options, speed, monkeypatch):
        """Condition 2: with momentum m time is 1 / (1 - m) times as much, once it has come up."""
        plain = torch.optim.SGD
        monkeypatch.setattr(torch.optim, "SGD", lambda weights, lr: plain(weights, lr=lr, **options))
        seen = trained(method(ISO, start()), balanced_views(INPUTS, 0.1), 0.0005, 0.3)
        assert np.abs(seen.values[-1] - expected(ISO, start(), [0.0, 0.3])[-1]).max() > 0.05
        if speed:
            theory = expected(ISO, start(), [0.0, speed * 0.3])
            assert np.abs(seen.values[-1] - theory[-1]).max() < 0.02 * np.abs(theory[-1] - theory[0]).max()

    @pytest.mark.parametrize("broken", ["variances differ", "a mean"])
    def test_inputs_that_are_not_white_or_not_centred_leave_the_theory(self, broken):
        """Condition 7."""
        views, w = balanced_views(INPUTS, 0.1), start()
        if broken == "a mean":
            views = tuple(view + 0.7 for view in views)
        else:
            views = tuple(view * torch.tensor([1.5, 1.5, 0.4, 0.4]) for view in views)
        seen = trained(method(ISO, w), views, 0.02, 1.0)
        first = seen.values[0, 0]
        theory = integrate(lambda s: rate(s, ISO), first, seen.time).values
        assert np.abs(seen.values[-1, 0] - theory[-1]).max() > 0.05  # with white inputs .005


class TestCosine:
    @pytest.mark.parametrize("normalize", [False, True])
    @pytest.mark.parametrize("siamese", COSINE, ids=name)
    def test_follows_the_equations_on_any_mirrored_samples_the_better_the_smaller_its_steps(self, siamese, normalize):
        """Conditions 1 to 6, exactly: p and q of the samples at hand in place of the Gaussian's expectation."""
        siamese, w = replace(siamese, sigma=0.5, alpha=0.5, normalize=normalize), start(3)
        views, modes = mirrored_views(w, 0.5, samples=20)
        errors = []
        for learning_rate in (0.02, 0.01):
            seen = trained(method(siamese, w), views, learning_rate, 0.6, k=1.25)
            s = integrate(lambda s: sample_rate(s, siamese, modes), eigenvalues(w).numpy(), seen.time).values
            lam = predictor_eigenvalues(s, siamese)
            covariance = s * (modes[0] ** 2).mean(0)  # of view 1, as the callback has it
            followed = np.stack([covariance / 1.25, lam], 1)
            errors.append(np.abs(seen.values - followed).max())
        assert errors[1] < 0.05 * np.abs(followed[-1] - followed[0]).max()
        assert errors[0] / errors[1] == pytest.approx(2, rel=0.15)

    @pytest.mark.parametrize("siamese", COSINE[:2], ids=name)
    def test_follows_the_theory_on_many(self, siamese):
        """Conditions 1 to 7."""
        w = start(3)
        views, _ = mirrored_views(w, 0.1, samples=256, even=True)
        seen = trained(method(siamese, w), views, 0.02, 0.8)
        theory = expected(siamese, w, seen.time)
        assert np.abs(seen.values - theory).max() < 0.05 * np.abs(theory[-1] - theory[0]).max()

    @pytest.mark.parametrize("siamese", COSINE, ids=name)
    def test_its_gradient_is_the_theorys_on_average(self, siamese):
        """Condition 7, to a statistical error: d s / dt = -2 sqrt(s) u . grad v."""
        siamese, w = replace(siamese, sigma=0.5), start(3)
        made = method(siamese, w)
        u, roots, vt = torch.linalg.svd(w)
        rates = []
        for batch in range(16):
            generator = torch.Generator().manual_seed(batch)
            x, n1, n2 = (torch.randn(4096, 3, generator=generator, dtype=torch.float64) for _ in range(3))
            (grad,) = torch.autograd.grad(made.objective([x + 0.5 * n1, x + 0.5 * n2]).loss, [made.backbone.weight])
            rates.append((-roots * (u.T @ grad @ vt.T).diagonal()).numpy())  # of both directions: half
        error = np.std(rates, axis=0, ddof=1) / 4
        theory = rate((roots**2).numpy(), siamese)
        assert np.abs((np.mean(rates, axis=0) - theory) / error).max() < 5
        assert error.max() < 0.15 * np.abs(theory).max()

    def test_few_samples_are_not_their_expectation(self):
        """Condition 7, as a training batch has it: 16 of a Gaussian."""
        w, siamese = start(3), COSINE[1]
        generator = torch.Generator().manual_seed(0)
        x, n1, n2 = (torch.randn(16, 3, generator=generator, dtype=torch.float64) for _ in range(3))
        seen = trained(method(siamese, w), (x + 0.1 * n1, x + 0.1 * n2), 0.02, 0.8)
        theory = integrate(lambda s: rate(s, siamese), seen.values[0, 0], seen.time).values
        assert np.abs(seen.values[-1, 0] - theory[-1]).max() > 0.1 * np.abs(theory[-1] - theory[0]).max()

    @pytest.mark.parametrize("siamese", COSINE[:3], ids=name)
    def test_dividing_the_predictor_by_its_largest_eigenvalue_changes_nothing_but_isolosss_time(self, siamese):
        """Condition 6."""
        w = start(3)
        views, _ = mirrored_views(w, 0.1, samples=20)
        paper, default = (
            trained(method(replace(siamese, normalize=flag), w), views, 1e-4, 2e-4).values[:, 0]
            for flag in (False, True)
        )
        factor = 1.01 * float(eigenvalues(w)[0]) if siamese.variant == "iso" else 1.0
        np.testing.assert_allclose(default[1] - default[0], factor * (paper[1] - paper[0]), rtol=1e-3)


def test_a_run_by_the_trainer_leaves_a_spectrum_file_that_is_the_theory(tmp_path):
    """All of it: Trainer, the product's optimiser and schedule, and ``spectrum.bin``; one batch again and again."""
    w, steps, learning_rate = start(), 60, 0.01
    view1, view2 = balanced_views(INPUTS, 0.1)
    made = method(
        ISO,
        w,
        scale=2.0,
        optimizer=OptimizerConfig(name="sgd", lr=learning_rate, weight_decay=0.0, momentum=0.0),
        schedule=ScheduleConfig(name="constant", warmup_epochs=0),
        batch_size=256,
    )
    nothing = torch.zeros(len(view1), dtype=torch.long)
    batch = Views([view1, view2], nothing, nothing)
    trainer = Trainer(
        accelerator="cpu",
        precision="64-true",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        callbacks=[SpectrumCallback(tmp_path / "spectrum.bin", SpectrumConfig(every_n_steps=1))],
    )
    trainer.fit(made, DataLoader([batch] * steps, batch_size=None))
    spectra = read_spectra(tmp_path / "spectrum.bin")
    assert spectra.step.tolist() == list(range(steps))
    times = 2 * 2.0 * learning_rate * spectra.step
    s, lam = expected(ISO, w, times).transpose(1, 0, 2)
    count = len(view1)
    measured = spectra.embeddings * (count - 1) / count / 1.01
    assert np.abs(measured - s).max() < 0.03 * np.abs(s[-1] - s[0]).max()
    assert np.abs(spectra.predictor - lam).max() < 0.03 * np.abs(lam[-1] - lam[0]).max()
    np.testing.assert_allclose(spectra.alignment, 1, rtol=1e-6)


def test_the_theory_with_a_clean_correlation_is_told_apart():
    """The paper's own predictor, W W^T to the alpha, differs from the product's by a factor k^alpha."""
    s = np.array([0.5])
    paper, product = (Siamese("euclidean", sigma=0.5, noisy_correlation=noisy) for noisy in (False, True))
    assert float(predictor_eigenvalues(s, product)[0] / predictor_eigenvalues(s, paper)[0]) == pytest.approx(1.25)

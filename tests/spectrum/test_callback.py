"""The callback in real training of small networks."""

import math
from concurrent.futures import Future
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback
from small_methods import build, trainer

from solo_frossl import distributed
from solo_frossl.methods import METHODS
from solo_frossl.run_files import RunFolder, read_spectra
from solo_frossl.runs import CheckpointConfig, NonFiniteGuard, RunCheckpoint
from solo_frossl.spectrum import (
    CollapseStop,
    SpectrumCallback,
    SpectrumConfig,
    condition_number,
    covariance_eigenvalues,
    effective_rank,
    shannon_entropy,
)
from solo_frossl.spectrum import callback as module_under_test

STEPS = 4
OFTEN = SpectrumConfig(every_n_steps=1)


class Outputs(Callback):
    """What each step returned, and the predictor it had."""

    def __init__(self):
        self.seen, self.predictors = [], []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.seen.append({name: [x.clone() for x in outputs[name]] for name in ("features", "embeddings")})
        self.predictors.append(module.linear_predictor())


class Logged(Callback):
    """The metrics of each epoch."""

    def __init__(self):
        self.rows = []

    def on_train_epoch_start(self, trainer, module):
        trainer.callback_metrics.clear()

    def on_train_epoch_end(self, trainer, module):
        spectrum = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("spectrum/")}
        self.rows.append(spectrum)


def run(tmp_path, *callbacks, method="frossl", config=OFTEN, epochs=1, on_collapse="warn", arguments=(), **kwargs):
    model, data = build(method, *arguments)
    spectrum = SpectrumCallback(tmp_path / "spectrum.bin", config, on_collapse)
    fitted = trainer(spectrum, *callbacks, epochs=epochs, limit_val_batches=0, **kwargs)
    fitted.fit(model, datamodule=data)
    return model, fitted


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_a_spectrum(tmp_path, method):
    logged, outputs = Logged(), Outputs()
    model, _ = run(tmp_path, logged, outputs, method=method, limit_train_batches=2)
    spectra = read_spectra(tmp_path / "spectrum.bin")
    assert spectra.step.tolist() == [0, 1]
    dimensions = model.embedding_dimensions
    assert spectra.embeddings.shape == (2, min(63, dimensions))
    assert spectra.view_correlation.shape == (2, dimensions)
    for i, seen in enumerate(outputs.seen):
        for name in ("embeddings", "features"):
            expected = covariance_eigenvalues(seen[name][0]).numpy()
            np.testing.assert_allclose(getattr(spectra, name)[i], expected, rtol=1e-6, atol=1e-9)
    (row,) = logged.rows
    for name in ("embeddings", "features"):
        eigenvalues = covariance_eigenvalues(outputs.seen[1][name][0])
        for i in range(14):
            assert row[f"spectrum/{name}/l{i + 1}"] == pytest.approx(float(eigenvalues[i]), rel=1e-5)
        assert row[f"spectrum/{name}/condition_number"] == pytest.approx(float(condition_number(eigenvalues)), rel=1e-4)
        assert row[f"spectrum/{name}/entropy"] == pytest.approx(float(shannon_entropy(eigenvalues)), rel=1e-5)
        assert row[f"spectrum/{name}/effective_rank"] == pytest.approx(float(effective_rank(eigenvalues)), rel=1e-5)
        assert 1 <= row[f"spectrum/{name}/rankme"] <= 64.01
    assert row["spectrum/view_correlation"] == pytest.approx(float(spectra.view_correlation[1].mean()), rel=1e-5)
    predictor = outputs.predictors[1]
    assert ("spectrum/predictor/alignment" in row) == ("spectrum/predictor/l14" in row) == (predictor is not None)
    if predictor is not None:
        eigenvalues = torch.linalg.eigvalsh(predictor).flip(0)
        np.testing.assert_allclose(spectra.predictor[1], eigenvalues, rtol=1e-6, atol=1e-6)
        assert 0.9 < row["spectrum/predictor/alignment"] <= 1
    assert len(model.collapse_causes()) == 1, "settings as they are by default are no cause"


def test_a_training_step_hands_out_its_views_in_order():
    model, data = build("frossl")
    data.setup()
    views = data.make_views(next(iter(data.train_dataloader())))
    features, embeddings = model.embed(views.views)
    outputs = model.training_step(views, 0)
    for name, expected in (("features", features), ("embeddings", embeddings)):
        assert not any(x.requires_grad for x in outputs[name])
        torch.testing.assert_close(outputs[name], expected)


@pytest.mark.slow
def test_closed_form_methods_have_a_predictor():
    """Else the test above would pass without."""
    assert {n for n in METHODS if build(n)[0].linear_predictor() is not None} == {"directpred", "directcopy", "isoloss"}
    model, _ = build("directpred", "--model.use_predictor=false")
    assert model.linear_predictor() is None


@pytest.mark.slow
@pytest.mark.parametrize("method", ["frossl", "byol", "isoloss"])
def test_training_does_not_notice(tmp_path, method):
    """Weights, optimiser and random numbers are the same with and without it."""

    def trained(config):
        model, fitted = run(tmp_path, method=method, config=config, epochs=2)
        return model.state_dict() | {"random": torch.get_rng_state()}, fitted.optimizers[0].state_dict()["state"]

    (weights, momenta), (expected, expected_momenta) = trained(OFTEN), trained(SpectrumConfig(every_n_steps=0))
    assert weights.keys() == expected.keys()
    assert [key for key in weights if not torch.equal(weights[key], expected[key])] == []
    for key, state in momenta.items():
        assert all(torch.equal(torch.as_tensor(v), torch.as_tensor(expected_momenta[key][k])) for k, v in state.items())


def test_never_means_no_file_and_no_metrics(tmp_path):
    logged = Logged()
    run(tmp_path, logged, config=SpectrumConfig(every_n_steps=0))
    assert logged.rows == [{}]
    assert list(tmp_path.iterdir()) == []


def test_checked_first_regularly_and_at_the_end_of_each_epoch(tmp_path):
    logged = Logged()
    run(tmp_path, logged, config=SpectrumConfig(every_n_steps=3), epochs=3)
    spectra = read_spectra(tmp_path / "spectrum.bin")
    assert spectra.step.tolist() == [0, 3, 6, 7, 9, 11]
    assert spectra.epoch.tolist() == [0, 0.75, 1.5, 1.75, 2.25, 2.75]
    for row, i in zip(logged.rows, (1, 3, 5), strict=True):  # the epoch's last check
        assert row["spectrum/embeddings/l1"] == pytest.approx(spectra.embeddings[i, 0])


def test_with_accumulated_gradients_it_counts_optimiser_steps(tmp_path):
    run(tmp_path, epochs=2, accumulate_grad_batches=2)
    assert read_spectra(tmp_path / "spectrum.bin").step.tolist() == [0, 1, 2, 3]


def test_fewer_dimensions_than_fourteen_leave_out_what_needs_them(tmp_path):
    logged = Logged()
    run(tmp_path, logged, arguments=["--model.projector.output=5"])
    (row,) = logged.rows
    embeddings = {k.removeprefix("spectrum/embeddings/") for k in row if k.startswith("spectrum/embeddings/")}
    assert embeddings == {"l1", "l2", "l3", "l4", "l5", "entropy", "effective_rank", "rankme"}
    assert "spectrum/features/condition_number" in row
    assert "spectrum/saturation_step" not in row


def test_the_saturation_is_that_of_the_14th_eigenvalue_so_far(tmp_path, monkeypatch):
    logged, asked = Logged(), []

    def saturation_step(steps, values):
        asked.append((list(steps), list(values)))
        return 5 if len(asked) == 2 else None

    monkeypatch.setattr(module_under_test, "saturation_step", saturation_step)
    run(tmp_path, logged, config=SpectrumConfig(every_n_steps=3), epochs=2)
    assert [row.get("spectrum/saturation_step") for row in logged.rows] == [None, 5]
    spectra = read_spectra(tmp_path / "spectrum.bin")
    fourteenth = spectra.embeddings[:, 13].tolist()
    assert asked == [([0, 3], fourteenth[:2]), ([0, 3, 6, 7], fourteenth)]


class Interrupt(Exception):
    pass


class StopAfter(Callback):
    def __init__(self, steps):
        self.steps = steps

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if trainer.global_step == self.steps:
            raise Interrupt

    def on_train_epoch_start(self, trainer, module):
        if trainer.global_step == self.steps:
            raise Interrupt


def saved_run(folder, *, stop_after=None, resume=False, saved_every=1, config=OFTEN, method="directcopy"):
    """A run that saves checkpoints; returns what each of its epochs logged."""
    model, data = build(method)
    guard, logged = NonFiniteGuard(), Logged()
    keeper = RunCheckpoint(RunFolder(folder), CheckpointConfig(saved_every), {}, guard)
    callbacks = [guard, SpectrumCallback(RunFolder(folder).spectrum, config), logged, keeper]
    fitted = trainer(
        *callbacks, *([StopAfter(stop_after)] if stop_after is not None else []), epochs=3, limit_val_batches=0
    )
    try:
        path = RunFolder(folder).last if resume else None
        fitted.fit(model, datamodule=data, ckpt_path=path, weights_only=True)
    except Interrupt:
        assert stop_after is not None
    return logged.rows


@pytest.mark.slow
def test_stopped_at_any_step_and_resumed_the_file_ends_identical(tmp_path):
    rows = saved_run(tmp_path / "whole")
    whole = RunFolder(tmp_path / "whole").spectrum.read_bytes()
    for stop, saved_every in [(1, 1), (STEPS - 1, 1), (STEPS, 1), (STEPS + 1, 1), (STEPS + 3, 2), (2 * STEPS + 3, 0)]:
        folder = tmp_path / str(stop)
        saved_run(folder, stop_after=stop, saved_every=saved_every)
        with open(RunFolder(folder).spectrum, "ab") as file:
            file.write(b"half a record")
        resumed = saved_run(folder, resume=True)
        assert RunFolder(folder).spectrum.read_bytes() == whole, f"stopped after step {stop}"
        assert resumed == rows[-len(resumed) :]


@pytest.mark.slow
def test_results_that_come_late_are_the_same(tmp_path, monkeypatch):
    """As on a GPU, where a thread finds the eigenvalues while training goes on."""
    at_once = saved_run(tmp_path / "at once", saved_every=3)
    begun = []

    class Late(Future):
        """Not done before it is asked for its result."""

        def done(self):
            return False

    def begin(self, moments):
        begun.append(moments)
        late = Late()
        late.set_result(module_under_test._solve(moments))
        return late

    monkeypatch.setattr(SpectrumCallback, "_begin", begin)
    late = saved_run(tmp_path / "late", saved_every=3)
    assert len(begun) == 3 * STEPS
    assert late == at_once
    files = [RunFolder(tmp_path / name).spectrum.read_bytes() for name in ("at once", "late")]
    assert files[0] == files[1]
    for steps, written in (
        (3, [0, 1, 2]),
        (5, [0, 1, 2, 3]),
    ):  # what a checkpoint follows is there, else one is on its way
        stopped = tmp_path / f"stopped after {steps}"
        saved_run(stopped, saved_every=3, stop_after=steps)
        assert read_spectra(RunFolder(stopped).spectrum).step.tolist() == written
        saved_run(stopped, resume=True)
        assert RunFolder(stopped).spectrum.read_bytes() == files[0]


def test_a_batch_without_a_spectrum_is_passed_over(tmp_path, monkeypatch):
    calls = []

    def spectrum_of(moments):
        calls.append(1)
        if len(calls) == 1:
            raise torch.linalg.LinAlgError("did not converge")
        return original(moments) if 2 < len(calls) <= STEPS else None

    logged, original = Logged(), module_under_test.spectrum_of
    monkeypatch.setattr(module_under_test, "spectrum_of", spectrum_of)
    run(tmp_path, logged, epochs=2)
    assert read_spectra(tmp_path / "spectrum.bin").step.tolist() == [2, 3]
    assert [len(row) > 0 for row in logged.rows] == [True, False]


class Collapse(Callback):
    """Makes every embedding the same from one step to another, for those who look."""

    def __init__(self, first, last):
        self.first, self.last = first, last

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if self.first <= trainer.global_step - 1 <= self.last:
            outputs["embeddings"] = [torch.ones_like(z) for z in outputs["embeddings"]]


def collapsing(tmp_path, first, last, *, epochs=3, on_collapse="warn", checks=3, **kwargs):
    model, data = build("directpred", "--model.momentum=null", "--model.stop_gradient=false", **kwargs)
    guard = NonFiniteGuard()
    keeper = RunCheckpoint(RunFolder(tmp_path), CheckpointConfig(0), {}, guard)
    config = SpectrumConfig(every_n_steps=1, collapse_checks=checks)
    spectrum = SpectrumCallback(tmp_path / "spectrum.bin", config, on_collapse)
    fitted = trainer(Collapse(first, last), spectrum, keeper, epochs=epochs, limit_val_batches=0)
    resume = RunFolder(tmp_path).last if RunFolder(tmp_path).last.exists() else None
    try:
        fitted.fit(model, datamodule=data, ckpt_path=resume, weights_only=True)
        spectrum.raise_if_stopped()
    except CollapseStop:
        return fitted, True, keeper
    return fitted, False, keeper


class TestCollapse:
    def test_is_reported_once_with_place_and_causes(self, tmp_path, capsys):
        fitted, stopped, _ = collapsing(tmp_path, 3, 9)
        said = capsys.readouterr().err
        assert said.count("have collapsed") == 1
        assert "The embeddings have collapsed in epoch 2/3, step 6: their effective rank is 0.00, below 1.2" in said
        causes = said.index("gradients flow through both views (model.stop_gradient is false)")
        assert causes < said.index("there is no target network (model.momentum is null)")
        assert "the learning rate is too high (model.optimizer.lr 0.4, warmed up over 1 epochs)" in said
        assert "Training goes on, for early in a run this can pass" in said
        assert (fitted.global_step, stopped) == (12, False)

    def test_stops_the_run_saved_after_the_step(self, tmp_path, capsys):
        fitted, stopped, keeper = collapsing(tmp_path, 3, 9, on_collapse="stop")
        assert stopped
        assert fitted.global_step == keeper.saved_step == 6
        assert "The run ends" in capsys.readouterr().err
        fitted, stopped, _ = collapsing(tmp_path, 3, 9, on_collapse="stop")  # the same collapse does not stop it again
        assert (fitted.global_step, stopped) == (12, False)
        assert "have collapsed" not in capsys.readouterr().err
        assert read_spectra(tmp_path / "spectrum.bin").step.tolist() == list(range(12))

    def test_in_the_last_step_of_an_epoch_stops_after_it(self, tmp_path):
        fitted, stopped, keeper = collapsing(tmp_path, 5, 7, on_collapse="stop")
        assert stopped
        assert (fitted.current_epoch, fitted.global_step, keeper.saved_step) == (2, 8, 8)
        fitted, stopped, _ = collapsing(tmp_path, 5, 7, on_collapse="stop")
        assert (fitted.global_step, stopped) == (12, False)

    def test_in_the_last_step_of_all_stops_nothing(self, tmp_path, capsys):
        _, stopped, _ = collapsing(tmp_path, 5, 7, epochs=2, on_collapse="stop")
        assert not stopped
        assert "have collapsed" in capsys.readouterr().err

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("first", "last", "checks", "remark"),
        [
            (8, 11, 3, "the embeddings have collapsed: at the end their effective rank is 0.00, below 1.2"),
            (
                8,
                11,
                5,
                "the embeddings may have collapsed, or the run is too short to tell: at the end their effective",
            ),
            (8, 10, 3, None),
        ],
    )
    def test_a_run_that_ends_in_it_says_so(self, tmp_path, first, last, checks, remark):
        fitted, stopped, _ = collapsing(tmp_path, first, last, checks=checks)
        (spectrum,) = (callback for callback in fitted.callbacks if isinstance(callback, SpectrumCallback))
        assert not stopped
        assert (spectrum.remark or "").startswith(remark or "")
        assert (spectrum.remark is None) is (remark is None)

    def test_causes_name_what_the_method_has(self):
        def causes(method, *arguments):
            return build(method, *arguments)[0].collapse_causes()

        weights = causes(
            "frossl", "--model.variance_weight=0", "--model.optimizer.lr=3", "--model.schedule.warmup_epochs=0"
        )
        assert weights == [
            "model.variance_weight is 0",
            "the learning rate is too high (model.optimizer.lr 3, without warm-up)",
        ]
        assert len(causes("frossl", "--model.invariance_weight=0")) == 1
        assert "there is no predictor (model.use_predictor is false)" in causes(
            "directcopy", "--model.use_predictor=false"
        )
        assert not any("target network" in cause for cause in causes("byol"))

    @pytest.mark.parametrize(
        ("method", "arguments", "cause"),
        [
            ("frossl", ["invariance_weight=1e4"], "little works against collapse (model.invariance_weight 10000, by"),
            (
                "frossl",
                ["variance_weight=0.01"],
                "little works against collapse (model.variance_weight 0.01, by default 1",
            ),
            (
                "vicreg",
                ["invariance_weight=1000", "variance_weight=50"],
                "little works against collapse (model.invariance",
            ),
            (
                "barlow_twins",
                ["off_diagonal_weight=1e-5"],
                "little works against collapse (model.off_diagonal_weight 1e-05,",
            ),
            (
                "corinfomax",
                ["invariance_weight=1e5"],
                "little works against collapse (model.invariance_weight 100000, by",
            ),
            (
                "corinfomax",
                ["projector.output=64"],
                "the batch is small for the embeddings (data.batch_size 64, model.proj",
            ),
            (
                "byol",
                ["momentum.base_tau=1"],
                "the target network stays as it was at random (model.momentum.base_tau is 1)",
            ),
            (
                "byol",
                ["momentum.base_tau=0", "momentum.final_tau=0"],
                "the target network is the online one of the step",
            ),
            ("directpred", ["alpha=0.01"], "the predictor is nearly the identity (model.alpha is 0.01)"),
            ("isoloss", ["alpha=8"], "the predictor keeps little but the largest eigenvalues (model.alpha is 8)"),
        ],
    )
    def test_the_likely_cause_is_named_first(self, method, arguments, cause):
        first, *_, last = build(method, *(f"--model.{text}" for text in arguments))[0].collapse_causes()
        assert first.startswith(cause)
        assert last.startswith("the learning rate is too high")

    @pytest.mark.parametrize("weights", [["invariance_weight=1.4"], ["invariance_weight=50", "variance_weight=50"]])
    def test_weights_in_proportion_are_no_cause(self, weights):
        assert len(build("frossl", *(f"--model.{text}" for text in weights))[0].collapse_causes()) == 1


def stops(collapsed_on):
    """Whether each process stops when one of them found a collapse."""
    spectrum = SpectrumCallback("nowhere", on_collapse="stop")
    spectrum._collapse = "as told" if distributed.rank() == collapsed_on else None
    return spectrum._must_stop(SimpleNamespace(device="cpu"))


@pytest.mark.slow
def test_all_processes_stop_together(gloo_pool):
    assert gloo_pool.run(stops, 0) == [True, True]
    assert gloo_pool.run(stops, None) == [False, False]


@pytest.mark.parametrize(
    ("every", "given", "checks"),
    [(50, None, 20), (1, None, 1000), (400, None, 3), (300, None, 4), (50, 5, 5), (0, 2, 2)],
)
def test_a_collapse_must_last_a_thousand_steps_by_default(every, given, checks):
    config = SpectrumConfig(every_n_steps=every, collapse_checks=given)
    assert SpectrumCallback("nowhere", config)._watch.checks == checks


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"every_n_steps": -1}, "spectrum.every_n_steps is -1"),
        ({"collapse_rank": -1.0}, "spectrum.collapse_rank is -1.0"),
        ({"collapse_rank": math.nan}, "spectrum.collapse_rank is nan"),
        ({"collapse_checks": 0}, "spectrum.collapse_checks is 0"),
    ],
)
def test_values_out_of_range_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        SpectrumConfig(**values)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_the_thread_finds_what_the_cpu_does(tmp_path):
    callback = SpectrumCallback(tmp_path / "s.bin")
    g = torch.Generator().manual_seed(0)
    views = [torch.randn(64, 300, generator=g) for _ in range(2)]
    predictor = torch.eye(300, dtype=torch.float64)
    expected = module_under_test.spectrum_of(module_under_test.batch_moments(views, views, predictor))
    on_gpu = [x.cuda() for x in views]
    future = callback._begin(module_under_test.batch_moments(on_gpu, on_gpu, predictor.cuda()))
    for name, value in future.result().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-9, atol=1e-9, equal_nan=True)
    callback.teardown(None, None, "fit")

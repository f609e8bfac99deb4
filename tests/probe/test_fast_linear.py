import json

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from solo_frossl.data import Digits
from solo_frossl.probe import (
    FastLinearConfig,
    Features,
    extract_features,
    fast_linear_probe,
    fit_logistic,
    fit_ridge,
    linear_probe,
)
from solo_frossl.probe.fast_linear import _hold_out

NAMES = [f"class {c}" for c in range(5)]


def problem(count=200, seed=0, classes=5, noise=0.9, least=-1.5):
    """Noisy class centres in 8 dimensions, of variances 10^(2 least) to 100, far from zero; some have no label."""
    g = torch.Generator().manual_seed(seed)
    label = torch.arange(count) % classes
    centres = torch.randn(classes, 8, generator=torch.Generator().manual_seed(9))
    features = (centres[label] + noise * torch.randn(count, 8, generator=g)) * torch.logspace(least, 1, 8) + 7
    label[::9] = -1
    return Features(features, label, torch.arange(count))


def scaled(train):
    """Features as the documentation says that the solvers see them, float64."""
    x = train.labelled().features.double().numpy()
    x = x - x.mean(0)
    return x / np.sqrt(x.var(0).mean()), train.labelled().label.numpy()


def scores_of(classifier, features):
    return classifier(features.to(classifier.weight.dtype)).numpy()


class TestRidge:
    def test_equals_a_solve_for_every_penalty(self):
        train, penalties = problem(), [100.0, 1.0, 1e-2, 1e-5]
        s, y = scaled(train)
        targets = np.eye(5)[y]
        for penalty, fit in zip(penalties, fit_ridge(train, 5, penalties), strict=True):
            gram = s.T @ s / len(s) + penalty * np.eye(8)
            weight = np.linalg.solve(gram, s.T @ (targets - targets.mean(0)) / len(s))
            expected = s @ weight + targets.mean(0)
            np.testing.assert_allclose(scores_of(fit.classifier, train.labelled().features), expected, atol=1e-9)

    def test_more_features_than_rows(self):
        g = torch.Generator().manual_seed(0)
        train = Features(torch.randn(6, 30, generator=g), torch.tensor([0, 1, 2] * 2), torch.arange(6))
        (fit,) = fit_ridge(train, 3, [1e-3])
        assert scores_of(fit.classifier, train.features).argmax(1).tolist() == [0, 1, 2] * 2


class TestLogistic:
    @pytest.mark.parametrize("penalty", [1.0, 1e-2, 1e-5])
    def test_the_gradient_is_zero_at_the_solution(self, penalty):
        """The objective of the docstring, differentiated by autograd."""
        train = problem()
        s, y = (torch.from_numpy(x) for x in scaled(train))
        (fit,) = fit_logistic(train, 5, [penalty], tolerance=1e-7)  # float64 does not reach 1e-9 on every processor
        assert fit.converged
        scale = float(train.labelled().features.double().var(0, correction=0).mean().sqrt())
        mean = train.labelled().features.double().mean(0)
        weight = (fit.classifier.weight * scale).requires_grad_()
        bias = (fit.classifier.bias + fit.classifier.weight @ mean).requires_grad_()
        loss = nn.functional.cross_entropy(s @ weight.T + bias, y) + penalty / 2 * weight.square().sum()
        for gradient in torch.autograd.grad(loss, [weight, bias]):
            assert gradient.abs().max() < 1e-6

    @pytest.mark.parametrize("penalty", [1.0, 1e-2, 1e-4])
    def test_is_scikit_learn_s(self, penalty):
        train = problem()
        s, y = scaled(train)
        other = LogisticRegression(C=1 / (penalty * len(y)), tol=1e-10, max_iter=20000).fit(s, y)
        (fit,) = fit_logistic(train, 5, [penalty], tolerance=1e-9)
        ours = torch.from_numpy(scores_of(fit.classifier, train.labelled().features)).softmax(1).numpy()
        np.testing.assert_allclose(ours, other.predict_proba(s), atol=1e-6)

    def test_a_warm_start_changes_nothing(self):
        train, penalties = problem(), [10.0, 1e-1, 1e-3]
        warm = list(fit_logistic(train, 5, penalties, tolerance=1e-9))
        for penalty, fit in zip(penalties, warm, strict=True):
            (cold,) = fit_logistic(train, 5, [penalty], tolerance=1e-9)
            torch.testing.assert_close(fit.classifier.weight, cold.classifier.weight, atol=1e-6, rtol=1e-5)

    def test_rows_in_chunks(self, monkeypatch):
        whole = [fit.classifier.weight for fit in fit_logistic(problem(), 5, [0.1])]
        monkeypatch.setattr("solo_frossl.probe.fast_linear._CHUNK", 13)
        parts = [fit.classifier.weight for fit in fit_logistic(problem(), 5, [0.1])]
        torch.testing.assert_close(whole, parts)
        (ridge,) = fit_ridge(problem(), 5, [0.1])
        monkeypatch.undo()
        torch.testing.assert_close(ridge.classifier.weight, fit_ridge(problem(), 5, [0.1])[0].classifier.weight)

    def test_float32_comes_close(self):
        double, single = (
            next(fit_logistic(problem(), 5, [1e-2], tolerance=1e-4, dtype=dtype)).classifier.weight
            for dtype in (torch.float64, torch.float32)
        )
        assert single.dtype == torch.float32
        torch.testing.assert_close(single.double(), double, atol=1e-2, rtol=1e-2)

    def test_says_when_it_did_not_converge(self):
        (fit,) = fit_logistic(problem(), 5, [1e-6], max_iterations=3)
        assert not fit.converged
        assert fit.iterations <= 3


@pytest.mark.parametrize("solver", ["lbfgs", "ridge"])
class TestProbe:
    def test_never_looks_at_validation_labels_to_choose(self, solver):
        train, validation = problem(), problem(seed=1)
        config = FastLinearConfig(solver=solver)
        result = fast_linear_probe(train, validation, NAMES, config)
        other = validation._replace(label=(validation.label + 1) % 5, features=-validation.features)
        again = fast_linear_probe(train, other, NAMES, config)
        assert again.top1 != result.top1
        assert (again.penalty, again.sweep, again.train_top1) == (result.penalty, result.sweep, result.train_top1)

    def test_refits_on_all_training_images_with_the_penalty_of_the_lowest_held_out_loss(self, solver):
        train, validation = problem(), problem(seed=1)
        result = fast_linear_probe(train, validation, NAMES, FastLinearConfig(solver=solver))
        lowest = min(trial.loss for trial in result.sweep)
        assert result.penalty == max(trial.penalty for trial in result.sweep if trial.loss <= 1.001 * lowest)
        assert result.num_held_out == round(0.2 * result.num_train)
        assert result.protocol == solver
        given = fast_linear_probe(train, validation, NAMES, FastLinearConfig(solver=solver, penalty=result.penalty))
        assert (given.top1, given.confusion, given.sweep, given.num_held_out) == (result.top1, result.confusion, [], 0)
        fit = next(iter({"lbfgs": fit_logistic, "ridge": fit_ridge}[solver](train, 5, [result.penalty]))).classifier
        labelled = validation.labelled()
        predicted = scores_of(fit, labelled.features).argmax(1)
        assert result.top1 == pytest.approx(100 * float((predicted == labelled.label.numpy()).mean()))

    def test_the_seed_chooses_who_is_held_out(self, solver):
        train, validation = problem(), problem(seed=1)
        losses = [
            fast_linear_probe(train, validation, NAMES, FastLinearConfig(solver=solver), seed=seed).sweep[0].loss
            for seed in (0, 0, 1)
        ]
        assert losses[0] == losses[1] != losses[2]

    @pytest.mark.parametrize(("limits", "end"), [((1.0, 10.0), "weakest"), ((1e-9, 1e-8), "strongest")])
    def test_warns_of_a_penalty_at_the_end_of_the_range(self, solver, limits, end):
        train, validation = problem(noise=2.0, least=0.9), problem(seed=1)
        config = FastLinearConfig(solver=solver, penalty_range=limits, penalties=3)
        warning = fast_linear_probe(train, validation, NAMES, config).warning
        assert f"is the {end} that was tried: widen fast.penalty_range" in warning
        assert fast_linear_probe(train, validation, NAMES, FastLinearConfig(solver=solver)).warning is None

    def test_few_labels(self, solver):
        """A class of one image keeps it to be fitted; without any to hold out a penalty must be given."""
        config = FastLinearConfig(solver=solver)
        train = Features(problem().features[:8], torch.tensor([0, 1, 2, 3, 4, 0, 1, 0]), torch.arange(8))
        result = fast_linear_probe(train, problem(seed=1), NAMES, config)
        assert result.num_held_out == 2
        assert "chosen on 2 images of 5 classes: give more labels" in result.warning
        alone = train._replace(label=torch.tensor([0, 1, 2, 3, 4, -1, -1, -1]))
        with pytest.raises(ValueError, match=r"5 labelled training images of 5 classes .* give fast\.penalty"):
            fast_linear_probe(alone, problem(seed=1), NAMES, config)
        assert fast_linear_probe(alone, problem(seed=1), NAMES, FastLinearConfig(solver, penalty=1.0)).num_train == 5

    def test_constant_features_tell_nothing(self, solver):
        train = problem()._replace(features=torch.full((200, 8), 3.0))
        result = fast_linear_probe(train, train, NAMES, FastLinearConfig(solver=solver))
        share = train.labelled().label.bincount().max() / result.num_train
        assert result.top1 == pytest.approx(100 * float(share))

    def test_json(self, solver, tmp_path):
        result = fast_linear_probe(problem(), problem(seed=1), NAMES, FastLinearConfig(solver=solver))
        result.write(tmp_path / "linear.json", seed=0)
        read = json.loads((tmp_path / "linear.json").read_text())
        assert read["protocol"] == solver
        assert read["penalty"] == result.penalty
        assert read["sweep"][0] == {
            "penalty": 10.0,
            "top1": result.sweep[0].top1,
            "loss": result.sweep[0].loss,
            "iterations": result.sweep[0].iterations,
            "converged": True,
        }


def test_unconverged_is_a_warning():
    config = FastLinearConfig(penalty=1e-6, max_iterations=2)
    assert "stopped after 2 iterations" in fast_linear_probe(problem(), problem(seed=1), NAMES, config).warning


def test_a_tolerance_beyond_the_precision_is_told_as_such():
    """More iterations would not help."""
    config = FastLinearConfig(penalty=1e-3, tolerance=1e-13, precision="float32")
    warning = fast_linear_probe(problem(), problem(seed=1), NAMES, config).warning
    assert "as far as the precision reaches" in warning
    assert "max_iterations" not in warning


def test_the_penalty_is_chosen_on_images_that_are_not_fitted():
    train = problem().labelled()
    kept, held = _hold_out(train, 0.2, seed=3)
    assert len(held.label) == round(0.2 * len(train.label))
    assert sorted([*kept.index.tolist(), *held.index.tolist()]) == train.index.tolist()
    for part in (kept, held):  # each row with its own label and features
        assert torch.equal(part.features, torch.stack([train.features[train.index == i][0] for i in part.index]))
        assert torch.equal(part.label, torch.stack([train.label[train.index == i][0] for i in part.index]))


def test_says_what_is_wrong():
    train = problem()
    with pytest.raises(ValueError, match="labelled training images"):
        fast_linear_probe(train._replace(label=torch.full_like(train.label, -1)), train, NAMES)
    with pytest.raises(ValueError, match="label 4, and there are only 3 classes"):
        fit_ridge(train, 3, [1.0])
    with pytest.raises(ValueError, match="not finite"):
        fast_linear_probe(train._replace(features=train.features / 0), train, NAMES)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"solver": "sgd"}, r"fast\.solver"),
        ({"penalty": 0.0}, r"fast\.penalty "),
        ({"penalty_range": (1.0, 1.0)}, r"fast\.penalty_range"),
        ({"penalties": 1}, r"fast\.penalties"),
        ({"held_out": 1.0}, r"fast\.held_out"),
        ({"tolerance": 0.0}, r"fast\.tolerance"),
        ({"max_iterations": 0}, r"fast\.max_iterations"),
        ({"precision": "float16"}, r"fast\.precision"),
    ],
)
def test_config_refuses(values, named):
    with pytest.raises(ValueError, match=named):
        FastLinearConfig(**values)


@pytest.mark.slow
def test_agrees_with_the_slow_probe():
    """Digits as raw pixels: half a point on average over six splits, one image of one split being 0.28 points."""
    slow, fast = [], []
    for seed in range(6):
        data = Digits(seed=seed)
        data.setup()
        loaders = data.labelled_train_dataloader(), data.val_dataloader()
        train, validation = (extract_features(nn.Flatten(), loader, data.clean, "cpu") for loader in loaders)
        names = [str(name) for name in data.class_names]
        slow.append(linear_probe(train, validation, names, seed=seed).top1)
        fast.append(fast_linear_probe(train, validation, names, seed=seed).top1)
    assert np.mean(slow) > 96
    assert np.mean(fast) == pytest.approx(np.mean(slow), abs=0.5)

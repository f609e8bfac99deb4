"""Every method's step is the papers' formula: loss, gradient of every parameter, and what it remembers, to 1e-9."""

import inspect
from itertools import takewhile

import numpy as np
import pytest
import torch
import transcriptions
from tiny_methods import CASES, FORMULAS, STEPS, build, embeddings, images, move, progress

from solo_frossl.methods import METHODS, Method

BESIDE = {"freeze_prototypes_epochs", "watch_target", "predictor"}
"""Hyperparameters that are no part of an objective; tests of their own watch the first two, sizes the last."""


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_its_formula(name):
    assert name in FORMULAS, (
        f"the method {name} has no formula: write its equation in NumPy, as a function in tests/tiny_methods.py that is"
        " named in FORMULAS there, and name the method in CASES there, once for every form of its objective"
    )
    assert name in {case.method for case in CASES.values()}, f"CASES in tests/tiny_methods.py do not name {name}"


@pytest.mark.parametrize("name", METHODS)
def test_every_hyperparameter_matters_to_some_case(name):
    own = takewhile(lambda c: c is not Method, METHODS[name].__mro__)
    constructors = [inspect.signature(vars(c)["__init__"]) for c in own if "__init__" in vars(c)]
    defaults = {key: p.default for signature in reversed(constructors) for key, p in signature.parameters.items()}
    for key in defaults.keys() - {"self", "kwargs"} - BESIDE:
        values = [case.arguments[key] for case in CASES.values() if case.method == name and key in case.arguments]
        assert any(value != defaults[key] for value in values), (
            f"no case of {name} in tests/tiny_methods.py has another {key} than {defaults[key]!r}"
        )


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_a_step_is_the_formula(case):
    model = build(case)
    learnable = [key for key, p in model.named_parameters() if p.requires_grad]
    assert not [key for key in learnable if key.startswith("target")]
    for step in range(STEPS):
        move(model, seed=step)
        views = images(case, step)
        model.progress = progress(step)
        state = {key: value.numpy().copy() for key, value in model.state_dict().items()}
        arrays = [view.numpy() for view in views]

        def formula(*values, state=state, arrays=arrays, step=step):
            moved = state | dict(zip(learnable, values, strict=True))
            return FORMULAS[case.method](moved, arrays, step, **case.arguments)

        expected = formula(*(state[key] for key in learnable))
        torch.manual_seed(step)
        model.zero_grad()
        objective = model.objective(views)
        assert_close(objective.loss.item(), expected.loss, "loss")
        assert objective.terms.keys() == expected.terms.keys() == set(model.loss_terms)
        for key, value in expected.terms.items():
            assert_close(objective.terms[key].item(), value, key)
        for ours, theirs in zip(objective.embeddings, embeddings(state, arrays), strict=False):
            assert_close(ours.detach(), theirs, "embeddings")
        objective.loss.backward()
        gradients = transcriptions.gradients(lambda *v: formula(*v).loss, [state[key] for key in learnable])
        assert max(np.abs(gradient).max() for gradient in gradients) > 1e-3
        for key, gradient in zip(learnable, gradients, strict=True):
            ours = model.get_parameter(key).grad
            assert_close(np.zeros_like(gradient) if ours is None else ours, gradient, f"gradient of {key}")
        assert all(p.grad is None for p in model.parameters() if not p.requires_grad)
        for key, value in model.state_dict().items():
            assert_close(value, expected.changed.get(key, state[key]), key)


def assert_close(ours, theirs, what):
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9, err_msg=what)

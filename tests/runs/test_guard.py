"""A run that goes wrong is stopped where it goes wrong, and says where that was."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from solo_frossl.runs import NonFiniteError, NonFiniteGuard
from solo_frossl.runs.guard import assert_finite_weights

TRAINER = SimpleNamespace(current_epoch=3, global_step=41)


def outputs(**terms):
    return {"terms": {name: torch.tensor(value) for name, value in terms.items()}}


def test_finite_terms_pass():
    guard = NonFiniteGuard()
    guard.on_train_batch_end(TRAINER, None, outputs(loss=1.0, variance=-3.0), None, 5)
    guard.check(TRAINER)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_the_error_names_term_place_values_and_checkpoint(tmp_path, value):
    last = tmp_path / "last.ckpt"
    last.touch()
    guard = NonFiniteGuard(last_checkpoint=last)
    with pytest.raises(NonFiniteError) as error:
        guard.on_train_batch_end(TRAINER, None, outputs(loss=value, variance=value, invariance=2.0), None, 5)
    for text in ("train/variance", "epoch 4, batch 6 (step 41)", "invariance 2", str(last), "learning rate"):
        assert text in str(error.value), text


def test_without_a_checkpoint_it_says_so(tmp_path):
    guard = NonFiniteGuard(last_checkpoint=tmp_path / "none.ckpt")
    with pytest.raises(NonFiniteError, match="No checkpoint was written yet"):
        guard.on_train_batch_end(TRAINER, None, outputs(loss=float("nan")), None, 0)


def test_weights_are_looked_at_before_validation():
    module = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    NonFiniteGuard().on_validation_start(TRAINER, module)
    nn.init.constant_(module[1].bias, float("nan"))
    with pytest.raises(NonFiniteError, match=r"the weight 1\.bias is not finite after step 41 \(epoch 4\)"):
        NonFiniteGuard().on_validation_start(TRAINER, module)


def test_large_but_finite_weights_pass():
    module = nn.Linear(4, 4)
    nn.init.constant_(module.weight, 1e30)  # the sum of squares overflows
    assert_finite_weights(TRAINER, module)

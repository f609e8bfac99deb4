import pytest
import torch
from torch import nn

from solo_frossl.probe import BackboneMismatchError, load_backbone_weights


def network(width=4):
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width))


def checkpoint(backbone):
    return {f"backbone.{k}": v for k, v in backbone.state_dict().items()} | {"projector.weight": torch.ones(2)}


def test_loads_every_weight_and_buffer():
    source, target = network(), network()
    source[1].running_mean.fill_(3.0)
    load_backbone_weights(target, checkpoint(source), "last.ckpt")
    torch.testing.assert_close(target.state_dict(), source.state_dict(), rtol=0, atol=0)


def test_lists_all_that_differs_and_leaves_the_backbone_alone():
    target = network()
    before = {k: v.clone() for k, v in target.state_dict().items()}
    state = checkpoint(network(5))
    del state["backbone.0.bias"], state["backbone.1.running_var"]
    state["backbone.fc.weight"] = state["backbone.extra"] = torch.ones(1)
    with pytest.raises(BackboneMismatchError) as error:
        load_backbone_weights(target, state, "runs/a/last.ckpt")
    message = str(error.value)
    assert "runs/a/last.ckpt does not fit this Sequential" in message
    assert "missing from the checkpoint: 0.bias, 1.running_var" in message
    assert "not in this backbone: extra, fc.weight" in message
    assert "0.weight is (5, 3, 3, 3), must be (4, 3, 3, 3)" in message
    assert "1.running_mean is (5,), must be (4,)" in message
    torch.testing.assert_close(target.state_dict(), before, rtol=0, atol=0)


@pytest.mark.parametrize("state", [{}, {"encoder.0.weight": torch.ones(1)}])
def test_a_file_without_a_backbone_is_refused(state):
    with pytest.raises(BackboneMismatchError, match=r"holds no weights named 'backbone\.\*'"):
        load_backbone_weights(network(), state, "other.ckpt")

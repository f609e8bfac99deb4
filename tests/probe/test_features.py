from contextlib import contextmanager

import pytest
import torch
from torch import nn

from solo_frossl.probe import Features, extract_features


def test_each_image_once_in_eval_mode_and_training_mode_comes_back(data, method):
    modes = [m.training for m in method.modules()]
    before = {k: v.clone() for k, v in method.state_dict().items()}
    found = extract_features(method.backbone, data.val_dataloader(), data.clean, "cpu")
    assert [m.training for m in method.modules()] == modes
    assert False in modes
    assert True in modes
    torch.testing.assert_close(method.state_dict(), before)  # BatchNorm saw nothing
    with torch.no_grad():
        expected = method.backbone.eval()(data.val.images / 127.5 - 1)
    torch.testing.assert_close(found.features, expected)
    assert torch.equal(found.label, data.val.labels)
    assert found.index.tolist() == list(range(22))
    assert not found.features.requires_grad


def test_raw_pixels(data):
    raw = extract_features(nn.Flatten(), data.val_dataloader(), data.clean, "cpu")
    torch.testing.assert_close(raw.features, (data.val.images / 127.5 - 1).flatten(1))


def test_forward_passes_run_at_the_given_precision(data, method):
    entered = []

    @contextmanager
    def precision():
        entered.append(True)
        with torch.autocast("cpu", torch.bfloat16):
            yield

    low = extract_features(method.backbone, data.val_dataloader(), data.clean, "cpu", precision).features
    full = extract_features(method.backbone, data.val_dataloader(), data.clean, "cpu").features
    assert len(entered) == 3
    assert low.dtype == torch.float32
    assert not torch.equal(low, full)
    torch.testing.assert_close(low, full, atol=0.05, rtol=0.05)


def test_labelled_and_gathered():
    features = Features(torch.arange(3.0)[:, None], torch.tensor([2, -1, 0]), torch.tensor([7, 1, 3]))
    assert features.labelled().index.tolist() == [7, 3]
    assert features.gathered().features.flatten().tolist() == [1.0, 2.0, 0.0]


def test_says_what_is_wrong(data):
    with pytest.raises(ValueError, match="no batch"):
        extract_features(nn.Flatten(), [], data.clean, "cpu")
    with pytest.raises(ValueError, match=r"Identity gave \(8, 3, 4, 4\) for 8 images of \(3, 4, 4\)"):
        extract_features(nn.Identity(), data.train_dataloader(), data.clean, "cpu")

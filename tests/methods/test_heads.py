import pytest
import torch
from torch import nn
from torch.nn import functional as F

from solo_frossl.methods.heads import OnlineClassifier, ProjectorConfig, build_projector


def test_the_projector_of_the_table():
    projector = build_projector(512, ProjectorConfig(hidden=2048, output=1024, layers=3))
    assert [(m.in_features, m.out_features) for m in projector if isinstance(m, nn.Linear)] == [
        (512, 2048),
        (2048, 2048),
        (2048, 1024),
    ]
    assert sum(isinstance(m, nn.BatchNorm1d) for m in projector) == 2
    assert isinstance(projector[-1], nn.Linear)


def test_one_layer_is_linear_and_norms_can_be_left_out():
    assert [type(m) for m in build_projector(8, ProjectorConfig(4, 3, layers=1))] == [nn.Linear]
    assert not any(isinstance(m, nn.BatchNorm1d) for m in build_projector(8, ProjectorConfig(4, 3, 3, False)))


@pytest.mark.parametrize("field", ["hidden", "output", "layers"])
def test_impossible_sizes_are_refused(field):
    with pytest.raises(ValueError, match=f"projector.{field} is 0"):
        ProjectorConfig(**{field: 0})


def test_unlabelled_samples_change_neither_loss_nor_accuracy():
    torch.manual_seed(0)
    classifier = OnlineClassifier(6, 4)
    logits = [torch.randn(5, 4), torch.randn(5, 4)]
    label = torch.tensor([0, -1, 2, 3, -1])
    known = label >= 0
    expected = sum(F.cross_entropy(x[known], label[known]) for x in logits) / 2
    torch.testing.assert_close(classifier.loss(logits, label), expected)
    correct, count = classifier.hits(logits, label)
    assert count == 6
    assert correct == sum((x[known].argmax(1) == label[known]).sum() for x in logits)


def test_a_batch_without_any_label_costs_nothing_and_gives_zero_gradients():
    classifier = OnlineClassifier(6, 4)
    loss = classifier.loss([classifier(torch.randn(5, 6))], torch.full((5,), -1))
    loss.backward()
    assert loss == 0
    assert (classifier.weight.grad == 0).all()

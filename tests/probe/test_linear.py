import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from solo_frossl.batch import Views
from solo_frossl.probe import (
    BASELINE_RATES,
    Features,
    LinearConfig,
    augmented_batches,
    evaluate_linear,
    fit_linear,
    linear_and_knn,
    linear_probe,
    shuffled_batches,
)

NAMES = [f"class {c}" for c in range(7)]


def problem(count=300, seed=0, classes=7, noise=0.9):
    """Noisy class centres in 12 dimensions; one row in seven has no label."""
    g = torch.Generator().manual_seed(seed)
    label = torch.arange(count) % classes
    centres = torch.randn(classes, 12, generator=torch.Generator().manual_seed(9))
    features = centres[label] + noise * torch.randn(count, 12, generator=g)
    label[::7] = torch.where(torch.arange(len(label[::7])) % 2 == 0, -1, label[::7])
    return Features(features, label, torch.arange(count))


def test_sgd_is_that_of_the_equations():
    """Softmax regression with momentum in NumPy, on the same batches."""
    train, config = problem(64), LinearConfig(epochs=5, batch_size=16, learning_rate=0.5, weight_decay=0.01)
    batches = shuffled_batches(train, 16, seed=3)
    weight, velocity = np.zeros((7, 13)), np.zeros((7, 13))
    for epoch in range(5):
        rate = 0.5 * 16 / 256 * 0.1 ** ((epoch >= 3) + (epoch >= 4))
        for x, y in batches(epoch):
            x = np.hstack([x.double().numpy(), np.ones((len(x), 1))])
            p = np.exp(x @ weight.T)
            p /= p.sum(1, keepdims=True)
            gradient = (p - np.eye(7)[y.numpy()]).T @ x / len(x) + 0.01 * weight
            velocity = 0.9 * velocity + gradient
            weight -= rate * velocity
    classifier = fit_linear(batches, 12, 7, config, "cpu")
    torch.testing.assert_close(classifier.weight.double(), torch.tensor(weight[:, :12]), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(classifier.bias.double(), torch.tensor(weight[:, 12]), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "config", [LinearConfig(), LinearConfig(optimizer="adam", learning_rate=5e-2)], ids=lambda c: c.optimizer
)
def test_is_as_good_as_logistic_regression(config):
    train, validation = problem(700).labelled(), problem(700, seed=1).labelled()
    result = linear_probe(train, validation, NAMES, config)
    other = LogisticRegression(max_iter=1000).fit(train.features, train.label)
    assert result.top1 > 70
    assert result.top1 == pytest.approx(100 * other.score(validation.features, validation.label), abs=1.5)


def test_adam_is_torch_s():
    train = problem(64)
    batches = shuffled_batches(train, 16, seed=3)
    config = LinearConfig(optimizer="adam", epochs=2, batch_size=16, learning_rate=0.5, weight_decay=0.01, decay_at=())
    expected = nn.Linear(12, 7)
    optimizer = torch.optim.Adam([*expected.parameters()], lr=0.5 * 16 / 256, weight_decay=0.01)
    with torch.no_grad():
        expected.weight.zero_(), expected.bias.zero_()
    for x, y in [batch for epoch in range(2) for batch in batches(epoch)]:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(expected(x), y).backward()
        optimizer.step()
    torch.testing.assert_close(fit_linear(batches, 12, 7, config, "cpu").weight, expected.weight)


def test_the_seed_decides_everything():
    train, config = problem(), LinearConfig(epochs=3, batch_size=32)
    weights = []
    for seed in (0, 0, 1):
        torch.manual_seed(len(weights))  # the global generator is not asked
        weights.append(fit_linear(shuffled_batches(train, 32, seed), 12, 7, config, "cpu").weight)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(("images", "batch_size"), [(4095, 32), (4096, 256)])
def test_the_batch_size_of_few_images(images, batch_size):
    """Counted in labelled images; the first epoch alone, so that the rate is that of the batch size as well."""
    centre, g = torch.arange(3).repeat(2000)[:images], torch.Generator().manual_seed(0)
    train = Features(torch.randn(images, 4, generator=g), centre, torch.arange(images))
    more = Features(*(torch.cat([part, part[:99]]) for part in train))
    more.label[images:] = -1
    usual, given = LinearConfig(epochs=1, decay_at=()), LinearConfig(epochs=1, decay_at=(), batch_size=batch_size)
    expected = fit_linear(shuffled_batches(train, batch_size, 0), 4, 3, given, "cpu")
    expected = evaluate_linear(expected, train, train, ["a", "b", "c"])
    assert linear_probe(train, train, ["a", "b", "c"], usual) == expected
    assert linear_probe(more, train, ["a", "b", "c"], usual) == expected
    other = replace(usual, batch_size=288 - batch_size)
    assert linear_probe(train, train, ["a", "b", "c"], other) != expected


def test_an_epoch_has_every_labelled_row_once():
    train = problem()
    batches = shuffled_batches(train, 32, seed=0)
    epochs = [torch.cat([x for x, _ in batches(e)]) for e in (0, 1)]
    assert not torch.equal(*epochs)
    for rows in epochs:
        assert torch.equal(rows[rows[:, 0].argsort()], (x := train.labelled().features)[x[:, 0].argsort()])


def test_unlabelled_rows_do_not_train():
    x, y = problem(64).labelled()[:2]
    noise = torch.full((5,), -1)

    def fit(features, label):
        return fit_linear(lambda epoch: [(features, label)], 12, 7, LinearConfig(epochs=4), "cpu").weight

    torch.testing.assert_close(fit(torch.cat([x, 9 * x[:5]]), torch.cat([y, noise])), fit(x, y))
    assert torch.equal(fit(x[:5], noise), torch.zeros(7, 12))  # a batch without any label


def test_result_is_counted_right():
    """Against counts made by hand: three classes, one of them without validation images, one row unlabelled."""
    classifier = nn.Linear(3, 3, bias=False)
    nn.init.eye_(classifier.weight)
    features = Features(torch.eye(3)[[0, 0, 1, 0, 2]], torch.tensor([0, 0, 1, 1, -1]), torch.arange(5))
    result = evaluate_linear(classifier, features, features, ["a", "b", "c"])
    assert result.top1 == result.train_top1 == 75
    assert result.top5 is None
    assert result.per_class == {"a": 100, "b": 50, "c": None}
    assert result.confusion == [[2, 0, 0], [1, 1, 0], [0, 0, 0]]
    assert (result.num_train, result.num_validation, result.num_features) == (4, 4, 3)


def test_top5():
    classifier = nn.Linear(7, 7, bias=False)
    nn.init.eye_(classifier.weight)
    scores = torch.tensor([[7.0, 6, 5, 4, 3, 2, 1]]).repeat(7, 1)
    features = Features(scores, torch.arange(7), torch.arange(7))
    assert evaluate_linear(classifier, features, features, NAMES).top5 == pytest.approx(500 / 7)


def test_json_round_trip(tmp_path):
    result = linear_probe(problem(), problem(seed=1), NAMES, LinearConfig(epochs=2))
    result.write(tmp_path / "linear.json", checkpoint="runs/a", seed=0)
    read = json.loads((tmp_path / "linear.json").read_text())
    assert read["checkpoint"] == "runs/a"
    assert read["top1"] == result.top1
    assert list(read["per_class"]) == NAMES
    assert np.sum(read["confusion"]) == read["num_validation"]
    assert [p.name for p in tmp_path.iterdir()] == ["linear.json"]


def test_augmented_training_sends_each_epochs_views_through_the_frozen_backbone(data, method):
    loader, seen = data.train_dataloader(), []

    def prepare(batch):
        seen.append(batch.epoch)
        image = data.clean(batch).image
        return Views([image, image.flip(-1)], batch.label, batch.index)

    before = {k: v.clone() for k, v in method.state_dict().items()}
    batches = augmented_batches(method.backbone, loader, prepare, "cpu")
    first = list(batches(0))
    assert [tuple(x.shape) for x, _ in first] == [(16, 6)] * 4
    fit_linear(batches, 6, 3, LinearConfig(epochs=2, batch_size=8), "cpu")
    assert seen == [0] * 4 + [0] * 4 + [1] * 4
    torch.testing.assert_close(method.state_dict(), before, rtol=0, atol=0)
    assert all(p.grad is None for p in method.parameters())
    image = data.clean(next(iter(loader))).image  # the loader is at epoch 1 by now
    with torch.no_grad():
        expected = method.backbone.eval()(image)
    torch.testing.assert_close(next(iter(batches(1)))[0][:8], expected)


def test_a_baseline_gets_the_best_of_several_rates():
    """Noisy features of large norm, as raw pixels are, on which the probe's own rate overshoots."""
    data = problem(noise=3.0), problem(noise=3.0, seed=1)
    train, validation = (Features(30 * p.features, p.label, p.index) for p in data)
    config = LinearConfig(epochs=10)
    plain = linear_and_knn("raw", train, validation, NAMES, linear=config)
    best = linear_and_knn("raw", train, validation, NAMES, linear=config, rates=BASELINE_RATES)
    assert best.linear_top1 > plain.linear_top1
    assert best.knn_top1 == plain.knn_top1 > 20
    assert best.dimension == 12
    assert 1 < best.effective_rank <= 12


def test_says_what_is_wrong():
    train = problem()
    nothing = train._replace(label=torch.full_like(train.label, -1))
    with pytest.raises(ValueError, match="labelled training images"):
        linear_probe(nothing, train, NAMES)
    with pytest.raises(ValueError, match="labelled validation images"):
        linear_probe(train, nothing, NAMES, LinearConfig(epochs=1))
    with pytest.raises(ValueError, match="7 different class names"):
        linear_probe(train, train, ["same"] * 7, LinearConfig(epochs=1))
    with pytest.raises(FloatingPointError, match=r"lower linear\.learning_rate"):
        linear_probe(train, train, NAMES, LinearConfig(epochs=3, learning_rate=1e38))


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"epochs": 0}, "linear.epochs"),
        ({"batch_size": 0}, "linear.batch_size"),
        ({"learning_rate": -1.0}, "linear.learning"),
        ({"decay_at": (60,)}, "fractions"),
        ({"optimizer": "lars"}, "linear.optimizer"),
    ],
)
def test_config_refuses(values, named):
    with pytest.raises(ValueError, match=named):
        LinearConfig(**values)

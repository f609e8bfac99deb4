import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import multiclass_accuracy

from solo_frossl.probe import KNNConfig, knn_accuracy, knn_classify, knn_sweep
from solo_frossl.probe.knn import knn_hits


def reference(features, bank, labels, k, temperature, num_classes):
    """Wu et al. 2018, Sec. 3.4, one query and one neighbour at a time; votes over that of the nearest row."""
    features, bank, labels = (x.double().numpy() for x in (features, bank, labels))
    scores = np.zeros((len(features), num_classes))
    rows = [i for i in range(len(bank)) if labels[i] >= 0]
    for q, feature in enumerate(features):
        similarity = {i: np.dot(feature, bank[i]) / np.linalg.norm(feature) / np.linalg.norm(bank[i]) for i in rows}
        nearest = sorted(rows, key=lambda i: -similarity[i])[:k]
        for i in nearest:
            scores[q, int(labels[i])] += np.exp((similarity[i] - similarity[nearest[0]]) / temperature)
    return scores


@pytest.fixture
def problem():
    g = torch.Generator().manual_seed(0)
    features, bank = torch.randn(17, 5, generator=g), torch.randn(61, 5, generator=g) * 7
    return features, bank, torch.randint(-1, 4, (61,), generator=g)


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.07), (5, 0.5), (20, 0.07), (1000, 0.07)])
def test_equals_the_equation(problem, k, temperature):
    scores = knn_classify(*problem, k=k, temperature=temperature, num_classes=4)
    torch.testing.assert_close(
        scores.double(), torch.tensor(reference(*problem, k, temperature, 4)), atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize("chunk", [(1, 1), (4, 7), (17, 3), (100, 100)])
def test_does_not_depend_on_the_chunks(problem, chunk):
    whole = knn_classify(*problem, k=9, num_classes=4)
    torch.testing.assert_close(knn_classify(*problem, k=9, num_classes=4, chunk=chunk), whole, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("chunk", [(1, 1), (2, 2), (3, 5), (9, 40)])
def test_among_equal_rows_the_earlier_ones_vote(chunk):
    bank = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).repeat(20, 1)
    labels = torch.arange(40) // 2  # rows 0, 2, 4 are the first three that equal the query
    scores = knn_classify(torch.tensor([[2.0, 0.0]]).repeat(9, 1), bank, labels, k=3, num_classes=20, chunk=chunk)
    assert torch.equal(scores, (torch.arange(20) < 3).float().expand(9, -1))


def test_any_temperature_gives_finite_votes(problem):
    for temperature in (1e-6, 1e6):
        assert knn_classify(*problem, temperature=temperature, num_classes=4).isfinite().all()


def test_classes_that_tie_share_their_places():
    scores = torch.tensor([[3.0, 2.0, 0.0], [3.0, 3.0, 0.0], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    labels = torch.tensor([1, 0, 2, -1])
    assert knn_hits(scores, labels).tolist() == [0.5, 3]
    assert knn_hits(scores, labels, top_k=2).tolist() == [2.5, 3]
    assert knn_accuracy(scores, labels, top_k=2) == pytest.approx(250 / 3)


def test_accuracy_without_ties_is_that_of_torchmetrics():
    scores, labels = torch.rand(40, 6), torch.randint(-1, 6, (40,))
    for top_k in (1, 5):
        expected = multiclass_accuracy(scores, labels, 6, average="micro", top_k=top_k, ignore_index=-1)
        assert knn_accuracy(scores, labels, top_k=top_k) == pytest.approx(100 * float(expected))


def test_accuracy_without_labels_is_nan():
    assert knn_accuracy(torch.ones(2, 3), torch.tensor([-1, -1])).isnan()


def test_says_what_is_wrong(problem):
    features, bank, labels = problem
    with pytest.raises(ValueError, match=r"\(17, 4\), \(61, 5\) and \(61,\)"):
        knn_classify(features[:, :4], bank, labels, num_classes=4)
    with pytest.raises(ValueError, match="at least one labelled row"):
        knn_classify(features, bank, torch.full((61,), -1), num_classes=4)
    with pytest.raises(ValueError, match="label 3, and there are only 3 classes"):
        knn_classify(features, bank, labels, num_classes=3)
    with pytest.raises(ValueError, match="k-NN bank are not finite"):
        knn_classify(features, bank / 0, labels, num_classes=4)
    with pytest.raises(ValueError, match="must be positive"):
        knn_classify(features, bank, labels, k=0, num_classes=4)


@pytest.mark.parametrize(
    ("values", "named"),
    [({"k": 0}, "knn.k"), ({"temperature": 0.0}, "knn.temp"), ({"every_n_epochs": -1}, "knn.every")],
)
def test_config_refuses(values, named):
    with pytest.raises(ValueError, match=named):
        KNNConfig(**values)


@pytest.mark.parametrize("chunk", [(4, 7), (1024, 16384)])
def test_several_k_at_once_are_exactly_the_separate_ones(problem, chunk):
    features, bank, labels = problem
    bank = torch.cat([bank, bank[:20]])  # rows that tie
    labels = torch.cat([labels, labels[:20].flip(0)])
    ks = [20, 1, 5, 200]
    votes = knn_sweep(features, bank, labels, ks=ks, temperature=0.1, num_classes=4, chunk=chunk)
    assert list(votes) == ks
    for k in ks:
        alone = knn_classify(features, bank, labels, k=k, temperature=0.1, num_classes=4, chunk=chunk)
        assert torch.equal(votes[k], alone)


@pytest.mark.parametrize("ks", [[], [5, 0]])
def test_a_sweep_needs_neighbours(problem, ks):
    with pytest.raises(ValueError, match="must be positive"):
        knn_sweep(*problem, ks=ks, num_classes=4)

"""Samples, weights, and the Siamese losses of them, which are the product's."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from siamese_networks import (
    COSINE,
    INPUTS,
    ISO,
    NO_PREDICTOR,
    NO_STOP_GRADIENT,
    OUTPUTS,
    PLAIN,
    SEEDS,
    gradient,
    name,
    orthonormal,
    random,
    weights,
)

from solo_frossl.losses.closed_form import (
    asymmetric_cosine_loss,
    asymmetric_euclidean_loss,
    iso_cosine_loss,
    iso_euclidean_loss,
)
from solo_frossl.theory.flow import descend
from solo_frossl.theory.siamese import (
    LOSSES,
    Siamese,
    alignment,
    balanced_views,
    correlation,
    draw_views,
    eigenvalues,
    expected_loss,
    fresh_loss,
    imbalance,
    mode_weights,
    predictor,
    predictor_eigenvalues,
    sample_loss,
    trainable_loss,
)


def some_views(*seeds):
    return draw_views(7, INPUTS, 0.5, torch.Generator().manual_seed(1), seeds)


class TestViews:
    def test_balanced_ones_have_exactly_the_moments(self):
        view1, view2 = balanced_views(5, 0.3)
        count, eye = len(view1), torch.eye(5, dtype=torch.float64)
        assert count == 30
        for view in (view1, view2):
            torch.testing.assert_close(view.T @ view / count, 1.09 * eye, rtol=1e-12, atol=1e-12)
            assert float(view.mean(0).abs().max()) < 1e-12
        torch.testing.assert_close(view1.T @ view2 / count, eye, rtol=1e-12, atol=1e-12)

    def test_drawn_ones_have_them_nearly_and_every_seed_its_own(self):
        generator = torch.Generator().manual_seed(0)
        view1, view2 = draw_views(20_000, 3, 0.5, generator, (2,))
        assert view1.shape == view2.shape == (2, 20_000, 3)
        assert not torch.equal(view1[0], view1[1])
        eye = torch.eye(3, dtype=torch.float64).expand(2, 3, 3)
        torch.testing.assert_close(view1.mT @ view1 / 20_000, 1.25 * eye, rtol=0, atol=0.05)
        torch.testing.assert_close(view1.mT @ view2 / 20_000, eye, rtol=0, atol=0.05)


class TestCorrelation:
    @pytest.mark.parametrize("relu", [False, True])
    @pytest.mark.parametrize("noisy", [False, True])
    def test_is_that_of_samples(self, relu, noisy):
        siamese = Siamese("euclidean", sigma=0.5, noisy_correlation=noisy)
        w = weights(SEEDS)
        w[1, 0] = 0  # an output that is always 0
        view, _ = draw_views(200_000, INPUTS, 0.5 if noisy else 0.0, torch.Generator().manual_seed(1))
        z = view @ w.mT
        z = z.relu() if relu else z
        torch.testing.assert_close(
            correlation(w, siamese, relu=relu), z.mT @ z / len(view), rtol=0.02, atol=0.003, check_stride=False
        )
        expected = torch.linalg.eigvalsh(correlation(w, replace(siamese, noisy_correlation=False), relu=relu)).flip(-1)
        torch.testing.assert_close(eigenvalues(w, relu=relu), expected)

    def test_weights_have_the_eigenvalues_they_are_made_of(self):
        s = np.array([[3.0, 1.0, 0.5], [2.0, 0.2, 0.0]])
        w = mode_weights(s, outputs=orthonormal(4, 3), vectors=orthonormal(5, 3, 1))
        assert w.shape == (2, 4, 5)
        np.testing.assert_allclose(eigenvalues(w)[:, :3], s, atol=1e-12)

    @pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
    @pytest.mark.parametrize("normalize", [False, True])
    @pytest.mark.parametrize("noisy", [False, True])
    def test_the_predictor_has_its_eigenvectors_and_a_power_of_its_eigenvalues(self, alpha, normalize, noisy):
        siamese = Siamese("cosine", alpha=alpha, normalize=normalize, noisy_correlation=noisy)
        w = weights(SEEDS)
        w_p, c = predictor(w, siamese), w @ w.mT
        torch.testing.assert_close(w_p @ c, c @ w_p)
        s = eigenvalues(w).numpy()
        expected = (s / s.max(-1, keepdims=True) if normalize else s * (1.01 if noisy else 1)) ** alpha
        np.testing.assert_allclose(torch.linalg.eigvalsh(w_p).flip(-1), expected, rtol=1e-9)
        np.testing.assert_allclose(predictor_eigenvalues(s, siamese), expected, rtol=1e-12)
        assert predictor(w, NO_PREDICTOR) is None


class TestSampleLosses:
    @pytest.mark.parametrize("siamese", LOSSES, ids=name)
    def test_are_the_equations_in_the_predictors_eigenspace(self, siamese):
        """Lemma 1 and Appendix C, mode by mode."""
        siamese = replace(siamese, alpha=0.5)
        view1, view2 = some_views()
        w = weights()
        s, u = (x.numpy() for x in torch.linalg.eigh(w @ w.T))
        lam = np.ones(OUTPUTS) if siamese.variant == "no_predictor" else s**0.5
        a, b = ((view @ w.T).numpy() @ u for view in (view1, view2))
        predicted = a * lam
        long, short = np.linalg.norm(predicted, axis=1), np.linalg.norm(b, axis=1)
        along = (predicted * b).sum(1)
        if siamese.similarity == "euclidean":
            expected = ((predicted - b) ** 2).sum(1) / 2
        elif siamese.variant == "iso":
            expected = -(a * b).sum(1) / (long * short) + along / (long**3 * short) * (lam * a * a).sum(1) / 2
        else:
            expected = -along / (long * short)
        assert float(sample_loss(w, view1, view2, siamese)) == pytest.approx(expected.mean(), rel=1e-10)

    @pytest.mark.parametrize("siamese", LOSSES, ids=name)
    def test_and_their_gradients_are_the_products(self, siamese):
        function = {
            "euclidean": (asymmetric_euclidean_loss, iso_euclidean_loss),
            "cosine": (asymmetric_cosine_loss, iso_cosine_loss),
        }[siamese.similarity][siamese.variant == "iso"]
        options = {"stop_gradient": False} if siamese.variant == "no_stop_gradient" else {}
        view1, view2 = some_views()
        c = weights() @ weights().T
        w_p = None if siamese.variant == "no_predictor" else c
        expected = gradient(lambda w: function(view1 @ w.T, view2 @ w.T, w_p, **options), weights())
        torch.testing.assert_close(gradient(lambda w: sample_loss(w, view1, view2, siamese), weights()), expected)

    @pytest.mark.parametrize("relu", [False, True])
    @pytest.mark.parametrize("siamese", LOSSES, ids=name)
    def test_seeds_are_apart(self, siamese, relu):
        w = weights(SEEDS, 1)
        shared = some_views()
        own = some_views(SEEDS, 1)
        for views in (shared, own):
            together = sample_loss(w, *views, siamese, relu=relu)
            assert together.shape == (SEEDS, 1)
            for i in range(SEEDS):
                alone = sample_loss(w[i, 0], *(v if v.ndim == 2 else v[i, 0] for v in views), siamese, relu=relu)
                assert float(together[i, 0]) == pytest.approx(float(alone), rel=1e-12)

    @pytest.mark.parametrize("alpha", [0.5, 1.0])
    def test_euclidean_isoloss_has_the_value_of_the_plain_one_and_its_gradient_but_for_the_predictor(self, alpha):
        """Eqs. 15 and 3: equal values, W_P grad_iso = grad."""
        views, w = some_views(), weights()
        plain, iso = (replace(siamese, alpha=alpha) for siamese in (PLAIN, ISO))
        assert float(sample_loss(w, *views, iso)) == pytest.approx(float(sample_loss(w, *views, plain)), rel=1e-12)
        (grad,), (iso_grad,) = (gradient(lambda w, s=s: sample_loss(w, *views, s), w) for s in (plain, iso))
        torch.testing.assert_close(predictor(w, plain) @ iso_grad, grad, rtol=1e-10, atol=1e-14)
        assert float((grad - iso_grad).norm() / grad.norm()) > 0.1

    @pytest.mark.parametrize("alpha", [0.5, 1.0])
    def test_cosine_isoloss_has_its_gradient_but_for_the_predictor_and_another_value(self, alpha):
        """Eqs. 17 and 4."""
        views, w = some_views(), weights()
        plain, iso = (replace(siamese, alpha=alpha) for siamese in COSINE[:2])
        (grad,), (iso_grad,) = (gradient(lambda w, s=s: sample_loss(w, *views, s), w) for s in (plain, iso))
        torch.testing.assert_close(predictor(w, plain) @ iso_grad, grad, rtol=1e-10, atol=1e-14)
        assert abs(float(sample_loss(w, *views, iso) - sample_loss(w, *views, plain))) > 0.1

    def test_fresh_samples_are_new_at_each_call_and_right_on_average(self):
        siamese, w = PLAIN, weights(SEEDS)
        loss = fresh_loss(siamese, samples=4000, generator=torch.Generator().manual_seed(2))
        first, second = loss(w), loss(w)
        assert first.shape == (SEEDS,)
        assert (first != second).all()
        torch.testing.assert_close(first, expected_loss(w, siamese), rtol=0.1, atol=0)
        alike = loss(w[:1].expand(2, -1, -1))
        assert alike[0] != alike[1]


@pytest.mark.parametrize(
    ("siamese", "learning_rate"),
    [(ISO, 0.1), (NO_STOP_GRADIENT, 0.1), (COSINE[1], 0.04)],
    ids=["iso", "no", "cosine"],
)
def test_a_relu_network_behaves_alike(siamese, learning_rate):
    """Fig. 6: eigenvalues of E[z z^T] with z = max(W x, 0), samples drawn at each step."""
    generator = torch.Generator().manual_seed(0)
    w = weights(seed=1)
    seen = descend(
        fresh_loss(siamese, samples=200, generator=generator, relu=True),
        [w],
        learning_rate=learning_rate,
        steps=150,
        observe=lambda w: eigenvalues(w, relu=True),
        every=150,
    ).values
    first, last = seen[0] / seen[0].max(), seen[-1] / seen[-1].max()
    if siamese.variant == "no_stop_gradient":
        assert seen[-1].max() < 0.2 * seen[0].max()
    else:
        assert last[1] > 1.5 * first[1]
        assert last[2] > 1.5 * first[2]


class TestTrainablePredictor:
    def test_is_the_loss_of_samples(self):
        w, p = weights(), random(OUTPUTS, OUTPUTS, seed=5)
        view1, view2 = some_views()
        z1, z2 = view1 @ w.T, view2 @ w.T
        decay = 0.05 * (w.square().sum() + p.square().sum()) / 2
        expected = {
            "euclidean": (z1 @ p.T - z2).square().sum(1).mean() / 2 + decay,
            "cosine": -torch.cosine_similarity(z1 @ p.T, z2).mean() + decay,
        }
        for similarity, value in expected.items():
            loss = trainable_loss(w, p, view1, view2, similarity=similarity, weight_decay=0.05)
            assert float(loss) == pytest.approx(float(value), rel=1e-12)
            _, grad = gradient(lambda w, p, s=similarity: trainable_loss(w, p, view1, view2, similarity=s), w, p)
            assert float(grad.abs().max()) > 1e-3  # the predictor learns

    def test_with_the_closed_form_it_is_the_closed_forms_loss(self):
        w = weights(SEEDS)
        views = some_views()
        for siamese in (PLAIN, COSINE[0]):
            loss = trainable_loss(w, predictor(w, siamese), *views, similarity=siamese.similarity)
            torch.testing.assert_close(loss, sample_loss(w, *views, siamese))

    @pytest.mark.parametrize("weight_decay", [0.0, 0.1])
    @pytest.mark.parametrize("similarity", ["euclidean", "cosine"])
    def test_what_it_conserves_without_weight_decay_dies_out_with_it(self, similarity, weight_decay):
        """On any samples, whatever the distance: W W^T - P^T P goes as e^(-2 weight_decay t)."""
        views = draw_views(30, INPUTS, 0.5, torch.Generator().manual_seed(1))
        w, p = weights(), 0.3 * random(OUTPUTS, OUTPUTS, seed=5)
        before = imbalance(w, p).numpy()
        errors = []
        for learning_rate in (0.04, 0.02):
            seen = descend(
                lambda w, p: trainable_loss(w, p, *views, similarity=similarity, weight_decay=weight_decay),
                [w, p],
                learning_rate=learning_rate,
                steps=round(1.0 / learning_rate),
                observe=imbalance,
            )
            expected = before * np.exp(-2 * weight_decay * seen.time)[:, None, None]
            errors.append(np.abs(seen.values - expected).max())
        assert errors[1] < 0.03
        assert errors[0] / errors[1] == pytest.approx(2, rel=0.1)

    def test_rests_where_it_is_aligned(self):
        w, decay = weights(), 0.1
        c = w @ w.T
        p = c @ torch.linalg.inv(1.01 * c + decay * torch.eye(OUTPUTS, dtype=torch.float64))
        views = balanced_views(INPUTS, 0.1)
        _, grad = gradient(lambda w, p: trainable_loss(w, p, *views, similarity="euclidean", weight_decay=decay), w, p)
        assert float(grad.abs().max()) < 1e-12
        np.testing.assert_allclose(alignment(w, p), 1, rtol=1e-12)

    @pytest.mark.parametrize("similarity", ["euclidean", "cosine"])
    def test_gradient_descent_aligns_it(self, similarity):
        """Fig. 4: a linear network with weight decay, from half the identity and some noise; samples drawn once."""
        views = draw_views(200, INPUTS, 0.1, torch.Generator().manual_seed(1))
        w, p = weights(SEEDS), 0.5 * torch.eye(OUTPUTS) + 0.2 * random(SEEDS, OUTPUTS, OUTPUTS, seed=5)
        seen = descend(
            lambda w, p: trainable_loss(w, p, *views, similarity=similarity, weight_decay=0.03),
            [w, p],
            learning_rate=0.3,
            steps=200,
            observe=alignment,
            every=200,
        ).values
        assert seen.shape == (2, SEEDS, OUTPUTS)
        assert seen[0].min() < 0.8
        assert seen[-1].min() > 0.97


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: balanced_views(0, 0.1), "inputs is 0"),
        (lambda: balanced_views(2, -1.0), "sigma is -1.0"),
        (lambda: draw_views(0, 3, 0.1, torch.Generator()), "samples is 0"),
        (lambda: mode_weights([-1.0], outputs=torch.eye(1), vectors=torch.eye(1)), "eigenvalue is .* 0 or more"),
        (lambda: sample_loss(weights(), *balanced_views(7, 0.1), PLAIN), "take 4 inputs, and the views have 7"),
        (
            lambda: trainable_loss(weights(), weights(), *balanced_views(4, 0.1), similarity="cos"),
            "similarity is 'cos'",
        ),
        (
            lambda: trainable_loss(weights(), weights(), *balanced_views(4, 0.1), similarity="cosine", weight_decay=-1),
            "weight_decay is -1",
        ),
    ],
)
def test_refused_with_the_thing_and_the_remedy(make, message):
    with pytest.raises(ValueError, match=message):
        make()

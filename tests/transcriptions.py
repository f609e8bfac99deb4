"""The papers' objectives once more, slowly, in float64 NumPy: what losses and methods are compared with.

Everything here is analytic, without absolute values, conjugates and what NumPy makes of them. So :func:`gradients` can
differentiate it by complex steps, and the stop-gradient of a paper is :func:`sg`, which drops the imaginary part.
"""

import itertools

import numpy as np
import torch

STEP = 1e-30


def gradients(formula, arrays):
    """Gradients of ``formula(*arrays)``, a real scalar, with respect to all values of all arrays.

    Im f(x + ih) / h with so small an h that its square vanishes beside 1 (Squire and Trapp 1998, "Using complex
    variables to estimate derivatives of real functions"): no difference is taken, so that the error is the formula's
    own, near 1e-15, where the usual differences end at 1e-10.
    """
    arrays = [np.asarray(x, dtype=np.float64) for x in arrays]
    result = [np.zeros_like(x) for x in arrays]
    for number, x in enumerate(arrays):
        for index in np.ndindex(x.shape):
            moved = x.astype(np.complex128)
            moved[index] += 1j * STEP
            result[number][index] = np.imag(formula(*arrays[:number], moved, *arrays[number + 1 :])) / STEP
    return result


def assert_is(loss, formula, *tensors):
    """Value and gradients of ``loss(*tensors)`` are those of ``formula(*arrays)``, both to 1e-9."""
    tensors = [x.detach().clone().requires_grad_() for x in tensors]
    arrays = [x.detach().numpy() for x in tensors]
    value = loss(*tensors)
    assert value.shape == ()
    assert value.dtype == torch.float64
    np.testing.assert_allclose(value.item(), formula(*arrays), rtol=1e-9, atol=1e-9)
    actual = torch.autograd.grad(value, tensors, allow_unused=True, materialize_grads=True)
    for ours, theirs in zip(actual, gradients(formula, arrays), strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-9, atol=1e-9)


def sg(x):
    """Stop-gradient."""
    return np.real(x)


def norm(x):
    return np.sqrt((x * x).sum())


def unit(x):
    """A vector of norm 1, or of zeros."""
    return x / norm(x) if (x != 0).any() else x


def unit_rows(z):
    norms = np.sqrt((z * z).sum(1, keepdims=True))
    return z / np.where(norms == 0, 1, norms)


# -------------------------------------------------------------------------------------------------- sample-contrastive


def nt_xent(views, temperature):
    """SimCLR, one pair at a time: Chen et al. 2020, Eq. 1."""
    rows = [(sample, unit(row)) for view in views for sample, row in enumerate(view)]
    losses = []
    for i, (sample, row) in enumerate(rows):
        exponentials = [np.exp((row * other).sum() / temperature) for _, other in rows]
        denominator = sum(e for k, e in enumerate(exponentials) if k != i)
        positives = [j for j, (other, _) in enumerate(rows) if j != i and other == sample]
        losses += [-np.log(exponentials[j] / denominator) for j in positives]
    assert len(losses) == len(rows) * (len(views) - 1)
    return sum(losses) / len(losses)


def info_nce(query, key, queue, temperature):
    """MoCo, one query and one negative at a time: He et al. 2020, Eq. 1."""
    key, queue = unit_rows(sg(key)), unit_rows(sg(queue))
    losses = []
    for q, k in zip(unit_rows(query), key, strict=True):
        positive = np.exp((q * k).sum() / temperature)
        losses.append(-np.log(positive / (positive + sum(np.exp((q * n).sum() / temperature) for n in queue))))
    return sum(losses) / len(losses)


def ring(rows, position, keys):
    """A queue ``(views, size, D)`` and its position once keys ``(views, n, D)`` were written into it, one by one."""
    rows = np.array(rows)
    for i in range(len(keys[0])):
        for view, view_keys in enumerate(keys):
            rows[view, position] = unit(sg(view_keys[i]))
        position = (position + 1) % rows.shape[1]
    return rows, position


def sinkhorn(scores, epsilon, iterations):
    """Caron et al. 2020, Eqs. 3 to 5, one sum at a time, without logarithms, and with the factors K and N."""
    q = np.exp(sg(scores) / epsilon)
    samples, prototypes = q.shape
    for _ in range(iterations):
        for k in range(prototypes):
            q[:, k] = q[:, k] / sum(q[i, k] for i in range(samples)) / prototypes
        for i in range(samples):
            q[i] = q[i] / sum(q[i, k] for k in range(prototypes)) / samples
    return samples * q


def swapped_prediction(logits, assignments, temperature):
    """Cross entropy, one pair of different views and one sample at a time: Caron et al. 2020, Eqs. 1, 2 and 6."""
    losses = []
    for a, v in itertools.product(range(len(assignments)), range(len(logits))):
        for target, z in zip(sg(assignments[a]), logits[v], strict=True):
            if v != a:
                losses.append(-(target * np.log(softmax(z, temperature))).sum())
    assert len(losses) == len(assignments) * (len(logits) - 1) * len(logits[0])
    return sum(losses) / len(losses)


# ---------------------------------------------------------------------------------------------------------- asymmetric


def softmax(x, temperature):
    exponentials = np.exp(x / temperature)
    return exponentials / exponentials.sum()


def self_distillation(student, teacher, centre, student_temperature, teacher_temperature):
    """Caron et al. 2021, Eqs. 1 to 3, one pair of views and one sample at a time."""
    targets = [[softmax(sg(t) - sg(centre), teacher_temperature) for t in view] for view in teacher]
    return swapped_prediction(student, targets, student_temperature)


def negative_cosine(p, z):
    """Minus the cosine, sample by sample: Chen and He 2021, Eq. 1."""
    return -sum((unit(a) * unit(sg(b))).sum() for a, b in zip(p, z, strict=True)) / len(p)


def squared_distance(p, z):
    """Of unit vectors, sample by sample: Grill et al. 2020, Eq. 2."""
    return sum(((unit(a) - unit(sg(b))) ** 2).sum() for a, b in zip(p, z, strict=True)) / len(p)


def power(c, alpha, normalize, eps):
    """Eigenvectors (columns) and eigenvalues of W_P = U D^alpha U^T: Halvagal et al. 2023, Eq. 1."""
    eigenvalues, u = np.linalg.eigh(sg(c))
    scaled = [max(s, 0.0) / (eigenvalues.max() if normalize else 1) + eps for s in eigenvalues]
    return u, np.array([s**alpha for s in scaled])


def correlation_ema(c, momentum, views):
    """The moving average of E[z z^T], not centred, sample by sample."""
    samples = sum(len(view) for view in views)
    return momentum * c + (1 - momentum) * sum(np.outer(row, row) for view in sg(views) for row in view) / samples


def closed_form(name, z1, z2, u, eigenvalues, stop_gradient=True):
    """Halvagal et al. 2023, Eqs. 3, 4, 15 and 17, mode by mode, with the eigenvalues of W_P = U D U^T."""
    modes, stopped = range(len(eigenvalues)), sg if stop_gradient else np.asarray
    root = np.sqrt(eigenvalues)
    total = 0.0
    for a, b in zip(z1 @ u, z2 @ u, strict=True):
        predicted = eigenvalues * a
        if name == "asymmetric_euclidean_loss":
            total += sum((predicted[m] - stopped(b[m])) ** 2 for m in modes) / 2
        elif name == "asymmetric_cosine_loss":
            total -= sum(predicted[m] * stopped(b[m] / norm(b)) for m in modes) / norm(predicted)
        elif name == "iso_euclidean_loss":
            total += sum((a[m] - stopped(b[m] + a[m] - predicted[m])) ** 2 for m in modes) / 2
        else:
            assert name == "iso_cosine_loss"
            target = stopped(b / (norm(predicted) * norm(b)))
            weight = stopped(sum(predicted[m] * b[m] for m in modes) / (norm(predicted) ** 3 * norm(b)))
            total += weight * sum((root[m] * a[m]) ** 2 for m in modes) / 2 - sum(a[m] * target[m] for m in modes)
    return total / len(z1)


# ------------------------------------------------------------------------------------------------ dimension-contrastive


def barlow_twins_terms(z1, z2):
    """Zbontar et al. 2021, Eqs. 1 and 2, with the biased standard deviation of BatchNorm."""
    columns = []
    for z in (z1, z2):
        centred = [column - column.sum() / len(column) for column in z.T]
        columns.append([c / np.sqrt((c**2).sum() / len(c)) for c in centred])
    on = off = 0.0
    for i, a in enumerate(columns[0]):
        for j, b in enumerate(columns[1]):
            m = (a * b).sum() / len(a)
            if i == j:
                on += (1 - m) ** 2
            else:
                off += m**2
    return on, off


def vicreg_terms(*views):
    """Bardes et al. 2022, Eqs. 1 to 6, with the mean over N * D in the invariance; a hinge has its kink at 0."""
    samples, dimensions = views[0].shape
    invariance = ((views[0] - views[1]) ** 2).sum() / (samples * dimensions)
    variance = covariance = 0.0
    for z in views:
        centred = [column - column.sum() / samples for column in z.T]
        for i, a in enumerate(centred):
            for j, b in enumerate(centred):
                c = (a * b).sum() / (samples - 1)
                if i != j:
                    covariance += c**2 / dimensions
                elif np.sqrt(c + 1e-4).real < 1:
                    variance += (1 - np.sqrt(c + 1e-4)) / dimensions
    return invariance, variance, covariance


def whitened_distance(views, orders, size, eps=0.0):
    """Ermolov et al. 2021, Eqs. 4 to 7, given the permutations: sub-batch by sub-batch, with an explicit inverse."""
    samples, dimensions = views[0].shape
    total = terms = 0
    for order in orders:
        for start in range(0, samples, size):
            units = []
            for z in views:
                batch = z[order[start : start + size]]
                mean = batch.sum(0) / size
                covariance = sum(np.outer(row - mean, row - mean) for row in batch) / (size - 1)
                inverse = np.linalg.inv(cholesky((1 - eps) * covariance + eps * np.eye(dimensions)))
                units.append([unit(inverse @ (row - mean)) for row in batch])
            for a, b in itertools.combinations(units, 2):
                for x, y in zip(a, b, strict=True):
                    total += ((x - y) ** 2).sum()
                    terms += 1
    return total / terms


def cholesky(a):
    """The lower triangular L with L L^T = a."""
    factor = np.zeros_like(a)
    for i in range(len(a)):
        for j in range(i + 1):
            rest = a[i, j] - sum(factor[i, k] * factor[j, k] for k in range(j))
            factor[i, j] = np.sqrt(rest) if i == j else rest / factor[j, j]
    return factor


def corinfomax_terms(z1, z2, means, covariances, la, eps, normalize=False):
    """Ozsoy et al. 2022: log-determinant and invariance, and the new means and covariances of both views."""
    views = [unit_rows(z) for z in (z1, z2)] if normalize else [z1, z2]
    samples, dimensions = z1.shape
    log_determinant = 0.0
    new_means, new_covariances = [], []
    for z, past_mean, past_covariance in zip(views, means, covariances, strict=True):
        mean = la * past_mean + (1 - la) * sum(z) / samples
        share = sum(np.outer(row - mean, row - mean) for row in z) / samples
        covariance = la * past_covariance + (1 - la) * share
        log_determinant -= np.log(np.linalg.det(covariance + eps * np.eye(dimensions))) / dimensions
        new_means.append(sg(mean))
        new_covariances.append(sg(covariance))
    invariance = ((views[0] - views[1]) ** 2).sum() / (samples * dimensions)
    return log_determinant, invariance, np.stack(new_means), np.stack(new_covariances)


def frossl_normalised(z, normalization):
    """Skean et al. 2023, Props. 3.1 to 3.3: centred, then columns of norm 1, rows of norm 1, or both in turn."""
    samples, dimensions = z.shape
    z = z - z.sum(0) / samples
    if normalization == "sample":
        return unit_rows(z)
    z = unit_rows(z.T).T
    for _ in range(10 if normalization == "both" else 0):
        z = unit_rows((np.sqrt(dimensions / samples) * unit_rows(z)).T).T
    return z


def frossl_terms(views, normalization="dimension", log=True):
    """Skean et al. 2023, Eq. 6: sum over views of log ||K||_F^2, and over pairs of ||y_u - y_v||_F^2 / N."""
    y = [frossl_normalised(z, normalization) for z in views]
    samples, dimensions = y[0].shape
    variance = 0.0
    for yv in y:
        k = sum(np.outer(row, row) for row in yv) / (samples if normalization == "sample" else dimensions)
        np.testing.assert_allclose(np.trace(k), 1, rtol=1e-9)
        squared = (k * k).sum()
        variance = variance + (np.log(squared) if log else squared)
    invariance = sum(((u - v) ** 2).sum() / samples for u, v in itertools.combinations(y, 2))
    return variance, invariance

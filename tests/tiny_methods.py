"""Every method on tiny float64 networks without BatchNorm, and its objective as a formula of their parameters.

A formula gets the method's parameters and buffers by their names in ``state_dict``, the images of each view ``(N, C, S,
S)`` and where in the run the step is; it computes the embeddings by itself. The numbers are made such that every
hyperparameter matters: none has its default value in all cases of a method.
"""

import itertools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import torch
import transcriptions as slow
from torch import nn
from transcriptions import sg

from solo_frossl.methods import METHODS, Method, Progress, base
from solo_frossl.methods.heads import PredictorConfig, ProjectorConfig

SAMPLES, CHANNELS = 8, 4
STEPS_PER_EPOCH, STEPS = 2, 5


class Pooled(nn.Module):
    """A backbone for images of any size: their mean colour, a linear layer and tanh."""

    num_features = 2

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(CHANNELS, self.num_features)

    def forward(self, images):
        return torch.tanh(self.layer(images.mean((2, 3))))


def embeddings(state, views, network=""):
    """Embeddings of all views by the online network, or by the one whose names begin with ``target_``."""
    prefixes = [network + part for part in ("backbone.layer", "projector.0")]
    (w, b), (v, c) = [(state[f"{prefix}.weight"], state[f"{prefix}.bias"]) for prefix in prefixes]
    return [np.tanh(x.mean((2, 3)) @ w.T + b) @ v.T + c for x in views]


def targets(state, views, momentum):
    """Embeddings by the target network, or without one by the network itself."""
    return embeddings(state, views, "target_" if momentum else "")


def predictions(state, views):
    """What the predictor of two layers makes of all embeddings."""
    hidden = [z @ state["predictor.0.weight"].T + state["predictor.0.bias"] for z in embeddings(state, views)]
    relu = [np.where(np.real(h) > 0, h, 0) for h in hidden]
    return [h @ state["predictor.2.weight"].T + state["predictor.2.bias"] for h in relu]


# ------------------------------------------------------------------------------------------------------------ formulas


class Expected(NamedTuple):
    """What a step must give: its loss, the parameters and buffers that it changes, and the terms that it names."""

    loss: Any
    changed: Mapping[str, np.ndarray] = MappingProxyType({})
    terms: Mapping[str, Any] = MappingProxyType({})


def barlow_twins(state, views, step, *, off_diagonal_weight, scale):
    on, off = slow.barlow_twins_terms(*embeddings(state, views))
    return Expected(scale * (on + off_diagonal_weight * off), terms={"on_diagonal": on, "off_diagonal": off})


def byol(state, views, step, *, momentum=True):
    (p1, p2), (t1, t2) = predictions(state, views), targets(state, views, momentum)
    return Expected(slow.squared_distance(p1, t2) + slow.squared_distance(p2, t1))


def corinfomax(state, views, step, *, invariance_weight, forgetting_factor, eps, normalize=False):
    memory = state["running.mean"], state["running.covariance"]
    log_determinant, invariance, mean, covariance = slow.corinfomax_terms(
        *embeddings(state, views), *memory, forgetting_factor, eps, normalize
    )
    return Expected(
        log_determinant + invariance_weight * invariance,
        {"running.mean": mean, "running.covariance": covariance},
        {"log_determinant": log_determinant, "invariance": invariance},
    )


def dino(
    state,
    views,
    step,
    *,
    num_prototypes,
    student_temperature,
    teacher_temperature,
    warmup_teacher_temperature,
    warmup_teacher_temperature_epochs,
    centre_momentum,
    global_views=2,
    momentum=True,
):
    assert state["prototypes.weight"].shape[0] == num_prototypes

    def scores(embeddings, prototypes):
        return [slow.unit_rows(z) @ slow.unit_rows(prototypes).T for z in embeddings]

    student = scores(embeddings(state, views), state["prototypes.weight"])
    weights = state["target_prototypes.weight" if momentum else "prototypes.weight"]
    teacher = scores(targets(state, views[:global_views], momentum), weights)
    share = min(1, step / STEPS_PER_EPOCH / warmup_teacher_temperature_epochs)
    temperature = (1 - share) * warmup_teacher_temperature + share * teacher_temperature
    centre = state["centre.value"]
    return Expected(
        slow.self_distillation(student, teacher, centre, student_temperature, temperature),
        {"centre.value": centre_momentum * centre + (1 - centre_momentum) * sg(teacher).mean((0, 1))},
    )


def closed_form(loss, default_alpha):
    """The formula of the methods that compute their predictor, by the name that their losses begin with."""

    def formula(
        state,
        views,
        step,
        *,
        alpha=default_alpha,
        similarity="cosine",
        correlation_momentum=0.998,
        normalize_predictor=True,
        predictor_eps=0.0,
        scale=2.0,
        stop_gradient=True,
        use_predictor=True,
        momentum=True,
    ):
        (z1, z2), (t1, t2) = embeddings(state, views), targets(state, views, momentum)
        c = slow.correlation_ema(state["correlation.value"], correlation_momentum, [z1, z2])
        u, eigenvalues = slow.power(c, alpha, normalize_predictor, predictor_eps)
        if not use_predictor:
            eigenvalues = np.ones_like(eigenvalues)
        name = f"{loss}_{similarity}_loss"
        one = slow.closed_form(name, z1, t2, u, eigenvalues, stop_gradient)
        other = slow.closed_form(name, z2, t1, u, eigenvalues, stop_gradient)
        return Expected(scale * (one + other), {"correlation.value": c})

    return formula


def frossl(
    state,
    views,
    step,
    *,
    invariance_weight=1.0,
    variance_weight=1.0,
    log_variance=True,
    normalization="dimension",
):
    variance, invariance = slow.frossl_terms(embeddings(state, views), normalization, log_variance)
    loss = variance_weight * variance + invariance_weight * invariance
    return Expected(loss, terms={"variance": variance, "invariance": invariance})


def moco_v2(state, views, step, *, temperature, queue_size, momentum=True):
    (q1, q2), keys = embeddings(state, views), targets(state, views, momentum)
    queue1, queue2 = state["queue.rows"]
    assert len(queue1) == queue_size
    one = slow.info_nce(q1, keys[1], queue2, temperature)
    other = slow.info_nce(q2, keys[0], queue1, temperature)
    rows, position = slow.ring(state["queue.rows"], state["queue.position"], keys)
    return Expected((one + other) / 2, {"queue.rows": rows, "queue.position": position})


def simclr(state, views, step, *, temperature):
    return Expected(slow.nt_xent(embeddings(state, views), temperature))


def simsiam(state, views, step):
    (p1, p2), (z1, z2) = predictions(state, views), embeddings(state, views)
    return Expected((slow.negative_cosine(p1, z2) + slow.negative_cosine(p2, z1)) / 2)


def swav(
    state,
    views,
    step,
    *,
    num_prototypes,
    temperature,
    epsilon,
    sinkhorn_iterations,
    queue_size=0,
    queue_from_epoch=0,
    global_views=2,
):
    weight = state["prototypes.weight"]
    assert weight.shape[0] == num_prototypes
    # The weights are divided by their norms in place; the gradient is with respect to what they are from then on.
    prototypes = slow.unit_rows(sg(weight)) + (weight - sg(weight))
    changed = {"prototypes.weight": sg(prototypes)}
    units = [slow.unit_rows(z) for z in embeddings(state, views)]
    scores = [z @ prototypes.T for z in units]
    assigned = scores[:global_views]
    batches = step - queue_from_epoch * STEPS_PER_EPOCH
    if queue_size and batches >= 0:
        rows, position = state["queue.rows"], state["queue.position"]
        changed["queue.rows"], changed["queue.position"] = slow.ring(rows, position, units[:global_views])
        if batches * SAMPLES >= queue_size:
            assigned = [np.concatenate([s, q @ prototypes.T]) for s, q in zip(assigned, rows, strict=True)]
    assignments = [slow.sinkhorn(s, epsilon, sinkhorn_iterations)[:SAMPLES] for s in assigned]
    return Expected(slow.swapped_prediction(scores, assignments, temperature), changed)


def vicreg(state, views, step, *, invariance_weight, variance_weight, covariance_weight):
    invariance, variance, covariance = slow.vicreg_terms(*embeddings(state, views))
    loss = invariance_weight * invariance + variance_weight * variance + covariance_weight * covariance
    return Expected(loss, terms={"invariance": invariance, "variance": variance, "covariance": covariance})


def wmse(state, views, step, *, whitening_size, whitening_iterations=1, whitening_eps=0.0):
    generator = torch.Generator().manual_seed(step)
    orders = [torch.randperm(SAMPLES, generator=generator).numpy() for _ in range(whitening_iterations)]
    return Expected(slow.whitened_distance(embeddings(state, views), orders, whitening_size, whitening_eps))


FORMULAS: dict[str, Callable[..., Expected]] = {
    "barlow_twins": barlow_twins,
    "byol": byol,
    "corinfomax": corinfomax,
    "dino": dino,
    "directcopy": closed_form("asymmetric", 1.0),
    "directpred": closed_form("asymmetric", 0.5),
    "frossl": frossl,
    "isoloss": closed_form("iso", 0.5),
    "moco_v2": moco_v2,
    "simclr": simclr,
    "simsiam": simsiam,
    "swav": swav,
    "vicreg": vicreg,
    "wmse": wmse,
}
"""By the method's name."""


# --------------------------------------------------------------------------------------------------------------- cases


class Case(NamedTuple):
    """A method, what it is built with, the sides of its views, and how many dimensions embeddings have."""

    method: str
    arguments: Mapping[str, Any] = MappingProxyType({})
    sizes: tuple[int, ...] = (2, 2)
    dimensions: int = 3


MULTI_CROP = (3, 3, 2, 2, 2)
NO_TARGET: dict[str, Any] = {"momentum": None}
MOCO = {"temperature": 0.3, "queue_size": 20}  # part-filled for two steps, then full; 20 is no multiple of the batch
SWAV = {"num_prototypes": 5, "temperature": 0.3, "epsilon": 0.2, "sinkhorn_iterations": 2}
DINO = {
    "num_prototypes": 5,
    "student_temperature": 0.3,
    "teacher_temperature": 0.25,
    "warmup_teacher_temperature": 0.1,
    "warmup_teacher_temperature_epochs": 2.0,
    "centre_momentum": 0.7,
}
CLOSED_FORM = {"correlation_momentum": 0.6, "predictor_eps": 0.1, "scale": 1.5}

CASES = {
    "barlow_twins": Case("barlow_twins", {"off_diagonal_weight": 0.3, "scale": 0.7}),
    "byol": Case("byol"),
    "byol without target": Case("byol", NO_TARGET),
    "corinfomax": Case("corinfomax", {"invariance_weight": 3.0, "forgetting_factor": 0.3, "eps": 0.01}),
    "corinfomax normalised": Case(
        "corinfomax", {"invariance_weight": 3.0, "forgetting_factor": 0.3, "eps": 0.01, "normalize": True}
    ),
    "dino": Case("dino", DINO),
    "dino without target": Case("dino", DINO | NO_TARGET),
    "dino multi-crop": Case("dino", DINO, MULTI_CROP),
    "dino with one global view": Case("dino", DINO | {"global_views": 1}),
    **{
        f"{name} {similarity} {'with' if target else 'without'} target": Case(
            name, CLOSED_FORM | {"similarity": similarity} | ({} if target else NO_TARGET)
        )
        for name, similarity, target in itertools.product(
            ("directcopy", "directpred", "isoloss"), ("cosine", "euclidean"), (True, False)
        )
    },
    **{
        f"{name} with a power of its own": Case(name, CLOSED_FORM | {"alpha": 0.7, "normalize_predictor": False})
        for name in ("directcopy", "directpred", "isoloss")
    },
    **{
        f"{name} {similarity} without {what}": Case(
            name, CLOSED_FORM | {"similarity": similarity} | NO_TARGET | {argument: False}
        )
        for name, similarity, (what, argument) in itertools.product(
            ("directcopy", "directpred", "isoloss"),
            ("cosine", "euclidean"),
            (("stop-gradient", "stop_gradient"), ("predictor", "use_predictor")),
        )
    },
    "frossl": Case("frossl", {"invariance_weight": 1.4, "variance_weight": 0.7}),
    "frossl without logarithm": Case("frossl", {"log_variance": False}),
    "frossl of samples": Case("frossl", {"normalization": "sample"}),
    "frossl of both": Case("frossl", {"normalization": "both"}),
    "frossl of three views": Case("frossl", {"invariance_weight": 1.4}, (2, 2, 2)),
    "moco_v2": Case("moco_v2", MOCO),
    "moco_v2 without target": Case("moco_v2", MOCO | NO_TARGET),
    "simclr": Case("simclr", {"temperature": 0.4}),
    "simclr of three views": Case("simclr", {"temperature": 0.4}, (2, 2, 2)),
    "simsiam": Case("simsiam"),
    "swav": Case("swav", SWAV | {"queue_size": 0}),
    "swav with queue": Case("swav", SWAV | {"queue_size": 12, "queue_from_epoch": 1}),
    "swav multi-crop": Case("swav", SWAV | {"queue_size": 0}, MULTI_CROP),
    "swav with one global view": Case("swav", SWAV | {"queue_size": 6, "queue_from_epoch": 0, "global_views": 1}),
    "vicreg": Case("vicreg", {"invariance_weight": 3.0, "variance_weight": 2.0, "covariance_weight": 0.7}),
    "wmse": Case("wmse", {"whitening_size": 4}, dimensions=2),
    "wmse of three views": Case(
        "wmse", {"whitening_size": 4, "whitening_iterations": 2, "whitening_eps": 0.1}, (2, 2, 2), dimensions=2
    ),
}
"""Every row of the papers' tables, and every branch of an objective."""


def build(case: Case, **more: Any) -> Method:
    """The method of a case in float64, its target network moved away from the online one.

    Args:
        case: the method and what it is built with.
        more: further arguments of its constructor, or other values.
    """
    arguments = {
        "projector": ProjectorConfig(output=case.dimensions, layers=1),
        "channels": CHANNELS,
        "num_classes": 0,
        "batch_size": SAMPLES,
    }
    if case.method in ("byol", "simsiam"):
        arguments["predictor"] = PredictorConfig(hidden=4, batch_norm=False)
    torch.manual_seed(0)
    with mock.patch.object(base, "build_backbone", return_value=Pooled()):
        model = METHODS[case.method](**(arguments | case.arguments | more)).double()
    move(model, seed=1)
    return model


def move(model: Method, seed: int) -> None:
    """Random steps of all parameters, those of target networks too."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p += 0.3 * torch.randn(p.shape, generator=generator, dtype=p.dtype)


def images(case: Case, step: int) -> list[torch.Tensor]:
    """Views of one batch that have something in common."""
    generator = torch.Generator().manual_seed(100 + step)
    signal = torch.randn(SAMPLES, CHANNELS, 1, 1, generator=generator, dtype=torch.float64)
    return [
        2 * signal + torch.randn(SAMPLES, CHANNELS, size, size, generator=generator, dtype=torch.float64)
        for size in case.sizes
    ]


def progress(step: int) -> Progress:
    """Where in the run a step is."""
    return Progress(step, STEPS_PER_EPOCH, STEPS)

"""The numbers that the papers print, to stand beside ours, and the row of a paper's table that a run belongs to."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

FROSSL = "2310.02903"
"""Skean et al. 2023, https://arxiv.org/abs/2310.02903."""
IMPLICIT = "2212.04858"
"""Halvagal et al. 2023, https://arxiv.org/abs/2212.04858."""


@dataclass(frozen=True)
class Published:
    """One table of a paper, for one dataset and one metric.

    Attributes:
        table: the paper and its table, ``frossl-table3``; the name that ``solo-frossl reproduce`` knows it by.
        paper: arXiv identifier.
        caption: what the numbers are.
        dataset: name of the dataset, as in configurations; ``imagenet`` and ``tinyimagenet`` among them.
        metric: name of the metric as runs log it, ``online/top1``, or ``linear/top1`` and ``linear/top5`` of the
            linear probe; percent.
        epochs: the epoch, counted from 1, after which each column was measured; empty when there is only the end of
            training, and then every row has one value.
        values: one value a column by row, ``row_name`` of a run; None where the paper prints none.
        deviations: standard deviations over seeds of some of the values, laid out like them.
    """

    table: str
    paper: str
    caption: str
    dataset: str
    metric: str
    epochs: tuple[int, ...]
    values: Mapping[str, tuple[float | None, ...]]
    deviations: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)


def row_name(config: Mapping[str, Any]) -> str:
    """The row of the papers' tables that a run belongs to.

    That is its method's name, followed by what makes it another row: ``no_logs`` (FroSSL without logarithm),
    ``alpha_1`` (a power of the predictor's eigenvalues that is not the method's own), ``euclidean`` (loss),
    ``no_predictor`` and ``no_stop_gradient`` (ablations), ``no_target`` (no EMA target network).

    Args:
        config: a run's ``config.yaml``, with every value.

    >>> row_name({"method": "frossl", "model": {"log_variance": False}})
    'frossl_no_logs'
    >>> row_name({"method": "isoloss", "model": {"alpha": 1.0, "momentum": None}})
    'isoloss_alpha_1_no_target'
    """
    method, model = str(config["method"]), config.get("model") or {}
    alpha = model.get("alpha")
    variants = {
        "no_logs": model.get("log_variance") is False,
        f"alpha_{alpha:g}" if alpha is not None else "": alpha not in (None, ALPHA.get(method, alpha)),
        "euclidean": model.get("similarity") == "euclidean",
        "no_predictor": model.get("use_predictor") is False,
        "no_stop_gradient": model.get("stop_gradient") is False,
        "no_target": "momentum" in model and model["momentum"] is None,
    }
    return "_".join([method, *(name for name, applies in variants.items() if applies)])


ALPHA = {"directpred": 0.5, "directcopy": 1.0, "isoloss": 0.5}
"""The power of the predictor's eigenvalues that goes without saying in a row's name."""

_TABLE2 = {
    "simclr": (91.8, 65.8, 85.9),
    "swav": (89.2, 64.9, 82.6),
    "moco_v2": (92.9, 69.9, 83.2),
    "simsiam": (90.5, 66.0, 88.5),
    "byol": (92.6, 70.5, 88.7),
    "dino": (89.5, 66.8, 78.9),
    "vicreg": (92.1, 68.5, 85.9),
    "barlow_twins": (92.1, 70.9, 85.0),
    "wmse": (91.6, 66.1, 72.4),
    "corinfomax": (92.6, 69.7, None),
    "frossl_no_logs": (88.9, 62.3, 82.4),
    "frossl": (92.8, 70.6, 87.3),
}
"""CIFAR-10, CIFAR-100, STL-10."""

_TABLE3 = {
    "simclr": (40.7, 44.8, 61.5, 66.2, 70.1),
    "swav": (30.9, 38.7, 64.6, 69.3, 74.3),
    "moco_v2": (24.6, 45.0, 63.8, 69.4, 75.2),
    "simsiam": (31.8, 41.2, 54.7, 65.6, 77.1),
    "byol": (28.8, 32.7, 59.6, 64.7, 70.6),
    "dino": (26.6, 26.7, 38.2, 43.2, 46.1),
    "vicreg": (43.6, 51.1, 61.2, 67.5, 71.1),
    "barlow_twins": (32.1, 46.6, 62.0, 62.6, 69.0),
    "wmse": (17.2, 30.4, 45.6, 53.4, 61.9),
    "frossl_no_logs": (40.5, 51.9, 60.6, 64.1, 67.3),
    "frossl": (44.8, 56.9, 64.8, 67.1, 72.0),
}
"""STL-10 after epochs 3, 10, 30, 50 and 100."""

_IMPLICIT = {
    "byol": ((92.6, None), (70.5, None), (91.7, 0.1), (38.3, 1.5)),
    "simsiam": (_SIMSIAM := ((90.7, 0.2), (66.3, 0.4), (87.5, 0.7), (39.8, 0.6))),
    "byol_no_target": _SIMSIAM,  # what the authors' code runs as SimSiam
    "directpred": ((92.0, 0.2), (66.6, 0.5), (88.8, 0.3), (40.1, 0.5)),
    "directpred_no_target": ((12.1, 1.3), (1.6, 0.6), (10.4, 0.1), (1.3, 0.2)),
    "isoloss": ((91.5, 0.2), (69.0, 0.2), (89.0, 0.3), (44.8, 0.4)),
    "isoloss_no_target": ((91.5, 0.2), (64.3, 0.3), (87.4, 0.1), (40.4, 0.4)),
    "directcopy": ((91.3, 0.2), (68.7, 0.3), (89.3, 0.2), (45.3, 0.3)),
    "directcopy_no_target": ((12.1, 0.6), (1.5, 0.5), (10.3, 0.1), (0.6, 0.1)),
    "isoloss_alpha_1": ((91.5, 0.2), (69.3, 0.2), (89.1, 0.3), (45.6, 0.9)),
    "isoloss_alpha_1_no_target": ((91.4, 0.2), (63.0, 0.3), (86.9, 0.4), (38.5, 0.5)),
}
"""CIFAR-10, CIFAR-100, STL-10, TinyImageNet: mean and standard deviation over five seeds."""

IMPLICIT_TABLE2 = (
    *("byol", "simsiam", "byol_no_target"),
    *("directpred", "directpred_no_target", "isoloss", "isoloss_no_target"),
)
IMPLICIT_TABLE3 = (
    *("directcopy", "directcopy_no_target", "directpred", "directpred_no_target"),
    *("isoloss_alpha_1", "isoloss_alpha_1_no_target", "isoloss", "isoloss_no_target"),
)
SMALL_SETS = ("cifar10", "cifar100", "stl10")


def _frossl_table2(column: int, dataset: str) -> Published:
    epochs = 500 if dataset == "stl10" else 1000
    return Published(
        table="frossl-table2",
        paper=FROSSL,
        caption=f"FroSSL, Table 2: linear probe after {epochs} epochs, ResNet-18",
        dataset=dataset,
        metric="linear/top1",
        epochs=(),
        values={row: (values[column],) for row, values in _TABLE2.items()},
    )


def _implicit_table(number: int, rows: tuple[str, ...], column: int, dataset: str) -> Published:
    return Published(
        table=f"implicit-table{number}",
        paper=IMPLICIT,
        caption=f"Implicit variance regularization, Table {number}: online classifier after training, five seeds"
        " (SimSiam is BYOL without target network in the authors' code; BYOL on CIFAR is from solo-learn; DirectPred"
        " and DirectCopy without target network crash)",
        dataset=dataset,
        metric="online/top1",
        epochs=(),
        values={row: (_IMPLICIT[row][column][0],) for row in rows},
        deviations={row: (_IMPLICIT[row][column][1],) for row in rows},
    )


FROSSL_FIG4_LEAD = 12.2
"""Points that FroSSL is ahead of Barlow Twins by after epoch 1 of ImageNet: FroSSL, Sec. 6.2."""


def _frossl_fig4(metric: str, frossl: float, barlow_twins: float) -> Published:
    return Published(
        table="frossl-fig4",
        paper=FROSSL,
        caption="FroSSL, Sec. 6.2 and Fig. 4: linear probe after 100 epochs of ImageNet, ResNet-18",
        dataset="imagenet",
        metric=metric,
        epochs=(100,),
        values={"frossl": (frossl,), "barlow_twins": (barlow_twins,)},
    )


PUBLISHED: tuple[Published, ...] = (
    *(_frossl_table2(column, dataset) for column, dataset in enumerate(SMALL_SETS)),
    Published(
        table="frossl-table3",
        paper=FROSSL,
        caption="FroSSL, Table 3: online classifier by epoch, ResNet-18",
        dataset="stl10",
        metric="online/top1",
        epochs=(3, 10, 30, 50, 100),
        values=_TABLE3,
    ),
    _frossl_fig4("linear/top1", 53.4, 52.5),
    _frossl_fig4("linear/top5", 77.7, 77.5),
    *(
        _implicit_table(number, rows, column, dataset)
        for number, rows in ((2, IMPLICIT_TABLE2), (3, IMPLICIT_TABLE3))
        for column, dataset in enumerate((*SMALL_SETS, "tinyimagenet"))
    ),
)
"""Every table whose numbers are in the papers' text; what only a figure shows is not in it."""


def published_for(dataset: str, metric: str) -> tuple[Published, ...]:
    """The tables that have values of a metric on a dataset.

    >>> [table.table for table in published_for("stl10", "online/top1")]
    ['frossl-table3', 'implicit-table2', 'implicit-table3']
    """
    return tuple(table for table in PUBLISHED if (table.dataset, table.metric) == (dataset, metric))

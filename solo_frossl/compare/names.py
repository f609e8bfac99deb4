"""Names as a reader knows them: of methods, datasets and metrics."""

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

METHODS = {
    "frossl": "FroSSL",
    "barlow_twins": "Barlow Twins",
    "vicreg": "VICReg",
    "wmse": "W-MSE",
    "corinfomax": "CorInfoMax",
    "simclr": "SimCLR",
    "moco_v2": "MoCo v2",
    "swav": "SwAV",
    "dino": "DINO",
    "byol": "BYOL",
    "simsiam": "SimSiam",
    "directpred": "DirectPred",
    "directcopy": "DirectCopy",
    "isoloss": "IsoLoss",
}
"""In the order in which methods stand side by side."""

_DATASETS = {
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "stl10": "STL-10",
    "tinyimagenet": "TinyImageNet",
    "imagenet": "ImageNet",
    "imagenet100": "ImageNet-100",
    "digits": "Digits",
}

METRICS = {
    "online/top1": "online top-1 (%)",
    "knn/top1": "k-NN top-1 (%)",
    "online/top5": "online top-5 (%)",
    "online/target_top1": "online top-1, target network (%)",
    "online/target_top5": "online top-5, target network (%)",
    "knn/target_top1": "k-NN top-1, target network (%)",
    "train/online_top1": "online top-1 on training views (%)",
    "spectrum/effective_rank": "effective rank of validation features",
    "images_per_second": "images/s",
    "device_seconds": "device-seconds an epoch",
    "learning_rate": "learning rate",
    "train/loss": "loss",
    "linear/top1": "linear probe top-1 (%)",
    "linear/top5": "linear probe top-5 (%)",
    "spectrum/view_correlation": "correlation between views",
    "spectrum/saturation_step": "step at which the 14th eigenvalue saturates",
    "spectrum/predictor/alignment": "alignment of the predictor",
}

_STATISTICS = {
    "condition_number": "condition number",
    "entropy": "entropy (nats)",
    "effective_rank": "effective rank",
    "rankme": "RankMe",
}


def method_name(row: str) -> str:
    """A row of the papers' tables as it is written there.

    >>> method_name("frossl_no_logs"), method_name("isoloss_alpha_1_no_target"), method_name("my_package.Mine")
    ('FroSSL (no logs)', 'IsoLoss (alpha 1 no target)', 'Mine')
    """
    known = max((name for name in METHODS if row == name or row.startswith(f"{name}_")), key=len, default=None)
    if known is None:
        return row.rpartition(".")[2].replace("_", " ")
    variant = row.removeprefix(known).strip("_").replace("_", " ")
    return f"{METHODS[known]} ({variant})" if variant else METHODS[known]


def method_order(row: str) -> tuple[int, str]:
    """A key that sorts rows: known methods first, a method before its variants."""
    known = max((name for name in METHODS if row == name or row.startswith(f"{name}_")), key=len, default=None)
    return (list(METHODS).index(known) if known else len(METHODS), row)


def dataset_name(config: Mapping[str, Any]) -> str:
    """A run's dataset as it is usually written; an image folder by the end of its path.

    >>> dataset_name({"dataset": "cifar10"}), dataset_name({"dataset": "folder", "data": {"root": "/data/birds/train"}})
    ('CIFAR-10', 'images in birds/train')
    """
    name = str(config.get("dataset", "unknown dataset"))
    root = (config.get("data") or {}).get("root")
    if name == "folder" and root:
        return f"images in {'/'.join([part for part in PurePath(root).parts if part != '/'][-2:])}"
    return _DATASETS.get(name, name.rpartition(".")[2])


def metric_name(metric: str) -> str:
    """What a metric is, with its unit.

    >>> metric_name("online/top1"), metric_name("spectrum/features/entropy"), metric_name("train/off_diagonal")
    ('online top-1 (%)', 'entropy (nats) of features', 'off diagonal')
    """
    if metric in METRICS:
        return METRICS[metric]
    room, _, rest = metric.partition("/")
    of, _, statistic = rest.rpartition("/")
    if room == "spectrum" and of and statistic in _STATISTICS:
        return f"{_STATISTICS[statistic]} of {of}"
    return (rest or room).replace("/", " ").replace("_", " ")


def bare_name(metric: str) -> str:
    """What a metric is; an accuracy without its unit.

    >>> bare_name("online/top1")
    'online top-1'
    """
    return metric_name(metric).removesuffix(" (%)")


def capital(text: str) -> str:
    """A text as a sentence or a title begins; a symbol at its beginning stays as it is.

    >>> capital("online top-1 (%)"), capital("k-NN top-1 (%)")
    ('Online top-1 (%)', 'k-NN top-1 (%)')
    """
    return text if text[1:2] == "-" else text[:1].upper() + text[1:]

"""In what our training is another than that of the paper whose numbers stand beside ours."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

from solo_frossl.compare.groups import Group
from solo_frossl.published import Published


class Setting(NamedTuple):
    """What both papers train on a dataset.

    Attributes:
        stem: side of the first convolution's kernel in pixels, its stride, and whether a max-pool follows.
        image_size: side of the views, pixels.
        backbone: timm model.
    """

    stem: tuple[int, int, bool]
    image_size: int
    backbone: str = "resnet18"


STEMS = {"imagenet": (7, 2, True), "cifar": (3, 1, False)}
"""The stems that have names in configurations."""
SETTINGS = {
    "cifar10": Setting(STEMS["cifar"], 32),
    "cifar100": Setting(STEMS["cifar"], 32),
    "stl10": Setting(STEMS["imagenet"], 96),
    "tinyimagenet": Setting((3, 1, True), 64),
    "imagenet": Setting(STEMS["imagenet"], 224),
}
"""By dataset; the stems as in Halvagal et al. 2023, Table 4, and in ``configs/DATASET/dataset.yaml``."""


def shortened(groups: Sequence[Group], papers: Sequence[Published]) -> list[str]:
    """In what the training of methods is smaller or other than a paper's table asks for, a sentence for each such way.

    Args:
        groups: of one dataset.
        papers: the tables, each of that dataset.
    """
    longest = max((epoch for paper in papers for epoch in paper.epochs), default=0)
    ways: dict[str, list[str]] = defaultdict(list)
    for group in groups:
        run = group.runs[0]
        small = (run.config.get("data") or {}).get("subset") is not None or (run.planned or longest) < longest
        if any(group.row in paper.values for paper in papers) and (small or other_model(group)):
            ways[schedule(group)].append(group.label)
    return [f"Not the paper's training: {', '.join(labels)}: {way}." for way, labels in ways.items()]


def schedule(group: Group) -> str:
    """How long and on what a group was trained, and what is not the papers' in its model.

    ``10 of 100 epochs, 6,400 images, batch 256, 32 pixels (paper: 96 pixels)``
    """
    run = group.runs[0]
    data = run.config.get("data") or {}
    of = f" of {run.planned}" if run.planned and run.planned != group.epochs else ""
    parts = [f"{group.epochs}{of} epoch{'s' if (run.planned or group.epochs) != 1 else ''}"]
    if (subset := data.get("subset")) is not None:
        parts.append(f"{subset:g} of the images" if isinstance(subset, float) else f"{subset:,} images")
    if (batch := data.get("batch_size")) is not None:
        parts.append(f"batch {batch}")
    return ", ".join(parts + other_model(group))


def other_model(group: Group) -> list[str]:
    """Backbone, stem and image size of a group as far as they are not the papers' on its dataset."""
    config = group.runs[0].config
    theirs = SETTINGS.get(config.get("dataset"))
    if theirs is None:
        return []
    model, data = config.get("model") or {}, config.get("data") or {}
    ours = (
        (model.get("backbone"), theirs.backbone, "backbone {}".format),
        (model.get("width"), 1.0, "width {:g}".format),
        (_stem(model.get("stem")), theirs.stem, _stem_in_words),
        (data.get("image_size") or data.get("resize"), theirs.image_size, "{} pixels".format),
    )
    return [f"{words(own)} (paper: {words(paper)})" for own, paper, words in ours if own is not None and own != paper]


def _stem(value: Any) -> tuple[int, int, bool] | None:
    if isinstance(value, dict):
        return value["kernel_size"], value["stride"], value["max_pool"]
    return STEMS.get(value)


def _stem_in_words(stem: tuple[int, int, bool]) -> str:
    side, stride, pool = stem
    return f"stem {side}x{side}, stride {stride}, {'max-pool' if pool else 'no max-pool'}"

"""Model cards: what a checkpoint is, what it is worth, how it was made and how it is used, as Markdown."""

from collections.abc import Mapping
from typing import Any

import yaml

from solo_frossl.zoo.index import Entry

_ACCURACIES = {
    "online_top1": "online classifier, last epoch",
    "linear_top1": "linear probe",
    "knn_top1": "k-NN",
}
_ENCODERS = {
    "backbone": "`backbone`, the one that was trained",
    "target": "`target`, the network that follows the trained one (EMA)",
}


def model_card(entry: Entry, *, validation_images: int, picture: str | None = None, index: str | None = None) -> str:
    """The card of a checkpoint.

    Args:
        entry: what the index says of it.
        validation_images: on how many images the accuracies were measured.
        picture: name of the picture of its training, which lies beside the card; None: there is none.
        index: the index that has the entry, as seen from its folder; None: the one that comes with the package.
    """
    stem = entry.architecture.get("stem", "imagenet")
    about = {
        "method": f"`{entry.method}`",
        "encoder": _ENCODERS[entry.encoder],
        "backbone": f"`{entry.architecture['backbone']}`" + _width(entry.architecture),
        "stem": stem if isinstance(stem, str) else ", ".join(f"{key} {value}" for key, value in stem.items()),
        "features": f"{entry.num_features}",
        "trained on": f"{entry.dataset}, {entry.epochs} epoch{'' if entry.epochs == 1 else 's'}, seed {entry.seed}",
        "input": f"{entry.architecture.get('channels', 3)} channel(s), {_size(entry.architecture)}; mean "
        f"{_numbers(entry.mean)}, standard deviation {_numbers(entry.std)} of images in 0 to 1",
        "file": f"`{entry.file}`, {entry.size:,} bytes, {entry.precision}",
        "SHA-256": f"`{entry.sha256}`",
        "licence": entry.licence,
    }
    lines = [f"# {entry.name}", "", "| | |", "|---|---|", *(f"| {key} | {value} |" for key, value in about.items())]
    lines += ["", f"## Accuracy on {entry.dataset}", "", "| | top-1, % |", "|---|---|"]
    lines += [f"| {_ACCURACIES[key]} | {value:.2f} |" for key, value in entry.accuracy.items()]
    lines += ["", f"Of {validation_images:,} validation images. Linear probe and k-NN were measured from the file, by"]
    lines += [f"`{entry.measured_by}`."]
    if picture:
        lines += ["", "## Training", "", f"![Accuracy, loss terms and effective rank by epoch]({picture})"]
    of_index = "" if index is None else f', index="{index}"'
    use = f'backbone = solo_frossl.load("zoo:{entry.name}"{of_index})'
    lines += ["", "## Use", "", "```python", "import solo_frossl", "", use]
    lines += [f"features = backbone(backbone.transform(image)[None])  # (1, {entry.num_features})", "```"]
    config = yaml.safe_dump(dict(entry.config), sort_keys=False, allow_unicode=True).rstrip()
    lines += ["", "<details><summary>Configuration of the run</summary>", "", "```yaml", config, "```"]
    lines += ["", "</details>"]
    return "\n".join(lines) + "\n"


def _width(architecture: Mapping[str, Any]) -> str:
    width = architecture.get("width", 1.0)
    return "" if width == 1 else f", {width:g} times its channels"


def _size(architecture: Mapping[str, Any]) -> str:
    size = architecture.get("image_size")
    return f"{size} x {size} pixels" if size else "any size"


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.4f}" for value in values)

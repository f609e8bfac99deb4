"""The curves of a comparison, as data: the page's script and the figures draw the same ones."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from solo_frossl.compare.groups import Group
from solo_frossl.compare.names import method_order, metric_name
from solo_frossl.compare.read import Spectrum
from solo_frossl.compare.style import DASHES, MARKERS, scale, style
from solo_frossl.published import Published
from solo_frossl.run_files import TOP

MOST_EPOCHS = 500
"""Points that a curve by epoch is drawn with, at most."""
MOST_STEPS = 240
"""Points that an eigenvalue is drawn with, at most."""
MOST_INDICES = 80
"""Eigenvalues that a whole spectrum is drawn with, at most."""
FAR = 50
"""How many times the smallest value of a loss and its terms the greatest is, for them to be far apart."""
SOURCES = {
    "embeddings": "eigenvalues of the embeddings' covariance",
    "features": "eigenvalues of the features' covariance",
    "predictor": "eigenvalues of the predictor",
    "alignment": "alignment of the predictor with each eigenvector",
}
_EIGENVALUE = re.compile(r"spectrum/(embeddings|features|predictor)/l(\d+)")


def is_eigenvalue(metric: str) -> bool:
    """Whether a metric is a single eigenvalue, ``spectrum/features/l3``."""
    return _EIGENVALUE.fullmatch(metric) is not None


def chart_data(
    groups: Sequence[Group], papers: Sequence[Published], chosen_epochs: dict[str, list[int]]
) -> dict[str, Any]:
    """Everything that the page draws, ready for JSON.

    Args:
        groups: of all datasets.
        papers: tables whose values by epoch are to be drawn beside the curves.
        chosen_epochs: epochs whose whole spectra are drawn, by dataset.

    Returns:
        ``methods`` (label, colours, dash, marker), ``metrics`` (titles by name), ``scale`` (colours of eigenvalues,
        light and dark), ``sources`` and ``datasets``: by name the groups' curves.
    """
    labels = sorted_labels(groups)
    looks = [style(number) for number in range(len(labels))]
    datasets: dict[str, list[dict[str, Any]]] = {}
    for group in groups:
        data = _group_data(group, papers, chosen_epochs[group.dataset])
        datasets.setdefault(group.dataset, []).append({"method": labels.index(group.label), **data})
    metrics = dict.fromkeys(name for groups in datasets.values() for group in groups for name in group["curves"])
    return {
        "methods": [
            {
                "label": label,
                "light": s.light,
                "dark": s.dark,
                "dash": DASHES[s.dash][0],
                "marker": MARKERS[s.marker][0],
            }
            for label, s in zip(labels, looks, strict=True)
        ],
        "metrics": {name: metric_name(name) for name in metrics},
        "sources": SOURCES,
        "scale": {"light": scale(TOP), "dark": scale(TOP, dark=True)},
        "datasets": datasets,
    }


def loss_terms(group: Group) -> list[str]:
    """The training loss and its terms, as far as measured."""
    return [m for m in group.metrics if m.startswith("train/") and m != "train/online_top1" and group.curves(m)]


def far_apart(group: Group) -> bool:
    """Whether the loss and its terms are all positive and so far apart that they want a logarithmic axis."""
    heights = [height for metric in loss_terms(group) for height in group.band(metric).mean]
    return bool(heights) and min(heights) > 0 and max(heights) > FAR * min(heights)


def sorted_labels(groups: Sequence[Group]) -> list[str]:
    """Labels of groups of all datasets, each once, in the order of their methods; so the colours are given out."""
    return list(dict.fromkeys(group.label for group in sorted(groups, key=lambda group: method_order(group.row))))


def _group_data(group: Group, papers: Sequence[Published], chosen: Sequence[int]) -> dict[str, Any]:
    curves = {metric: _curve(group, metric) for metric in group.metrics if not is_eigenvalue(metric)}
    theirs = {}
    for paper in papers:
        values = paper.values.get(group.row)
        if paper.dataset == group.runs[0].config.get("dataset") and paper.epochs and values:
            pairs = [(e, v) for e, v in zip(paper.epochs, values, strict=True) if v is not None and e <= group.epochs]
            if pairs:
                theirs[paper.metric] = {"epochs": [e for e, _ in pairs], "values": [v for _, v in pairs]}
    return {
        "seeds": len(group.runs),
        "curves": curves,
        "stepped": {metric: data for metric in curves if (data := _statistic_over_steps(group, metric))},
        "papers": theirs,
        "saturation": _saturation(group),
        "estimated": group.estimated,
        "farApart": far_apart(group),
        "spectra": {source: data for source in SOURCES if (data := spectrum_over_steps(group, source))},
        "profiles": {s: data for s in ("embeddings", "features") if (data := whole_spectra(group, s, chosen))},
    }


def _saturation(group: Group) -> float | None:
    """The step at which the 14th eigenvalue saturates, mean over seeds; None unless it has in every seed."""
    steps, known = group.at_end("spectrum/saturation_step"), group.at_end("spectrum/embeddings/l14")
    return _rounded(np.mean(steps)) if steps and len(steps) == len(known) else None


def _curve(group: Group, metric: str) -> dict[str, Any]:
    """A metric at no more than :data:`MOST_EPOCHS` epochs: every n-th and the last one."""
    band = group.band(metric)
    every = -(-len(band.epochs) // MOST_EPOCHS)
    kept = sorted({*range(0, len(band.epochs), every), len(band.epochs) - 1})
    curve: dict[str, Any] = {
        "epochs": [band.epochs[i] for i in kept],
        "mean": [_rounded(band.mean[i]) for i in kept],
    }
    if max(band.count) > 1:
        curve["low"] = [_rounded(band.low[i]) for i in kept]
        curve["high"] = [_rounded(band.high[i]) for i in kept]
        curve["count"] = [band.count[i] for i in kept]
    timed = [(run.curve(metric), run.device_seconds) for run in group.runs]
    if all(set(measured) <= set(seconds) for measured, seconds in timed):
        seconds_at = [[seconds[epoch] for measured, seconds in timed if epoch in measured] for epoch in curve["epochs"]]
        curve["seconds"] = [_rounded(np.mean(seconds)) for seconds in seconds_at]
    return curve


def spectrum_over_steps(group: Group, source: str) -> dict[str, Any] | None:
    """The first :data:`TOP` eigenvalues over the steps, mean over seeds, at no more than :data:`MOST_STEPS` steps.

    Without a file of spectra they are those of metrics.csv, once an epoch.

    Args:
        group: the seeds of one method.
        source: a key of :data:`SOURCES`.

    Returns:
        ``step`` (None where it is not known), ``epoch`` (epochs trained, a fraction) and ``values``: a list of each
        eigenvalue over the steps. None if there are none.
    """
    spectra = [run.spectrum for run in group.runs if run.spectrum is not None and source in run.spectrum.first]
    if not spectra:
        return _spectrum_by_epoch(group, source)
    longest, rows, stack = _side_by_side(spectra, [spectrum.first[source] for spectrum in spectra])
    return {
        "step": longest.step[rows].tolist(),
        "epoch": [_rounded(epoch) for epoch in longest.epoch[rows]],
        "values": [[_rounded(v) for v in column] for column in _mean_of_finite(stack).T],
    }


def _statistic_over_steps(group: Group, metric: str) -> dict[str, Any] | None:
    """One number of the spectrum over the steps, as :func:`_curve` has it by epoch; None without a file of spectra."""
    spectra = [run.spectrum for run in group.runs if run.spectrum is not None and metric in run.spectrum.statistics]
    if not spectra:
        return None
    longest, rows, stack = _side_by_side(spectra, [spectrum.statistics[metric][:, None] for spectrum in spectra])
    stack = stack[:, :, 0]
    known = np.isfinite(stack).any(0)
    if not known.any():
        return None
    curve: dict[str, Any] = {
        "steps": longest.step[rows][known].tolist(),
        "mean": [_rounded(v) for v in _mean_of_finite(stack)[known]],
    }
    if len(spectra) > 1:
        finite = np.isfinite(stack)
        curve["low"] = [_rounded(v) for v in np.where(finite, stack, np.inf).min(0)[known]]
        curve["high"] = [_rounded(v) for v in np.where(finite, stack, -np.inf).max(0)[known]]
        curve["count"] = finite.sum(0)[known].tolist()
    return curve


def _side_by_side(spectra: Sequence[Spectrum], values: Sequence[np.ndarray]) -> tuple[Spectrum, np.ndarray, np.ndarray]:
    """What the seeds have at the same steps, no more than :data:`MOST_STEPS` of them.

    Args:
        spectra: S of them.
        values: ``(R, K)`` of each, at its steps.

    Returns:
        The longest of the spectra; which T of its steps are drawn; and ``(S, T, K)`` values, NaN where a seed has none.
    """
    longest = max(range(len(spectra)), key=lambda number: len(spectra[number].step))
    rows = thin(len(spectra[longest].step), MOST_STEPS)
    steps = spectra[longest].step[rows]
    stack = np.full((len(spectra), len(steps), values[longest].shape[1]), np.nan)
    for number, (spectrum, own) in enumerate(zip(spectra, values, strict=True)):
        at = np.searchsorted(spectrum.step, steps).clip(max=len(spectrum.step) - 1)
        same = spectrum.step[at] == steps
        width = min(stack.shape[2], own.shape[1])
        stack[number, same, :width] = own[at[same], :width]
    return spectra[longest], rows, stack


def whole_spectra(group: Group, source: str, epochs: Sequence[int]) -> dict[str, Any] | None:
    """Whole spectra of the first seed that has them, each divided by its first eigenvalue, after the given epochs.

    Args:
        group: the seeds of one method.
        source: ``embeddings`` or ``features``.
        epochs: epochs trained.

    Returns:
        ``index`` (from 1, no more than :data:`MOST_INDICES`, evenly spread on a logarithmic scale) and ``after``:
        values by epoch, ``"start"`` being the first that was recorded. None if there are none.
    """
    spectra = (run.spectrum.whole.get(source) for run in group.runs if run.spectrum is not None)
    if (whole := next(filter(None, spectra), None)) is None:
        return None
    width = len(whole[0])
    index = np.unique(np.geomspace(1, width, MOST_INDICES).round().astype(int))
    after = {}
    for epoch in (0, *epochs):
        if epoch in whole and whole[epoch][0] > 0:
            after["start" if epoch == 0 else str(epoch)] = [
                _rounded(v) for v in whole[epoch][index - 1] / whole[epoch][0]
            ]
    return {"index": index.tolist(), "after": after} if after else None


def thin(count: int, at_most: int) -> np.ndarray:
    """Which of so many records are drawn: all if there are few, else half of them evenly and half denser at the start.

    Returns:
        Increasing indices from 0 to ``count - 1``, no more than ``at_most``.
    """
    if count <= at_most:
        return np.arange(count)
    evenly = np.linspace(0, count - 1, at_most // 2)
    early = np.geomspace(1, count, at_most // 2) - 1
    return np.unique(np.concatenate([evenly, early]).round().astype(int))


def _spectrum_by_epoch(group: Group, source: str) -> dict[str, Any] | None:
    bands = [group.band(f"spectrum/{source}/l{i}") for i in range(1, TOP + 1)]
    bands = [band for band in bands if band.epochs]
    if not bands:
        return None
    epochs = bands[0].epochs
    by_epoch = [dict(zip(band.epochs, band.mean, strict=True)) for band in bands]
    values = [[_rounded(curve.get(epoch, np.nan)) for epoch in epochs] for curve in by_epoch]
    return {"step": None, "epoch": epochs, "values": values}


def _mean_of_finite(stack: np.ndarray) -> np.ndarray:
    """Mean over the first axis of what is finite; NaN where nothing is."""
    finite = np.isfinite(stack)
    total = np.where(finite, stack, 0).sum(0)
    return np.divide(total, finite.sum(0), out=np.full(total.shape, np.nan), where=finite.any(0))


def _rounded(value: float) -> float | None:
    """Six significant digits, more than a screen shows; None for what is not finite, which JSON has no word for."""
    return float(f"{value:.6g}") if np.isfinite(value) else None

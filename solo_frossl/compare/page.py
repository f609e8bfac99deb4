"""The page: one HTML file that holds its data, its script and the plotting library, and loads nothing."""

import json
import re
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup
from plotly.offline import get_plotlyjs

import solo_frossl
from solo_frossl.compare.charts import MOST_EPOCHS, MOST_INDICES, MOST_STEPS, SOURCES, chart_data, is_eigenvalue
from solo_frossl.compare.comparison import Comparison, Part
from solo_frossl.compare.groups import as_yaml, flatten
from solo_frossl.compare.names import capital, metric_name
from solo_frossl.compare.style import style
from solo_frossl.run_files import TOP

_SECTIONS = (
    ("summary", "Summary"),
    ("accuracy", "Accuracy by epoch"),
    ("convergence", "Convergence"),
    ("throughput", "Throughput"),
    ("spectrum", "Spectrum"),
    ("loss", "Loss and its terms"),
    ("configuration", "Configurations"),
    ("runs", "Runs"),
)
_SPECTRAL = (
    *(f"spectrum/embeddings/{name}" for name in ("condition_number", "entropy", "effective_rank")),
    "spectrum/effective_rank",
)
"""What the figures of the spectrum show first."""


def render_page(comparison: Comparison) -> str:
    """The whole page.

    Args:
        comparison: what is compared.

    Returns:
        HTML with everything embedded; no byte of it comes from elsewhere.
    """
    parts = comparison.parts
    data = chart_data(
        comparison.groups, [paper for part in parts for paper in part.papers], {p.name: p.epochs for p in parts}
    )
    terms = [style(number) for number in range(8)]
    data["terms"] = {"light": [s.light for s in terms], "dark": [s.dark for s in terms]}
    environment = Environment(
        loader=PackageLoader("solo_frossl.compare"),
        autoescape=select_autoescape(("html", "j2")),
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    templates = files("solo_frossl.compare") / "templates"
    labels = [method["label"] for method in data["methods"]]
    now = datetime.now(UTC)
    return environment.get_template("page.html.j2").render(
        title=comparison.title,
        remarks=comparison.remarks,
        lead=f"{comparison.lead} Read on {now:%d %B %Y} at {now:%H:%M} UTC.",
        css=Markup((templates / "page.css").read_text(encoding="utf-8")),
        js=Markup((templates / "page.js").read_text(encoding="utf-8")),
        plotly=Markup(get_plotlyjs()),
        data=Markup(_json(data)),
        look={label: style(number) for number, label in enumerate(labels)},
        parts=[_shown(part, data["datasets"][part.name], labels) for part in parts],
        sections=_SECTIONS,
        seeds_note=_seeds_note(comparison),
        slug=slug,
        capital=capital,
        top=TOP,
        most_steps=MOST_STEPS,
        most_indices=MOST_INDICES,
        footer=f"Made by solo_frossl {solo_frossl.__version__} (solo-frossl compare), with plotly.js embedded.",
    )


def slug(text: str) -> str:
    """A text as an identifier.

    >>> slug("images in birds/train")
    'images-in-birds-train'
    """
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _json(data: Any) -> str:
    """JSON that may stand in a script element."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _seeds_note(comparison: Comparison) -> str:
    notes = []
    if any(len(group.runs) > 1 for group in comparison.groups):
        notes.append(
            "The line is the mean over the seeds that have reached the epoch; the band goes from the lowest to the"
            " highest."
        )
    if any(group.epochs > MOST_EPOCHS for group in comparison.groups):
        notes.append(f"Long runs are drawn at {MOST_EPOCHS} epochs, the tables use all.")
    notes.append("Switch methods on and off in the bar above, zoom by dragging, double-click to zoom out.")
    return " ".join(notes)


def _shown(part: Part, data: list[dict[str, Any]], labels: list[str]) -> dict[str, Any]:
    """What the template asks for, of one dataset."""
    measured = list(dict.fromkeys(metric for group in data for metric in group["curves"]))
    sources = [(s, text) for s, text in SOURCES.items() if any(s in group["spectra"] for group in data)]
    profiles = [group["profiles"] for group in data if group["profiles"]]
    after = list(dict.fromkeys(a for group in profiles for profile in group.values() for a in profile["after"]))
    after = sorted((a for a in after if a != "start"), key=int, reverse=True) + ["start"] * ("start" in after)
    spectral = [m for m in measured if m.startswith("spectrum/") and not is_eigenvalue(m)]
    first = [m for m in _SPECTRAL if m in spectral]
    return {
        "name": part.name,
        "id": slug(part.name),
        "groups": part.groups,
        "labels": [(group["method"], labels[group["method"]]) for group in data],
        "highlights": part.highlights,
        "summary": part.summary,
        "accuracies": [(m, metric_name(m)) for m in part.accuracies],
        "accuracy_tables": part.accuracy_tables,
        "final_table": part.final_table,
        "convergence": part.convergence,
        "speed": part.speed,
        "speeds": [
            (m, metric_name(m)) for m in ("images_per_second", "device_seconds", "learning_rate") if m in measured
        ],
        "timed": any("seconds" in curve for group in data for curve in group["curves"].values()),
        "by_epoch": {metric for group in data for metric in group["papers"]},
        "sources": sources,
        "stepped": any(s["step"] is not None for group in data for s in group["spectra"].values()),
        "saturates": any(group["saturation"] is not None for group in data),
        "profiles": [(a, a) for a in after],
        "profile_sources": [(s, text) for s, text in sources if any(s in group for group in profiles)],
        "spectral": [(m, metric_name(m)) for m in [*first, *(m for m in spectral if m not in first)]],
        "spectrum_by_step": any(group["stepped"] for group in data),
        "spectrum": part.spectrum,
        "losses": any(m.startswith("train/") for m in measured),
        "differences": part.differences,
        "configurations": [
            (group.label, f"{group.label}: {run.name}", _config_text(run.config))
            for group in part.groups
            for run in group.runs
        ],
        "runs": part.runs,
    }


def _config_text(config: Any) -> str:
    return "\n".join(f"{key}: {as_yaml(value)}" for key, value in flatten(config).items())

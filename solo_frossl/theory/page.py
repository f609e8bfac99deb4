"""All figures of the theory on one page, which loads nothing from elsewhere."""

import base64
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

import solo_frossl
from solo_frossl.replacing import replacing
from solo_frossl.theory.figures import TheoryFigure


def write_page(figures: Sequence[TheoryFigure], folder: Path) -> Path:
    """Write ``index.html``: each figure with what the paper claims, what was measured, and what is misprinted.

    Args:
        figures: in their order; ``NAME.png`` of each lies in `folder`, and becomes part of the page.
        folder: where to.

    Returns:
        The page.
    """
    environment = Environment(
        loader=PackageLoader("solo_frossl.theory"),
        autoescape=select_autoescape(("html", "j2")),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pictures = {
        figure.name: base64.b64encode((folder / f"{figure.name}.png").read_bytes()).decode() for figure in figures
    }
    text = environment.get_template("page.html.j2").render(
        figures=figures, pictures=pictures, version=solo_frossl.__version__
    )
    page = folder / "index.html"
    with replacing(page) as part:
        part.write_text(text, encoding="utf-8")
    return page

"""How curves look, on the page and in the figures: by colour, and where colours come again by dash and marker."""

from typing import NamedTuple

import matplotlib as mpl
from matplotlib.colors import to_hex


class Style(NamedTuple):
    """The look of one method.

    Attributes:
        light: colour on white, ``#rrggbb``.
        dark: colour on the page's dark background.
        dash: index into :data:`DASHES`.
        marker: index into :data:`MARKERS`.
    """

    light: str
    dark: str
    dash: int
    marker: int


_LIGHT = ("#0f5cf2", "#9c2901", "#199e52", "#b63fb3", "#b4910c", "#084160", "#919191", "#58081f")
_DARK = ("#016eeb", "#d57432", "#5dfea5", "#ad50aa", "#f0cd2b", "#11b6fc", "#b3b3b3", "#e33d63")
"""Chosen by search so that all pairs stay apart with every kind of colour blindness: tests/compare/test_style.py."""

DASHES = (("solid", "-"), ("dash", "--"), ("dot", ":"), ("dashdot", "-."))
"""Plotly's and matplotlib's names."""
MARKERS = (("circle", "o"), ("square", "s"), ("diamond", "D"), ("triangle-up", "^"), ("x", "x"), ("cross", "P"))
"""Plotly's and matplotlib's names."""


def style(number: int) -> Style:
    """The look of the method that comes as the ``number``-th, from 0; 32 are different."""
    colour = number % len(_LIGHT)
    dash = number // len(_LIGHT) % len(DASHES)
    return Style(_LIGHT[colour], _DARK[colour], dash, number % len(MARKERS))


def scale(count: int, dark: bool = False) -> list[str]:
    """Colours of so many eigenvalues, the first to the last: a part of viridis that can be seen on the background."""
    low, high = (0.3, 1.0) if dark else (0.0, 0.85)
    colours = mpl.colormaps["viridis"]
    return [to_hex(colours(low + (high - low) * i / max(1, count - 1))) for i in range(count)]

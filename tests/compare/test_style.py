"""The colours can be seen, and told apart by everyone."""

from itertools import combinations

import numpy as np
import pytest

from solo_frossl.compare.style import scale, style

BACKGROUND = {"light": "#ffffff", "dark": "#15181d"}
# Machado et al. 2009, "A physiologically-based model for simulation of color vision deficiency", severity 1.
VISION = {
    "normal": np.eye(3),
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def linear(colour):
    """sRGB without its gamma."""
    c = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def contrast(a, b):
    """WCAG 2.2."""
    low, high = sorted(linear(c) @ [0.2126, 0.7152, 0.0722] for c in (a, b))
    return (high + 0.05) / (low + 0.05)


def lab(rgb):
    """CIE L*a*b*."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    t = to_xyz @ np.clip(rgb, 0, 1) / [0.9505, 1.0, 1.089]
    x, y, z = np.where(t > 0.008856, np.cbrt(t), 7.787 * t + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("theme", BACKGROUND)
def test_every_colour_stands_out_from_the_background(theme):
    colours = [getattr(style(number), theme) for number in range(8)]
    assert min(contrast(colour, BACKGROUND[theme]) for colour in colours) >= 3.0


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("theme", BACKGROUND)
def test_every_two_colours_differ_with_every_kind_of_colour_blindness(theme, vision):
    seen = [lab(np.asarray(VISION[vision]) @ linear(getattr(style(number), theme))) for number in range(8)]
    assert min(np.linalg.norm(a - b) for a, b in combinations(seen, 2)) > 20


def test_32_methods_look_different():
    assert len({(style(number).light, style(number).dash) for number in range(32)}) == 32


@pytest.mark.parametrize("dark", [False, True])
def test_the_eigenvalues_have_a_colour_each_that_can_be_seen(dark):
    colours = scale(14, dark)
    assert len(set(colours)) == 14
    assert min(contrast(colour, BACKGROUND["dark" if dark else "light"]) for colour in colours) >= 1.5

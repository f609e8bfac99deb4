"""The figures of the papers that the theory covers, and some beyond, computed and drawn.

Each is a function of the images, a seed and what to tell of the progress; it takes less than a minute on two cores.
"""

from collections.abc import Callable
from dataclasses import dataclass

from solo_frossl.theory.figures import frossl
from solo_frossl.theory.figures.figure import Curve, Panel, Progress, TheoryFigure, draw, write_csv
from solo_frossl.theory.figures.images import Images, read_images


@dataclass(frozen=True)
class Entry:
    """A figure that can be asked for.

    Attributes:
        text: what it shows, a line.
        compute: makes it.
        steps: how often it tells of its progress.
        images: how many it needs; 0 for none.
    """

    text: str
    compute: Callable[[Images | None, int, Progress], TheoryFigure]
    steps: int
    images: int = 0


FIGURES: dict[str, Entry] = {
    "frossl-fig2": Entry("loss and top-10 eigenvalues, FroSSL and Barlow Twins, on images", frossl.fig2, 1500, 1024),
    "frossl-speedup": Entry("how much sooner FroSSL learns a mode, by correlation and size", frossl.speed_up, 27),
    "frossl-spurious-minimum": Entry("the local minimum below a correlation of 1/2", frossl.spurious_minimum, 38),
    "frossl-kin": Entry("modes of FroSSL, Barlow Twins, SimCLR and VICReg side by side", frossl.kin, 6000),
}
"""Every figure by the name that the command line knows it by."""

__all__ = [
    "FIGURES",
    "Curve",
    "Entry",
    "Images",
    "Panel",
    "Progress",
    "TheoryFigure",
    "draw",
    "read_images",
    "write_csv",
]

"""The figures of the papers that the theory covers, and some beyond, computed and drawn.

Each is a function of the images, a seed and what to tell of the progress; it takes less than a minute on two cores.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from solo_frossl.theory.figures import dynamics, frossl, implicit
from solo_frossl.theory.figures.figure import Curve, Panel, Progress, TheoryFigure, draw, write_csv
from solo_frossl.theory.figures.images import Images, read_images, read_two_classes


@dataclass(frozen=True)
class Entry:
    """A figure that can be asked for.

    Attributes:
        text: what it shows, a line.
        compute: makes it.
        steps: how often it tells of its progress.
        images: reads those that it needs, from a folder or the digits (None), with a seed; None: it needs none.
    """

    text: str
    compute: Callable[[Images | None, int, Progress], TheoryFigure]
    steps: int
    images: Callable[[Path | None, int], Images] | None = None


FIGURES: dict[str, Entry] = {
    "frossl-fig2": Entry(
        "loss and top-10 eigenvalues, FroSSL and Barlow Twins, on images",
        frossl.fig2,
        2200,
        partial(read_images, count=1024),
    ),
    "frossl-speedup": Entry("how much sooner FroSSL learns a mode, by correlation and size", frossl.speed_up, 30),
    "frossl-spurious-minimum": Entry("the local minimum below a correlation of 1/2", frossl.spurious_minimum, 38),
    "frossl-kin": Entry("modes of FroSSL, Barlow Twins, SimCLR and VICReg side by side", frossl.kin, 7500),
    "implicit-fig2": Entry("representations and eigenvalues under the eight Siamese losses", implicit.fig2, 3600),
    "implicit-fig4": Entry("alignment of a trained linear predictor", implicit.fig4, 1200),
    "implicit-fig5": Entry("two neurons from three starts", implicit.fig5, 600),
    "implicit-fig6": Entry("the eight losses with a ReLU", implicit.fig6, 3600),
    "dynamics-fig1": Entry("half moons: collapse without a constraint, none with one", dynamics.fig1, 1030),
    "dynamics-fig2": Entry("non-linear against linear networks by width, absolute and relative", dynamics.fig2, 1500),
    "dynamics-fig3": Entry("gradient descent against the equation, by width", dynamics.fig3, 3000),
    "dynamics-fig4": Entry("what the outputs come to span", dynamics.fig4, 1800),
    "dynamics-fig5": Entry(
        "time of a step, and a linear SVM on what was learned",
        dynamics.fig5,
        905,
        partial(read_two_classes, most=200, least=50),
    ),
    "dynamics-fig6": Entry("depth: one to three hidden layers", dynamics.fig6, 4500),
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
    "read_two_classes",
    "write_csv",
]

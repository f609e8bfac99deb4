"""Figs. 1 to 6 of "Representation Learning Dynamics of Self-Supervised Models" (Esser et al. 2024).

Each module computes its figures as numbers, at any size, and draws them at that of the page. Losses are means over
samples, where the paper has sums, so that learning rates do not depend on the number of samples; time is the learning
rate times steps. ``progress`` is told of steps as they are done.
"""

from solo_frossl.theory.figures.dynamics.collapse import fig1
from solo_frossl.theory.figures.dynamics.downstream import fig5
from solo_frossl.theory.figures.dynamics.flows import fig3, fig4, fig6
from solo_frossl.theory.figures.dynamics.width import fig2

__all__ = ["fig1", "fig2", "fig3", "fig4", "fig5", "fig6"]

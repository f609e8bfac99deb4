"""Runs side by side: tables, curves and how fast they rise, as a page, Markdown, CSV and figures."""

from solo_frossl.compare.comparison import Comparison, compare_runs
from solo_frossl.compare.convergence import mean_height, position_to_reach, spread
from solo_frossl.compare.files import write_comparison
from solo_frossl.compare.read import Run, read_run

__all__ = [
    "Comparison",
    "Run",
    "compare_runs",
    "mean_height",
    "position_to_reach",
    "read_run",
    "spread",
    "write_comparison",
]

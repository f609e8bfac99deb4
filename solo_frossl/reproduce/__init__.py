"""The papers' tables and figures as grids of runs: planned, run, and their numbers put beside the papers'."""

from solo_frossl.reproduce.plan import Cell, Scale, plan
from solo_frossl.reproduce.runner import Outcome, remaining, run_cells
from solo_frossl.reproduce.summary import summary
from solo_frossl.reproduce.tables import TABLES, Column, Run, Table

__all__ = [
    "TABLES",
    "Cell",
    "Column",
    "Outcome",
    "Run",
    "Scale",
    "Table",
    "plan",
    "remaining",
    "run_cells",
    "summary",
]

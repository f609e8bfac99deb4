"""The tables of a comparison, as data: the page, the Markdown and the CSV files show the same ones."""

from solo_frossl.compare.tables.accuracies import accuracy_table, final_table, summary_table
from solo_frossl.compare.tables.convergence import (
    area_table,
    best_rival_table,
    epochs_until,
    reach_table,
    rivals_table,
)
from solo_frossl.compare.tables.runs import differences_table, runs_table
from solo_frossl.compare.tables.spectrum import SATURATION, spectrum_table
from solo_frossl.compare.tables.speed import median_speeds, speed_table
from solo_frossl.compare.tables.table import MISSING, Cell, Table, best_of, mark_best, number

__all__ = [
    "MISSING",
    "SATURATION",
    "Cell",
    "Table",
    "accuracy_table",
    "area_table",
    "best_of",
    "best_rival_table",
    "differences_table",
    "epochs_until",
    "final_table",
    "mark_best",
    "median_speeds",
    "number",
    "reach_table",
    "rivals_table",
    "runs_table",
    "spectrum_table",
    "speed_table",
    "summary_table",
]

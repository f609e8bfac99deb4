"""What a run tells: metrics.csv, a table by epoch, pictures, and the closing summary."""

from solo_frossl.report.epoch_csv import EpochCSV
from solo_frossl.report.pictures import LEAST_DRAWN, Tile, draw_confusion, draw_curves, draw_features, draw_views
from solo_frossl.report.progress import EpochTable, LearningRate, Throughput
from solo_frossl.report.summary import summary_table
from solo_frossl.report.terminal import TerminalBar

__all__ = [
    "LEAST_DRAWN",
    "EpochCSV",
    "EpochTable",
    "LearningRate",
    "TerminalBar",
    "Throughput",
    "Tile",
    "draw_confusion",
    "draw_curves",
    "draw_features",
    "draw_views",
    "summary_table",
]

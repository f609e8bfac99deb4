"""What a run tells: metrics.csv, a table by epoch, pictures, and the closing summary."""

from solo_frossl.report.epoch_csv import EpochCSV, MetricsFileError, read_metrics
from solo_frossl.report.pictures import draw_confusion, draw_curves
from solo_frossl.report.progress import EpochTable, LearningRate, Throughput
from solo_frossl.report.summary import summary_table

__all__ = [
    "EpochCSV",
    "EpochTable",
    "LearningRate",
    "MetricsFileError",
    "Throughput",
    "draw_confusion",
    "draw_curves",
    "read_metrics",
    "summary_table",
]

"""Runs in memory with chosen accuracies, and tables as text: for tables that are worked out by hand."""

from pathlib import Path

from made_up_runs import config

from solo_frossl.compare.read import Run

METRIC = "online/top1"


def run(method="frossl", seed=0, values=(), seconds=None, *, planned=10, linear=None, dataset="stl10", **data):
    """A run that measured ``values`` after epochs 1, 2, ..., each of which took ``seconds``."""
    settings = config(method, seed, planned, dataset)
    settings["data"] |= data
    rows = {
        epoch: {METRIC: value}
        | ({} if seconds is None else {"device_seconds": seconds, "images_per_second": 60 / seconds})
        for epoch, value in enumerate(values, start=1)
    }
    return Run(Path(f"{method}-{seed}"), settings, rows, linear=linear or {})


def texts(table):
    """Rows by their first cell."""
    return {row[0].text: [cell.text for cell in row[1:]] for row in table.rows}

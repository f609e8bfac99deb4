"""The spectrum of the embeddings at the end of training."""

from collections.abc import Sequence

from solo_frossl.compare.convergence import spread
from solo_frossl.compare.groups import Group
from solo_frossl.compare.tables.table import Cell, Table, compact_table, mark_best, number

SATURATION = (
    "Saturation: the first step at which the 14th eigenvalue, as a running median of 5 checks, is within 10 % of its"
    " level (its median over the last fifth of the steps so far) and after which it is never again off by more than"
    " 50 %; only where it has risen to the level from less than half of it and has been there for a fifth of the steps"
    " (solo_frossl.spectrum.saturation_step)."
)
"""What :func:`solo_frossl.spectrum.saturation_step` does, for a reader of the page."""


def spectrum_table(groups: Sequence[Group]) -> Table | None:
    """What the spectrum of the embeddings is at the end; None where no run has one."""
    statistics = [
        ("spectrum/embeddings/condition_number", "condition number", 1),
        ("spectrum/embeddings/entropy", "entropy (nats)", 2),
        ("spectrum/embeddings/effective_rank", "effective rank", 1),
        ("spectrum/embeddings/rankme", "RankMe", 1),
        ("spectrum/view_correlation", "correlation between views", 3),
    ]
    groups = [group for group in groups if any(group.curves(name) for name, _, _ in statistics)]
    if not groups:
        return None
    rows = []
    for group in groups:
        epoch = max(group.last_epoch(name) or 0 for name, _, _ in statistics)
        row = [Cell(group.label), Cell(str(epoch) if epoch else "–", float(epoch))]
        row += [number(spread(group.final(name)), digits) for name, _, digits in statistics]
        rows.append([*row, _saturated(group)])
    columns = ("method", "epoch", *(title for _, title, _ in statistics), "14th saturates at step")
    lowest = [columns.index(title) for title in ("condition number", "14th saturates at step")]
    highest = [columns.index(title) for title in ("entropy (nats)", "effective rank", "RankMe")]
    return compact_table(
        name="spectrum",
        caption="The spectrum of the embeddings' covariance at the end.",
        columns=columns,
        rows=mark_best(mark_best(rows, highest), lowest, lowest=True),
        notes=(
            "Condition number: first over 14th eigenvalue. Entropy: Shannon entropy of the eigenvalues divided by their"
            " sum; effective rank: its exponential. Mean ± standard deviation over seeds, after the last epoch that all"
            " seeds have.",
            SATURATION,
        ),
    )


def _saturated(group: Group) -> Cell:
    """The step at which the 14th eigenvalue saturates, as it looks after each run's last epoch."""
    steps, known = group.at_end("spectrum/saturation_step"), group.at_end("spectrum/embeddings/l14")
    if len(steps) < len(known):
        return Cell(f"{len(steps)} of {len(known)} seeds" if steps else "not yet")
    return number(spread(steps), 0)

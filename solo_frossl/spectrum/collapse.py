"""Collapse: when embeddings lose all but one of their directions, or all differences between images.

What tells a collapse is that it lasts. Healthy runs begin with as low a rank: on 6,400 CIFAR-10 images, after 125 steps
of batch 256, the embeddings' effective rank was 1.01 with SwAV, 1.06 with BYOL and 1.12 with DirectPred (whose networks
learned, and whose features had 6.3, 2.2 and 6.2), while 2.2 to 21 with the others. So the threshold is near 1, the
least there is, and the default is to wait for 1000 steps. In a shorter run the wait is no shorter, for how long a low
rank is healthy does not depend on where the run ends: such a run is remarked on at its end.
"""

from collections.abc import Iterable

import numpy as np
from lightning.pytorch.utilities.exceptions import SIGTERMException

from solo_frossl.run_files import effective_rank

LEAST_VARIANCE = 0.01
"""Share of variance in the embeddings' mean square below which they are constant: images' cosines average over .99."""
SHRUNK_TO = 1e-3
"""Part of the first check's variance below which embeddings have shrunk to a point. In runs that learn it grows."""


class CollapseStop(SIGTERMException):
    """Ends a run whose embeddings have collapsed, as SIGTERM would: saved, and ready to go on."""


class CollapseWatch:
    """Counts checks in a row whose embeddings are collapsed, by the records of ``spectrum.bin``.

    They are when their effective rank is below `rank`, which is a collapse onto one direction, or when their variance
    is below 1 % of their mean square, or below a thousandth of what it was in the first check, which is a collapse to
    one point: what is left around that is noise, whose effective rank may be high.

    Args:
        rank: effective rank below which embeddings are collapsed.
        checks: checks in a row that make a collapse.
        every: steps between two checks; others, at the end of an epoch, do not count, lest short epochs count more.
    """

    def __init__(self, rank: float, checks: int, every: int = 1) -> None:
        self.rank = rank
        self.checks = checks
        self.every = every
        self._in_a_row = 0
        self._first: float | None = None

    def restore(self, records: Iterable[np.void]) -> None:
        """Count what was measured before; `records` from the newest to the oldest."""
        records = list(records)
        self._in_a_row, self._first = 0, _variance(records[-1]) if records else None
        for record in records:
            if record["step"] % self.every == 0:
                if not self.fault(record):
                    break
                self._in_a_row += 1

    def update(self, record: np.void) -> str | None:
        """Count one check.

        Returns:
            What has happened, in words, if this check completes a collapse; so once in each collapse.
        """
        if self._first is None:
            self._first = _variance(record)
        if record["step"] % self.every:
            return None
        fault = self.fault(record)
        self._in_a_row = self._in_a_row + 1 if fault else 0
        if self._in_a_row != self.checks:
            return None
        return f"{fault}" + (f" (and so in {self.checks} checks in a row)" if self.checks > 1 else "")

    @property
    def collapsed(self) -> bool:
        """Whether a collapse was completed and has not passed since."""
        return self._in_a_row >= self.checks

    def fault(self, record: np.void) -> str | None:
        """What is collapsed in one check, in words; None for nothing."""
        rank = float(effective_rank(record["embeddings"]))
        if rank < self.rank:
            return f"their effective rank is {rank:.2f}, below {self.rank:g}"
        percent, least = 100 * float(record["variance_share"]), 100 * LEAST_VARIANCE
        if percent < least:
            return (
                f"only {percent:.2g} % of their mean square is variance, below {least:g} %, so that all images have"
                " nearly the same embedding"
            )
        if self._first and (part := _variance(record) / self._first) < SHRUNK_TO:
            return f"their variance is {part:.1g} of what it was at first, below {SHRUNK_TO:g}"
        return None


def _variance(record: np.void) -> float:
    """Total variance of the embeddings, the sum of its eigenvalues."""
    return float(record["embeddings"].sum())

"""The closing summary: trained features beside their baselines."""

from collections.abc import Sequence

from solo_frossl.probe.baselines import FeatureQuality

_TITLES = ("features", "linear top-1 %", "k-NN top-1 %", "dimension", "effective rank")


def summary_table(rows: Sequence[FeatureQuality]) -> str:
    """An aligned table, one line for each kind of features, names on the left and numbers on the right.

    >>> rows = [FeatureQuality("trained", 98.61, 99.17, 512, 41.26), FeatureQuality("raw pixels", 96.5, 98.0, 64, 21.0)]
    >>> print(summary_table(rows))
    features    linear top-1 %  k-NN top-1 %  dimension  effective rank
    trained              98.61         99.17        512            41.3
    raw pixels           96.50         98.00         64            21.0
    """
    cells = [
        (row.name, f"{row.linear_top1:.2f}", f"{row.knn_top1:.2f}", f"{row.dimension}", f"{row.effective_rank:.1f}")
        for row in rows
    ]
    first = max(len(line[0]) for line in [_TITLES, *cells])
    return "\n".join(
        "  ".join([line[0].ljust(first), *(c.rjust(len(t)) for c, t in zip(line[1:], _TITLES[1:], strict=True))])
        for line in [_TITLES, *cells]
    )

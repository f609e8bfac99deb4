"""Accuracies: each method at the end, after chosen epochs, and beside the papers' numbers."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from solo_frossl.compare.convergence import Spread, spread
from solo_frossl.compare.groups import Group
from solo_frossl.compare.names import bare_name, capital, metric_name
from solo_frossl.compare.papers import schedule, shortened
from solo_frossl.compare.tables.speed import median_speeds
from solo_frossl.compare.tables.table import MISSING, Cell, Table, compact_table, mark_best, number
from solo_frossl.published import Published


def summary_table(groups: Sequence[Group]) -> Table:
    """One row a method: seeds, epochs, accuracies, effective rank, speed."""
    measured = {metric for group in groups for metric in group.metrics}
    ranked, timed = "spectrum/effective_rank" in measured, "images_per_second" in measured
    rows = [
        (
            Cell(group.label),
            Cell(_seeds(group)),
            _epochs(group),
            number(spread(group.final("online/top1"))),
            _best(group, "online/top1"),
            number(spread(group.final("knn/top1"))),
            _best(group, "knn/top1"),
            number(spread(group.final("linear/top1"))),
            number(spread(group.final("spectrum/effective_rank"))),
            number(spread(median_speeds(group)), 0),
        )
        for group in groups
    ]
    return compact_table(
        name="summary",
        caption="The methods side by side.",
        columns=(
            *("method", "seeds", "epochs", "last", "best", "last", "best"),
            *("linear probe top-1 (%)", "effective rank", "images/s"),
        ),
        rows=mark_best(rows, range(3, 8)),
        spans=(("", 3), (metric_name("online/top1"), 2), (metric_name("knn/top1"), 2), ("", 3)),
        notes=(
            "Mean ± standard deviation over seeds. Last: after the last epoch that all seeds of the method have"
            " measured; best: each seed's highest, and the epoch it stands at.",
            *_unequal_epochs(groups),
            *(["Effective rank: of the features of the validation images, last."] if ranked else []),
            *(["Images per second: median over epochs, training only."] if timed else []),
        ),
    )


def accuracy_table(groups: Sequence[Group], metric: str, epochs: Sequence[int], papers: Sequence[Published]) -> Table:
    """A metric after the chosen epochs, with the papers' value and the difference where there is one.

    Args:
        groups: of one dataset.
        metric: name of the metric, percent.
        epochs: the chosen epochs.
        papers: tables by epoch of the same dataset and metric.
    """
    columns, spans, rows = ["method"], [("", 1)], [[Cell(group.label)] for group in groups]
    missing = [str(epoch) for epoch in epochs if not any(group.at(metric, epoch) for group in groups)]
    epochs = [epoch for epoch in epochs if str(epoch) not in missing]
    compared: list[int] = []
    printed = {epoch for epoch in epochs if any(_published(papers, group.row, epoch) is not None for group in groups)}
    for epoch in epochs:
        theirs = [_published(papers, group.row, epoch) for group in groups]
        compared.append(len(columns))
        wide = epoch in printed
        spans.append((f"epoch {epoch}", 3 if wide else 1))
        columns += ["ours", "paper", "difference"] if wide else ["ours" if printed else f"epoch {epoch}"]
        for group, row, value in zip(groups, rows, theirs, strict=True):
            ours = number(spread(group.at(metric, epoch)))
            row += [ours, *_beside(ours, value)] if wide else [ours]
    notes = ["Mean ± standard deviation over the seeds that have been measured after that epoch."]
    if missing:
        notes.append(f"No method has been measured after epoch {', '.join(missing)}.")
    if printed:
        notes += [f"Paper: {table.caption} (arXiv:{table.paper})." for table in papers]
        notes += shortened(groups, papers)
    return compact_table(
        name=f"accuracy-{metric.replace('/', '-')}",
        caption=f"{capital(metric_name(metric))} after chosen epochs.",
        columns=columns,
        rows=mark_best(rows, compared),
        spans=spans if printed else (),
        notes=notes,
    )


def final_table(groups: Sequence[Group], papers: Sequence[Published]) -> Table | None:
    """The end of training beside the papers' tables that print only that; None where no method is in one.

    Args:
        groups: of one dataset.
        papers: tables of the dataset without epochs, or of the linear probe.
    """
    rows = []
    for paper in papers:
        for group in groups:
            value = (paper.values.get(group.row) or (None,))[-1]
            ours = number(spread(group.final(paper.metric)))
            if value is None or ours.value is None:
                continue
            deviation = (paper.deviations.get(group.row) or (None,))[-1]
            words = (group.label, paper.table, bare_name(paper.metric), schedule(group))
            rows.append((*map(Cell, words), ours, *_beside(ours, value, deviation)))
    if not rows:
        return None
    used = [paper for paper in papers if any(row[1].text == paper.table for row in rows)]
    return compact_table(
        name="papers-final",
        caption="The end of training beside the papers' tables.",
        columns=("method", "table", "measure", "our training", "ours", "paper", "difference"),
        rows=rows,
        notes=[f"{paper.table}: {paper.caption} (arXiv:{paper.paper})." for paper in used],
        text_columns=4,
    )


def _beside(ours: Cell, value: float | None, deviation: float | None = None) -> tuple[Cell, Cell]:
    """The paper's value and our difference from it."""
    if value is None:
        return MISSING, MISSING
    theirs = number(Spread(value, deviation, 1))
    if ours.value is None:
        return theirs, MISSING
    return theirs, Cell(f"{ours.value - value:+.1f}".replace("-", "−"), ours.value - value)


def _published(papers: Sequence[Published], row: str, epoch: int) -> float | None:
    for paper in papers:
        if epoch in paper.epochs and row in paper.values:
            return paper.values[row][paper.epochs.index(epoch)]
    return None


def _best(group: Group, metric: str) -> Cell:
    """Each seed's highest value, and the epochs that they stand at."""
    best = group.best(metric)
    epochs = sorted({epoch for _, epoch in best})
    where = f"{epochs[0]}" if len(epochs) == 1 else f"{epochs[0]}–{epochs[-1]}" if epochs else ""
    return replace(number(spread([value for value, _ in best])), note=f"epoch {where}" if epochs else "")


def _seeds(group: Group) -> str:
    seeds = [str(run.seed) for run in group.runs if run.seed is not None]
    return f"{len(group.runs)} ({', '.join(seeds)})" if seeds else str(len(group.runs))


def _epochs(group: Group) -> Cell:
    """Epochs trained, of how many if there are more to come, and how the runs stand if they are not done."""
    trained = sorted({run.epochs for run in group.runs})
    text = str(trained[0]) if len(trained) == 1 else f"{trained[0]}–{trained[-1]}"
    planned = group.runs[0].planned
    if planned is not None and trained[0] < planned:
        text += f" of {planned}"
    states = Counter(run.state for run in group.runs if run.state not in ("finished", "unknown"))
    said = [state if count == len(group.runs) else f"{count} {state}" for state, count in states.items()]
    return Cell(text, float(trained[-1]), note=", ".join(said))


def _unequal_epochs(groups: Sequence[Group]) -> list[str]:
    different = len({group.epochs for group in groups}) > 1
    return (
        ["The methods have not trained for the same number of epochs: compare at chosen epochs."] if different else []
    )

"""The runs themselves, and what their configurations differ in."""

from collections.abc import Mapping, Sequence

from solo_frossl.compare.groups import Group, differences
from solo_frossl.compare.names import method_name
from solo_frossl.compare.tables.table import Cell, Table, compact_table


def runs_table(groups: Sequence[Group]) -> Table:
    """One row a run: folder, seed, epochs, state, and what is to be known of it."""
    rows = []
    for group in groups:
        for run in group.runs:
            planned = f" of {run.planned}" if run.planned else ""
            rows.append(
                (
                    Cell(run.name),
                    Cell(group.label),
                    Cell("–" if run.seed is None else str(run.seed)),
                    Cell(f"{run.epochs}{planned}", float(run.epochs)),
                    Cell(run.state),
                    Cell(run.device or "–"),
                    Cell("; ".join(run.remarks)),
                )
            )
    return compact_table(
        name="runs",
        caption="The runs.",
        columns=("run", "method", "seed", "epochs", "state", "device", "remarks"),
        rows=rows,
        text_columns=7,
    )


def differences_table(groups: Sequence[Group]) -> Table | None:
    """Keys of the configuration that not all methods have the same value of; None if there is none."""
    found, many = differences(groups), len(groups) > 3
    if not found:
        return None
    families: dict[str, list[str]] = {}
    for group in groups:
        families.setdefault(str(group.runs[0].config["method"]), []).append(group.label)
    rows, own = [], 0
    for key, shared, values in found:
        having = {label for _, labels in values for label in labels}
        if many and not shared and any(having <= set(labels) for labels in families.values()):
            own += 1
            continue
        most = max(len(labels) for _, labels in values)
        said = []
        for value, labels in values:
            usual = shared and len(labels) == most > len(groups) / 2 and many
            said.append(f"{value} ({'the others' if usual else _listed(labels, families)})")
        rows.append((Cell(key), Cell("all" if shared else "some"), Cell("; ".join(said))))
    return compact_table(
        name="differences",
        caption="What the configurations differ in.",
        columns=("key", "have it", "values"),
        rows=rows,
        notes=(
            "Left out: seeds, names, paths, devices, and what is only watched.",
            *([f"Left out too: {own} settings that only one method has: see the configurations."] if own else []),
        ),
        text_columns=3,
    )


def _listed(labels: Sequence[str], families: Mapping[str, Sequence[str]]) -> str:
    """Labels; those of one method, where there are several and all are meant, by its name alone."""
    said = []
    for method, family in families.items():
        meant = [label for label in labels if label in family]
        said += [method_name(method)] if 1 < len(family) == len(meant) else meant
    return " · ".join(said)  # labels have commas

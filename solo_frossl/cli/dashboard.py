"""``solo-frossl dashboard``: a saved view of a W&B project that puts its methods side by side, epoch by epoch."""

import argparse
from collections.abc import Sequence
from typing import Any

from solo_frossl.cli.errors import ConfigError, one_message

PROGRAM = "solo-frossl dashboard"
VIEW = "methods per epoch"
_EPOCH = "epoch"

ACCURACY = {
    "online top-1, validation images (%)": ["online/top1"],
    "k-NN top-1, validation images (%)": ["knn/top1"],
    "online top-1, training views (%)": ["train/online_top1"],
    "online top-1 of the target network (%)": ["online/target_top1"],
}
SPECTRUM = {
    "effective rank of validation features": ["spectrum/effective_rank"],
    "effective rank of embeddings": ["spectrum/embeddings/effective_rank"],
    "correlation between views": ["spectrum/view_correlation"],
}
SPECTRUM_LOGARITHMIC = {
    "largest eigenvalues of the embeddings' covariance": [f"spectrum/embeddings/l{i}" for i in range(1, 15)],
    "condition number l1/l14 of embeddings": ["spectrum/embeddings/condition_number"],
    "largest eigenvalues of the features' covariance": [f"spectrum/features/l{i}" for i in range(1, 15)],
}
TRAINING = {
    "loss": ["train/loss"],
    "learning rate": ["learning_rate"],
    "images/s": ["images_per_second"],
    "device-seconds an epoch": ["device_seconds"],
}
"""Panels by title: the metrics that they draw over the epochs."""


def dashboard(argv: Sequence[str]) -> int:
    """Save the view; the exit code is 0, or 2 where that cannot be done.

    Args:
        argv: the command line without the program's name.
    """
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        allow_abbrev=False,
        description=f"Save the view '{VIEW}' in a W&B project: accuracies, spectra and training by epoch, one curve for"
        " each dataset and method, with its seeds as a band. Runs get there by --wandb of main_pretrain.py.",
    )
    parser.add_argument("--project", default="solo-frossl", help="the project (default: solo-frossl)")
    parser.add_argument("--entity", help="user or team that the project belongs to (default: that of the API key)")
    parser.add_argument("--dataset", help="show the runs on this dataset only")
    parser.add_argument("--dry_run", action="store_true", help="print the view as JSON and save nothing; needs no key")
    with one_message(PROGRAM):
        arguments = parser.parse_args(argv)
        workspaces = _import_workspaces()
        if arguments.dry_run:
            from pydantic import TypeAdapter

            view = build_view(arguments.entity or "ENTITY", arguments.project, arguments.dataset)
            print(TypeAdapter(workspaces.Workspace).dump_json(view, indent=1, exclude_none=True).decode())
        else:
            _save(arguments.entity, arguments.project, arguments.dataset)
    return 0


def metrics() -> set[str]:
    """Names of the metrics that the view draws over the epochs."""
    panels = ACCURACY | SPECTRUM | SPECTRUM_LOGARITHMIC | TRAINING
    return {name for names in panels.values() for name in names}


def _save(entity: str | None, project: str, dataset: str | None) -> None:
    import wandb

    try:
        if not wandb.login(prompt=False, verify=False):
            raise ConfigError(
                "W&B has no API key: get one with `wandb login`, or set WANDB_API_KEY; --dry_run needs none"
            )
        entity = entity or wandb.Api().default_entity
        build_view(entity, project, dataset).save()
    except (wandb.Error, OSError, ValueError) as error:
        raise ConfigError(
            f"W&B did not save the view in {entity or 'your'}/{project}: {str(error).rstrip('.')}. The project must"
            " exist, which the first run makes, and the key must be allowed to change it"
        ) from error


def _import_workspaces() -> Any:
    try:
        import wandb_workspaces.workspaces
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"the package wandb-workspaces is not installed ({error}): pip install wandb-workspaces, or"
            " pip install 'solo-frossl[dashboard]'"
        ) from error
    return wandb_workspaces.workspaces


def build_view(entity: str, project: str, dataset: str | None = None) -> Any:
    """The view, a ``wandb_workspaces.workspaces.Workspace``; nothing is saved.

    Args:
        entity: user or team.
        project: of the entity.
        dataset: show only runs on this dataset; None: all.
    """
    import wandb_workspaces.reports.v2 as reports

    workspaces = _import_workspaces()

    def lines(panels: dict[str, list[str]], **options: Any) -> list[Any]:
        return [reports.LinePlot(title=title, x=_EPOCH, y=y, **options) for title, y in panels.items()]

    best = reports.BarPlot(title="best online top-1 (%)", metrics=["best/online_top1"])
    spectrum = lines(SPECTRUM) + lines(SPECTRUM_LOGARITHMIC, log_y=True)
    sections = {"Accuracy": [*lines(ACCURACY), best], "Spectrum": spectrum, "Training": lines(TRAINING)}
    return workspaces.Workspace(
        entity=entity,
        project=project,
        name=f"{VIEW}: {dataset}" if dataset else VIEW,
        sections=[workspaces.Section(name=name, panels=panels, is_open=True) for name, panels in sections.items()],
        settings=workspaces.WorkspaceSettings(x_axis=_EPOCH, max_runs=50),
        runset_settings=workspaces.RunsetSettings(
            groupby=[workspaces.Metric("Group")],
            filters=workspaces.And(workspaces.Config("dataset") == dataset) if dataset else "",
            order=[workspaces.Ordering(workspaces.Summary("best/online_top1"), ascending=False)],
        ),
    )

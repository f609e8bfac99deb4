"""The grid of each table and figure: its runs, as changes to the configurations, and the columns it shows.

A value stands here only where the table needs another than ``configs/DATASET/METHOD.yaml`` has.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from solo_frossl.published import FROSSL_FIG4_LEAD, IMPLICIT_TABLE2, IMPLICIT_TABLE3, PUBLISHED, Published

Options = Mapping[str, Any]
"""Values by dotted key, as on the command line: ``{"model.optimizer.lr": 0.1}``."""


@dataclass(frozen=True)
class Run:
    """One row of a table on one dataset.

    Attributes:
        row: name of the row, as :func:`solo_frossl.published.row_name` where it is a method's.
        dataset: name of the dataset; ``configs/DATASET`` has its settings.
        method: name of the method's configuration, ``METHOD.yaml``.
        options: what this run changes in it.
        views_of: name of another method's configuration, whose views it has; None for its own.
    """

    row: str
    dataset: str
    method: str
    options: Options = field(default_factory=dict)
    views_of: str | None = None

    @property
    def config(self) -> str:
        """The configuration as ``--config`` takes it."""
        return self.config_of(self.method)

    def config_of(self, method: str) -> str:
        """The same of another method."""
        return f"configs/{self.dataset}/{method}.yaml"


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        title: its heading.
        metric: column of ``metrics.csv``, or ``linear/top1`` and ``linear/top5`` of the linear probe.
        epoch: epoch, counted from 1, that it shows; None for the last one trained.
        dataset: only runs on this dataset; None for all.
        digits: decimals shown.
    """

    title: str
    metric: str
    epoch: int | None = None
    dataset: str | None = None
    digits: int = 1


@dataclass(frozen=True)
class Lead:
    """By how much one row is ahead of another, where the paper prints that and not the two numbers.

    Attributes:
        row: the row that is ahead in the paper.
        over: the other one.
        column: where; with an epoch.
        points: the paper's difference.
    """

    row: str
    over: str
    column: Column
    points: float


@dataclass(frozen=True)
class Table:
    """A table or figure as a grid of runs.

    Attributes:
        name: what the command calls it.
        caption: one line that says what it shows.
        runs: its runs, each repeated for every seed.
        columns: what it shows.
        seeds: the seeds it is run with unless others are asked for.
        stop_after: the last epoch, counted from 1, that is trained, where the runs are the first part of longer ones.
        probe: options of the linear probe after training; None for none.
        leads: differences between rows that the paper prints.
        notes: what the paper's text leaves open and how it was settled, or what to know when reading the numbers.
    """

    name: str
    caption: str
    runs: tuple[Run, ...]
    columns: tuple[Column, ...]
    seeds: tuple[int, ...] = (0,)
    stop_after: int | None = None
    probe: Options | None = None
    leads: tuple[Lead, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def datasets(self) -> tuple[str, ...]:
        """The datasets of its runs, in their order."""
        return tuple(dict.fromkeys(run.dataset for run in self.runs))

    @property
    def rows(self) -> tuple[str, ...]:
        """The rows of its runs, in their order."""
        return tuple(dict.fromkeys(run.row for run in self.runs))


TITLES = {
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "stl10": "STL-10",
    "tinyimagenet": "TinyImageNet",
    "imagenet": "ImageNet",
}
NO_TARGET = {"model.momentum": None, "model.optimizer.name": "sgd", "model.optimizer.lr": 0.1}
"""Without EMA target network: Halvagal et al. 2023, Appendix D."""
ALPHA_1 = {"model.alpha": 1.0, "model.predictor_eps": 0.25}
"""IsoLoss with a power of 1; the eps is from the authors' README."""
STL10_EPOCHS = 1000
"""Of the implicit-variance paper: its authors' configuration files; the paper does not say."""
SPECTRUM = (
    Column("l1 / l14", "spectrum/embeddings/condition_number", digits=2),
    Column("entropy", "spectrum/embeddings/entropy", digits=3),
    Column("effective rank", "spectrum/embeddings/effective_rank"),
)
"""Of the embeddings' covariance, at the end of training."""


def _published(name: str) -> list[Published]:
    return [table for table in PUBLISHED if table.table == name]


def _by_dataset(name: str) -> tuple[Column, ...]:
    return tuple(Column(TITLES[t.dataset], t.metric, dataset=t.dataset) for t in _published(name))


def _frossl_table2() -> Table:
    runs = (
        Run(row, table.dataset, row)
        for table in _published("frossl-table2")
        for row, (value,) in table.values.items()
        if value is not None
    )
    return Table(
        "frossl-table2",
        "FroSSL, Table 2: linear probe of 12 methods on CIFAR-10, CIFAR-100 (1000 epochs) and STL-10 (500)",
        runs=tuple(runs),
        columns=_by_dataset("frossl-table2"),
        probe={},
        notes=("The paper has CorInfoMax not converge on STL-10, so that run is left out.",),
    )


def _frossl_table3() -> Table:
    (table,) = _published("frossl-table3")
    return Table(
        "frossl-table3",
        "FroSSL, Table 3: online top-1 of 11 methods on STL-10 after 3, 10, 30, 50 and 100 epochs",
        runs=tuple(Run(row, "stl10", row) for row in table.values),
        columns=tuple(Column(f"epoch {epoch}", "online/top1", epoch) for epoch in table.epochs),
        stop_after=100,
        notes=("The table's own runs are the first 100 of 500 epochs, those of Table 2, whose schedule they have.",),
    )


def _frossl_fig3() -> Table:
    common = {
        "trainer.max_epochs": 5,
        "model.optimizer.name": "sgd",
        "model.optimizer.lr": 0.1,
        "model.optimizer.weight_decay": 1e-4,
        "model.schedule.warmup_epochs": 0,
        "spectrum.every_n_steps": 10,
    }
    own: dict[str, Options] = {
        "frossl": {},
        "vicreg": {},
        "barlow_twins": {"model.off_diagonal_weight": 0.05, "model.projector.output": 1024},
        "simclr": {"model.temperature": 0.2, "model.projector.output": 256},
    }
    return Table(
        "frossl-fig3",
        "FroSSL, Fig. 3: eigenvalues of the embeddings of four methods over the first 5 epochs on STL-10",
        runs=tuple(Run(row, "stl10", row, common | options) for row, options in own.items()),
        columns=(
            *SPECTRUM,
            Column("l14 saturates at step", "spectrum/saturation_step", digits=0),
            Column("online top-1", "online/top1"),
        ),
        notes=(
            "The paper prints its numbers in the figure only. Its text leaves weight decay and schedule open: 1e-4 and"
            " a cosine without warm-up are those of the authors' configuration for this figure.",
        ),
    )


def _frossl_fig4() -> Table:
    epochs = (1, 3, 10, 20, 30)
    return Table(
        "frossl-fig4",
        "FroSSL, Fig. 4: top-1 and top-5 of FroSSL and Barlow Twins over the first 30 of 100 epochs on ImageNet",
        runs=tuple(Run(row, "imagenet", row) for row in ("frossl", "barlow_twins")),
        columns=(
            *(Column(f"top-1, epoch {epoch}", "online/top1", epoch) for epoch in epochs),
            *(Column(f"top-5, epoch {epoch}", "online/top5", epoch) for epoch in epochs),
            Column("linear probe top-1", "linear/top1"),
            Column("linear probe top-5", "linear/top5"),
        ),
        stop_after=30,
        probe={
            "linear.optimizer": "adam",
            "linear.learning_rate": 5e-3,
            "linear.decay_at": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9],
        },
        leads=(Lead("frossl", "barlow_twins", Column("top-1, epoch 1", "online/top1", 1), FROSSL_FIG4_LEAD),),
        notes=(
            "The paper prints its curves in the figure only.",
            "The paper's linear probe is of 100 epochs: train that far with --scale stop=100.",
            "The paper's 4 processes: --devices 4.",
        ),
    )


def _frossl_appendix_c() -> Table:
    dimensions = {f"frossl_dimension_{d}": {"model.projector.output": d} for d in (128, 256, 512, 2048, 4096)}
    batches = {f"frossl_batch_{n}": {"data.batch_size": n} for n in (64, 128, 512, 1024)}
    return Table(
        "frossl-appendix-c",
        "FroSSL, Appendix C: projector dimension (1024) and batch size (256) changed one at a time, on STL-10",
        runs=tuple(
            Run(row, "stl10", "frossl", options) for row, options in ({"frossl": {}} | dimensions | batches).items()
        ),
        columns=(
            *(Column(f"epoch {epoch}", "online/top1", epoch) for epoch in (10, 30, 100)),
            Column("effective rank", "spectrum/embeddings/effective_rank"),
        ),
        stop_after=100,
        notes=(
            "The paper's text names the two ablations and prints neither their values nor their dataset: sizes, dataset"
            " and epochs are chosen here.",
        ),
    )


def _implicit_run(row: str, dataset: str) -> Run:
    """A row of the implicit-variance paper's tables."""
    name = row.removesuffix("_no_target")
    method = name.removesuffix("_alpha_1")
    options = ALPHA_1 if name.endswith("_alpha_1") else {}
    if row.endswith("_no_target"):
        options = options | NO_TARGET
    if dataset == "stl10":
        options = options | {"trainer.max_epochs": STL10_EPOCHS}
    return Run(row, dataset, method, options, views_of="isoloss" if method == "byol" else None)  # with blur on STL-10


def _implicit_table(number: int, rows: tuple[str, ...], methods: str) -> Table:
    name = f"implicit-table{number}"
    datasets = [table.dataset for table in _published(name)]
    return Table(
        name,
        f"Implicit variance regularization, Table {number}: online top-1 of {methods}, with and without target network",
        runs=tuple(_implicit_run(row, dataset) for dataset in datasets for row in rows if row != "simsiam"),
        columns=_by_dataset(name),
        seeds=(0, 1, 2, 3, 4),
        notes=(
            "Means and standard deviations over seeds. Rows that end in no_target are without EMA target network.",
            "1000 epochs everywhere, as in the authors' configuration files; the paper does not say.",
            *(("byol_no_target is the paper's SimSiam, as in the authors' code.",) if "simsiam" in rows else ()),
        ),
    )


def _implicit_fig3() -> Table:
    euclidean = {"model.similarity": "euclidean"}
    return Table(
        "implicit-fig3",
        "Implicit variance regularization, Fig. 3: eigenvalues and online top-1 on CIFAR-10, by loss, first 500 epochs",
        runs=(
            Run("directpred_euclidean", "cifar10", "directpred", euclidean),
            Run("isoloss_euclidean", "cifar10", "isoloss", euclidean),
            Run("directpred", "cifar10", "directpred"),
            Run("isoloss", "cifar10", "isoloss"),
            Run("byol", "cifar10", "byol"),
        ),
        columns=(*(Column(f"epoch {epoch}", "online/top1", epoch) for epoch in (10, 50, 100, 200, 500)), *SPECTRUM),
        stop_after=500,
        notes=(
            "The dataset is that of the authors' notebook. Weight decay is 4e-4, as the paper says of these methods;"
            " the notebook's runs have 1e-5.",
            "BYOL has its own cosine loss in both of the figure's rows; the authors' code also has a Euclidean one.",
            "The Euclidean loss needs the long warm-up before the learning rate of 1.0: shorten runs by --scale stop=N,"
            " which keeps the schedule.",
        ),
    )


def _implicit_fig7() -> Table:
    return Table(
        "implicit-fig7",
        "Implicit variance regularization, Fig. 7: eigenvalues under IsoLoss with and without target network, CIFAR-10",
        runs=(_implicit_run("isoloss", "cifar10"), _implicit_run("isoloss_no_target", "cifar10")),
        columns=(Column("online top-1", "online/top1"), *SPECTRUM),
        notes=("The dataset is that of the authors' notebook.",),
    )


def _implicit_fig8() -> Table:
    return Table(
        "implicit-fig8",
        "Implicit variance regularization, Fig. 8: eigenvalues by weight decay, DirectPred and IsoLoss, CIFAR-10",
        runs=tuple(
            Run(f"{method}_weight_decay_{decay}", "cifar10", method, {"model.optimizer.weight_decay": float(decay)})
            for method in ("directpred", "isoloss")
            for decay in ("4e-4", "1e-5", "1e-6")
        ),
        columns=(Column("online top-1", "online/top1"), *SPECTRUM),
        notes=("Dataset and weight decays are those of the authors' notebook.",),
    )


TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        _frossl_table2(),
        _frossl_table3(),
        _frossl_fig3(),
        _frossl_fig4(),
        _frossl_appendix_c(),
        _implicit_table(2, IMPLICIT_TABLE2, "BYOL, SimSiam, DirectPred and IsoLoss"),
        _implicit_table(3, IMPLICIT_TABLE3, "DirectCopy, DirectPred and IsoLoss by power"),
        _implicit_fig3(),
        _implicit_fig7(),
        _implicit_fig8(),
    )
}
"""Every table and figure by the name that the command line knows it by."""

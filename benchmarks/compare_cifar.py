"""All methods on CIFAR-10, the same images, backbone, epochs and seeds: accuracy and effective rank by epoch.

    python benchmarks/compare_cifar.py --data cifar10/train [--out runs/compare] [--epochs 5] [--seeds 0 1] [--jobs 2]

Each cell is a normal pretraining in a folder of its own, ``OUT/METHOD-seedS``, with the method's configuration for an
image folder; its command stands in ``OUT/METHOD-seedS.log``. Asked again, finished runs are kept and interrupted ones
resumed, so a machine's pauses can be used. ``--table`` only prints the tables of what there is.

The row ``untrained`` is FroSSL's network with a learning rate of 0: its BatchNorm statistics and its online classifier
are those of a run, its weights are not trained. It is what every method has to beat.
"""

import argparse
from pathlib import Path

from solo_frossl.reproduce import Cell, Column, Run, Table, run_cells, summary
from solo_frossl.reproduce.tables import NO_TARGET, Options

ROOT = Path(__file__).resolve().parents[1]
ADAM: Options = {"model.optimizer.name": "adam", "model.optimizer.lr": 1e-3}
"""For losses of the order of 100, which LARS gives large steps of biases and BatchNorm weights in a short warm-up."""
ROWS: dict[str, tuple[str, Options]] = {
    "untrained": ("frossl", {"model.optimizer.lr": 0}),
    "frossl": ("frossl", {}),
    "frossl_no_logs": ("frossl_no_logs", {}),
    "barlow_twins": ("barlow_twins", {}),
    "simclr": ("simclr", {}),
    "moco_v2": ("moco_v2", {"model.queue_size": 2048}),  # 32,768 keys would never be filled
    "swav": ("swav", {}),
    "simsiam": ("simsiam", {}),
    "byol": ("byol", {}),
    "dino": ("dino", {}),
    "vicreg": ("vicreg", {}),
    "wmse": ("wmse", {}),
    "corinfomax": ("corinfomax", {}),
    "directpred": ("directpred", {}),
    "directcopy": ("directcopy", {}),
    "isoloss": ("isoloss", {}),
    "directpred_no_target": ("directpred", NO_TARGET),
    "isoloss_no_target": ("isoloss", NO_TARGET),
    "barlow_twins_adam": ("barlow_twins", ADAM),
    "vicreg_adam": ("vicreg", ADAM),
    "corinfomax_adam": ("corinfomax", ADAM),
}
"""A method's configuration, and what a run this short changes in it."""


def cells(args: argparse.Namespace) -> list[Cell]:
    """The runs, all methods of the first seed first."""
    common = {
        "data.root": str(args.data),
        "data.image_size": 32,
        "data.subset": args.subset,
        "data.validation_fraction": args.validation_fraction,
        "data.batch_size": args.batch_size,
        "model.stem": args.stem,
        "model.zero_init_residual": True,
        "model.schedule.warmup_epochs": 1,
        "trainer.max_epochs": args.epochs,
    }
    return [
        Cell(
            name=f"{name}-seed{seed}",
            row=name,
            dataset="folder",
            seed=seed,
            config=str(ROOT / f"configs/folder/{ROWS[name][0]}.yaml"),
            options=common | ROWS[name][1],
            epochs=args.epochs,
        )
        for seed in args.seeds
        for name in args.methods
    ]


def table(metric: str, args: argparse.Namespace) -> Table:
    """A metric by epoch, a row a method."""
    return Table(
        name=metric,
        caption=f"CIFAR-10, {args.subset} training images, batch {args.batch_size}",
        runs=tuple(Run(name, "folder", ROWS[name][0]) for name in args.methods),
        columns=tuple(Column(f"epoch {epoch}", metric, epoch) for epoch in range(1, args.epochs + 1)),
    )


def main() -> None:
    """Run what is missing, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with a folder of images for each class")
    parser.add_argument("--out", type=Path, default=Path("runs/compare"), help="where the run folders go")
    parser.add_argument(
        "--methods", nargs="+", default=list(ROWS), choices=ROWS, metavar="METHOD", help=", ".join(ROWS)
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--subset", type=int, default=6400, help="training images")
    parser.add_argument("--validation_fraction", type=float, default=0.04, help="part of the images held out")
    parser.add_argument("--batch_size", type=int, default=256)
    parser.add_argument(
        "--stem", default="{kernel_size: 7, stride: 2, max_pool: true}", help="cifar for the papers' stem"
    )
    parser.add_argument(
        "--option", action="append", default=[], help="one more option for every run, as --option=--a=b"
    )
    parser.add_argument("--jobs", type=int, default=2, help="runs at once")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of each run")
    parser.add_argument("--table", action="store_true", help="run nothing")
    args = parser.parse_args()
    if not args.table:
        run_cells(cells(args), args.out, jobs=args.jobs, threads=args.threads, extra=args.option)
    for metric in ("knn/top1", "online/top1", "spectrum/effective_rank"):
        print("\n" + summary(table(metric, args), cells(args), args.out))


if __name__ == "__main__":
    main()

"""``main_linear.py``: how good the features of a frozen backbone are, by a linear classifier."""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from lightning.pytorch import seed_everything
from lightning.pytorch.cli import LightningArgumentParser
from torch import nn

from solo_frossl.cli.errors import ConfigError, one_message
from solo_frossl.cli.parser import Parsed, build_cli
from solo_frossl.cli.pretrain import RUN_KEYS, quiet
from solo_frossl.data import DATASETS, ImageDataModule
from solo_frossl.methods import METHODS
from solo_frossl.probe import (
    BASELINE_RATES,
    BackboneMismatchError,
    Features,
    KNNConfig,
    LinearConfig,
    augmented_batches,
    extract_features,
    linear_and_knn,
    linear_probe,
    load_backbone_weights,
)
from solo_frossl.report import draw_confusion, summary_table
from solo_frossl.run_files import find_run
from solo_frossl.runs import CheckpointError, newest_readable, read_checkpoint

PROGRAM = "main_linear.py"


class Source(NamedTuple):
    """What is to be probed.

    Attributes:
        name: as the user reads it.
        config: file with the configuration of the run that made it; None for an untrained backbone.
        weights: the checkpoint's ``state_dict``; None for an untrained backbone.
        out: default folder for the results.
    """

    name: str
    config: Path | None
    weights: dict[str, Any] | None
    out: Path


def linear(argv: Sequence[str] | None = None) -> int:
    """Probe a frozen backbone; the exit code is 0, or 2 for what cannot be probed.

    Args:
        argv: the command line without the program's name; ``sys.argv`` by default.
    """
    quiet()
    with one_message(PROGRAM), tempfile.TemporaryDirectory() as scratch:
        return _linear(list(sys.argv[1:] if argv is None else argv), Path(scratch))


def _add_options(parser: LightningArgumentParser) -> None:
    parser.add_argument(
        "--checkpoint",
        type=str,
        help="What to probe: a run folder, the name of a run (its newest), a checkpoint file, or 'untrained' for"
        " the backbone of --config with random weights.",
    )
    parser.add_argument("--runs_dir", type=str, default="runs", help="Folder that holds the run folders.")
    parser.add_argument(
        "--out", type=str | None, help="Folder for the results; by default 'linear' in the run's folder."
    )
    parser.add_argument(
        "--augment",
        action="store_true",
        help="Train the classifier on augmented images (crop and flip, or --data.views given here), through the frozen"
        " backbone in every epoch, instead of on features extracted once.",
    )
    parser.add_argument(
        "--baselines", action="store_true", help="Also measure the same backbone untrained, and raw pixels."
    )
    parser.add_argument(
        "--device", type=str, default="auto", help="auto (a GPU where there is one), cpu, cuda, cuda:1, ..."
    )
    parser.add_argument("--bf16", action="store_true", help="Run the backbone in bfloat16 autocast.")
    parser.add_class_arguments(LinearConfig, "linear")
    parser.add_class_arguments(KNNConfig, "knn")


def _linear(argv: list[str], scratch: Path) -> int:
    which = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    which.add_argument("--checkpoint")
    which.add_argument("--runs_dir", default="runs")
    own, _ = which.parse_known_args(argv)
    asked = {"-h", "--help"}.intersection(argv) or any(a.startswith("--print_config") for a in argv)
    if own.checkpoint is None and not asked:
        raise ConfigError("--checkpoint is needed: a run folder, a run's name, a checkpoint file, or 'untrained'")
    if training := next(
        (a for a in argv if a.startswith(("--trainer", "--model.optimizer", "--model.schedule"))), None
    ):
        raise ConfigError(
            f"command line: {training} is an option of pretraining; those of the probe are --linear.epochs,"
            " --linear.learning_rate, ..., --device and --bf16"
        )
    source = _find_source(own.checkpoint or "untrained", own.runs_dir, scratch)
    if "--augment" in argv and not any(argument.startswith("--data.views") for argument in argv):
        argv = [*argv, "--data.views", "[{recipe: crop_only}]"]
    parsed = build_cli(
        [*(["--config", str(source.config)] if source.config else []), *argv],
        methods=METHODS,
        datasets=DATASETS,
        add_arguments=_add_options,
        ignored=RUN_KEYS,
        description="Probe a frozen backbone with a linear classifier; data and model are its run's unless given.",
        prog=PROGRAM,
    )
    try:
        return _probe(source, parsed)
    except (BackboneMismatchError, FileNotFoundError, FloatingPointError, ValueError) as error:
        raise ConfigError(str(error)) from error


def _find_source(checkpoint: str, runs_dir: str, scratch: Path) -> Source:
    """The weights that ``--checkpoint`` names, and the configuration they come with."""
    if checkpoint == "untrained":
        return Source("the untrained backbone", None, None, Path(runs_dir) / "untrained-linear")
    path = Path(checkpoint)
    try:
        if path.is_file():
            content = read_checkpoint(path)
            config = scratch / "configuration-in-the-checkpoint.yaml"
            config.write_text(yaml.safe_dump(content.get("config", {}), sort_keys=False), encoding="utf-8")
            run_folder = path.parent.parent if (path.parent.parent / "config.yaml").is_file() else path.parent
            return Source(str(path), config, content.get("state_dict", {}), run_folder / "linear")
        run = find_run(runs_dir, checkpoint)
        newest = newest_readable(run)
    except (CheckpointError, FileNotFoundError) as error:
        raise ConfigError(
            f"command line: --checkpoint {checkpoint}: {error}"
            + ("" if path.exists() else "; it is no file and no run folder either")
        ) from error
    if newest is None:
        raise ConfigError(f"command line: --checkpoint {checkpoint}: the run {run.path} has no checkpoint yet")
    return Source(str(newest), run.config, read_checkpoint(newest)["state_dict"], run.path / "linear")


def _probe(source: Source, parsed: Parsed) -> int:
    started = time.monotonic()
    options, seed = parsed.config, parsed.config.seed_everything
    device = _device(options.device)
    built = parsed.instantiate()
    data, config, knn = built.data, built.options.linear, built.options.knn
    backbone = _backbone(parsed, seed).to(device)
    if source.weights is not None:
        load_backbone_weights(backbone, source.weights, source.name)
    data.prepare_data()
    data.setup("fit")
    if not data.num_classes:
        raise ValueError(f"the linear probe needs labels, and the images of {data.root} have none")

    precision = partial(torch.autocast, device.type, torch.bfloat16) if options.bf16 else nullcontext
    features = partial(_both_splits, data, device, precision)
    train, validation = features(backbone)
    batches = None
    if options.augment:
        config = replace(config, batch_size=data.batch_size)
        batches = augmented_batches(backbone, data.shuffled_labelled_dataloader(), data.make_views, device, precision)
    names = [str(name) for name in data.class_names]
    result = linear_probe(train, validation, names, config, seed=seed, batches=batches)

    out = Path(built.options.out or source.out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"out is {out}, which cannot be made ({error}); choose another folder with --out") from error
    about = {
        "checkpoint": source.name,
        "dataset": options.dataset,
        "method": options.method,
        "seed": seed,
        "subset": data.subset,
        "augment": options.augment,
        "bf16": options.bf16,
        "linear": asdict(config),
    }
    result.write(out / "linear.json", **about)
    draw_confusion(result.confusion, names, out / "confusion.png")
    print(_sentence(source, options.dataset, result))
    if options.baselines:
        measure = partial(linear_and_knn, class_names=names, linear=config, knn=knn, seed=seed)
        rows = []
        if source.weights is not None:
            rows.append(measure("trained", train, validation, linear_top1=result.top1))
        baseline = partial(measure, rates=BASELINE_RATES)
        rows.append(baseline("untrained", *(features(_backbone(parsed, seed).to(device)))))
        rows.append(baseline("raw pixels", *features(nn.Flatten())))
        print("\n" + summary_table(rows))
        result.write(out / "linear.json", **about, baselines=[row._asdict() for row in rows])
    print(f"\n{time.monotonic() - started:.0f} s. Written to {out}: linear.json, confusion.png")
    return 0


def _device(name: str) -> torch.device:
    """The device of a name; ``auto`` is a GPU where there is one.

    Raises:
        ConfigError: there is no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"command line: --device {name} is not here ({reason}); give auto, cpu, cuda, ...") from error
    return device


def _backbone(parsed: Parsed, seed: int) -> nn.Module:
    """The method's network as a run of this seed starts with it: images to features."""
    seed_everything(seed, verbose=False)
    return parsed.instantiate().model.backbone


def _both_splits(data: ImageDataModule, device: torch.device, precision: Any, backbone: nn.Module) -> list[Features]:
    loaders = (data.labelled_train_dataloader(), data.val_dataloader())
    return [extract_features(backbone, loader, data.clean, device, precision) for loader in loaders]


def _sentence(source: Source, dataset: str, result: Any) -> str:
    top5 = "" if result.top5 is None else f", top-5 {result.top5:.2f} %"
    lines = [
        f"linear probe of {source.name} on {dataset}: top-1 {result.top1:.2f} %{top5} ({result.num_validation:,}"
        f" validation images; training images {result.train_top1:.2f} %)"
    ]
    if len(result.per_class) <= 20:
        by_class = (f"{name} {'-' if value is None else f'{value:.1f}'}" for name, value in result.per_class.items())
        lines.append("top-1 by class, %: " + ", ".join(by_class))
    return "\n".join(lines)

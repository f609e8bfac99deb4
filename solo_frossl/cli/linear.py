"""``main_linear.py``: how good the features of a backbone are, by a linear classifier or by fine-tuning."""

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch import seed_everything
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.utilities import rank_zero_only
from torch import nn

from solo_frossl.cli.errors import ConfigError, one_message
from solo_frossl.cli.pretrain import quiet
from solo_frossl.cli.probing import (
    Probing,
    add_backbone_options,
    add_device_options,
    add_label_options,
    add_zoo_options,
    given_options,
    has_option,
    prepare,
)
from solo_frossl.methods.backbones import build_backbone
from solo_frossl.probe import (
    BASELINE_RATES,
    FastLinearConfig,
    FastLinearResult,
    Features,
    FineTuneConfig,
    FineTuneResult,
    KNNConfig,
    LinearConfig,
    LinearResult,
    augmented_batches,
    fast_linear_probe,
    fine_tune,
    linear_and_knn,
    linear_probe,
)
from solo_frossl.report import draw_confusion, summary_table

PROGRAM = "main_linear.py"
Protocol = Literal["sgd", "lbfgs", "ridge", "finetune"]
_OPTIONS_OF = {"linear": ("sgd",), "fast": ("lbfgs", "ridge"), "finetune": ("finetune",)}
"""Groups of options by the protocols that they are for."""


def linear(argv: Sequence[str] | None = None) -> int:
    """Probe a backbone; the exit code is 0, or 2 for what cannot be probed.

    Args:
        argv: the command line without the program's name; ``sys.argv`` by default.
    """
    quiet()
    with one_message(PROGRAM):
        argv = list(sys.argv[1:] if argv is None else argv)
        given, _ = given_options([a for a in argv if a != "--augment"], "protocol", "augment")
        augmented = "--augment" in argv or given.augment or given.protocol == "finetune"
        if augmented and not has_option(argv, "data.views"):
            argv += ["--data.views", "[{recipe: crop_only}]"]
        probing = prepare(
            argv,
            add_arguments=_add_options,
            description="Probe a backbone with a linear classifier, or fine-tune it, on the data that it was trained on"
            " unless others are given.",
            prog=PROGRAM,
        )
        try:
            _check(probing, argv)
            return _linear(probing)
        except (FloatingPointError, OSError, ValueError) as error:
            raise ConfigError(str(error)) from error


def _add_options(parser: LightningArgumentParser) -> None:
    add_backbone_options(parser)
    add_zoo_options(parser)
    parser.add_argument(
        "--protocol",
        type=Protocol,
        default="sgd",
        help="sgd: the papers' linear probe (--linear...). lbfgs, ridge: on features extracted once, in seconds,"
        " with the L2 penalty chosen on held-out training images (--fast...). finetune: the whole network is trained"
        " (--finetune...).",
    )
    add_label_options(parser)
    parser.add_argument(
        "--out",
        type=str | None,
        help="Folder for the results; by default 'linear' in the run's folder, or in FILE-probes beside a file.",
    )
    parser.add_argument(
        "--augment",
        action="store_true",
        help="Train the classifier of sgd on augmented images (crop and flip, or --data.views given here), through the"
        " frozen backbone in every epoch, instead of on features extracted once.",
    )
    parser.add_argument(
        "--baselines",
        action="store_true",
        help="Also measure k-NN, and all of it of the same backbone untrained and of raw pixels.",
    )
    add_device_options(parser)
    parser.add_argument("--devices", type=int, default=1, help="Processes that fine-tune, each with a device.")
    parser.add_class_arguments(LinearConfig, "linear")
    parser.add_class_arguments(FastLinearConfig, "fast", skip={"solver"})
    parser.add_class_arguments(FineTuneConfig, "finetune")
    parser.add_class_arguments(KNNConfig, "knn")


def _check(probing: Probing, argv: Sequence[str]) -> None:
    """Refuse options that the protocol would pass over."""
    protocol = probing.options.protocol
    for group, protocols in _OPTIONS_OF.items():
        if protocol not in protocols and (given := has_option(argv, f"{group}.")):
            raise ConfigError(
                f"command line: {given} is for --protocol {' or '.join(protocols)}, and this one is {protocol}"
            )
    if probing.options.augment and protocol != "sgd":
        raise ConfigError(f"command line: --augment is for --protocol sgd, and this one is {protocol}")
    if probing.options.baselines and protocol == "finetune":
        raise ConfigError("command line: --baselines are of frozen features; --protocol finetune has none")
    if probing.options.devices != 1 and protocol != "finetune":
        raise ConfigError("command line: --devices is for --protocol finetune; the others compute in one process")


def _linear(probing: Probing) -> int:
    started = time.monotonic()
    options = probing.options
    names = [str(name) for name in probing.data.class_names]
    out = probing.folder("linear")
    features: tuple[Features, Features] | None = None
    if options.protocol == "finetune":
        config: Any = options.finetune
        result: LinearResult = _fine_tune(probing, config)
    else:
        features = probing.features()
        config, result = _probe(probing, features, names)
    if rank_zero_only.rank != 0:
        return 0
    stem = {"sgd": "linear"}.get(options.protocol, options.protocol)
    if options.augment:
        stem += "-augment"
    if options.labels is not None:
        stem += f"-labels-{Path(str(options.labels)).name}"
    confusion = "confusion.png" if stem == "linear" else f"confusion-{stem}.png"
    group = next(group for group, protocols in _OPTIONS_OF.items() if options.protocol in protocols)
    about = {**probing.about(), "protocol": options.protocol, "augment": options.augment, group: asdict(config)}
    rows = []
    print(_sentence(probing, result))
    if options.baselines and features:
        rows = _baselines(probing, features, result, names)
        print("\n" + summary_table(rows))
        about["baselines"] = [row._asdict() for row in rows]
    result.write(out / f"{stem}.json", **about)
    draw_confusion(result.confusion, names, out / confusion)
    print(f"\n{time.monotonic() - started:.0f} s. Written to {out}: {stem}.json, {confusion}")
    return 0


def _probe(
    probing: Probing, features: tuple[Features, Features], names: list[str]
) -> tuple[LinearConfig | FastLinearConfig, LinearResult]:
    """A classifier of frozen features, and how it was fitted."""
    options, seed = probing.options, probing.options.seed_everything
    if options.protocol != "sgd":
        fast = replace(options.fast, solver=options.protocol)
        return fast, fast_linear_probe(*features, names, fast, seed=seed)
    config, batches = options.linear.sized(len(features[0].labelled().label)), None
    if options.augment:
        loader = probing.data.shuffled_labelled_dataloader()
        config = replace(config, batch_size=loader.sampler.batch_size)
        batches = augmented_batches(
            probing.backbone, loader, probing.data.make_views, probing.device, probing.precision
        )
    return config, linear_probe(*features, names, config, seed=seed, batches=batches)


def _fine_tune(probing: Probing, config: FineTuneConfig) -> FineTuneResult:
    options, device = probing.options, probing.device
    if options.devices < 1:
        raise ConfigError(f"command line: --devices is {options.devices}: it must be at least 1")
    one = [device.index or 0] if device.type == "cuda" else 1
    return fine_tune(
        probing.backbone,
        probing.data,
        config,
        seed=options.seed_everything,
        accelerator=device.type,
        devices=one if options.devices == 1 else options.devices,
        strategy="auto" if options.devices == 1 else "ddp",
        precision="bf16-mixed" if options.bf16 else "32-true",
        enable_progress_bar=sys.stderr.isatty(),
    )


def _baselines(
    probing: Probing, features: tuple[Features, Features], result: LinearResult, names: list[str]
) -> list[Any]:
    """Trained features, those of the same network untrained, and raw pixels, measured in the same way."""
    options = probing.options
    measure = partial(linear_and_knn, class_names=names, knn=options.knn, seed=options.seed_everything)
    rows = []
    if probing.backbone.accounting:
        rows.append(measure("trained", *features, linear_top1=result.top1))
    for name, network in {"untrained": _untrained(probing), "raw pixels": nn.Flatten()}.items():
        theirs = probing.features(network)
        if options.protocol == "sgd":
            rows.append(measure(name, *theirs, linear=options.linear, rates=BASELINE_RATES))
        else:
            rows.append(measure(name, *theirs, linear_top1=_probe(probing, theirs, names)[1].top1))
    return rows


def _untrained(probing: Probing) -> nn.Module:
    """The same network with random weights: those that a run of this seed starts with."""
    architecture, model = probing.backbone.architecture, (probing.backbone.config or {}).get("model") or {}
    seed_everything(probing.options.seed_everything, verbose=False)
    network = build_backbone(
        architecture.backbone,
        architecture.stem,
        probing.data.channels,
        model.get("zero_init_residual", False),
        probing.data.image_size,
        architecture.width,
    )
    return network.to(probing.device)


def _sentence(probing: Probing, result: LinearResult) -> str:
    top5 = "" if result.top5 is None else f", top-5 {result.top5:.2f} %"
    what, remarks = "linear probe", []
    if isinstance(result, FineTuneResult):
        what = "fine-tuning"
    elif isinstance(result, FastLinearResult):
        chosen = f" chosen on {result.num_held_out:,} held-out training images" if result.sweep else ""
        what += f" ({result.protocol}, penalty {result.penalty:g}{chosen})"
        remarks = [f"warning: {result.warning}"] if result.warning else []
    labels = "" if probing.options.labels is None else f" with {result.num_train:,} labels"
    lines = [
        f"{what} of {probing.backbone.name} on {probing.options.dataset}{labels}: top-1 {result.top1:.2f} %{top5}"
        f" ({result.num_validation:,} validation images; training images {result.train_top1:.2f} %)",
        *remarks,
    ]
    if len(result.per_class) <= 20:
        by_class = (f"{name} {'-' if value is None else f'{value:.1f}'}" for name, value in result.per_class.items())
        lines.append("top-1 by class, %: " + ", ".join(by_class))
    return "\n".join(lines)

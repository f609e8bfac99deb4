"""``solo-frossl zoo add RUN``: a run's backbone as an entry of the zoo, measured from the file that is written."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from lightning.pytorch.cli import LightningArgumentParser

from solo_frossl.cli.errors import ConfigError, one_message
from solo_frossl.cli.pretrain import quiet
from solo_frossl.cli.probing import Probing, add_backbone_options, add_device_options, image_folder, prepare
from solo_frossl.probe import KNNConfig, LinearConfig, linear_and_knn
from solo_frossl.run_files import RunFolder
from solo_frossl.weights import WeightsError, load_backbone
from solo_frossl.zoo import ZooError, shipped_index
from solo_frossl.zoo.add import add_checkpoint
from solo_frossl.zoo.index import PRECISIONS

PROGRAM = "solo-frossl zoo add"
_FREE = ("root", "workers", "residency", "eval_batch_size", "download")
"""What of the data may be given: nothing by which its images would be others than the entry's commands take."""


def zoo_add(argv: Sequence[str]) -> int:
    """Make an entry of the zoo; the exit code is 0, or 2 for what cannot be one.

    Args:
        argv: the command line without the program's name, a run first.
    """
    quiet()
    with one_message(PROGRAM):
        run, rest = (argv[0], argv[1:]) if argv and not argv[0].startswith("-") else (None, list(argv))
        _refuse_other_images(rest)
        if run is None and not {"-h", "--help"}.intersection(argv):
            raise ConfigError(f"{PROGRAM} needs a run first: a run folder, or the name of a run")
        probing = prepare(
            [*([f"--backbone={run}"] if run else []), *rest],
            add_arguments=_add_options,
            description="Make an entry of the zoo from a run: write its backbone's file, measure that by linear probe"
            " and k-NN on the run's data, write model card and index. The run comes first: zoo add RUN --name NAME.",
            prog=PROGRAM,
        )
        try:
            return _add(probing)
        except (ZooError, WeightsError, ValueError) as error:
            raise ConfigError(str(error)) from error
        except OSError as error:
            raise ConfigError(f"the entry cannot be written: {error}") from error


def _refuse_other_images(argv: Sequence[str]) -> None:
    allowed = tuple(f"--data.{name}" for name in _FREE)
    for option in (argument.partition("=")[0] for argument in argv):
        others = option.startswith("--data") and option not in allowed
        if others or option in ("--seed_everything", "--bf16", "--config", "-c"):
            raise ConfigError(
                f"command line: {option} is not for {PROGRAM}: the run is measured as it was trained, so that everybody"
                f" finds the same from the file; of the data only {', '.join(allowed)} can be given"
            )


def _add_options(parser: LightningArgumentParser) -> None:
    add_backbone_options(parser)
    parser.add_argument("--name", type=str | None, help="Name of the entry; by default METHOD-BACKBONE-TRAINED_ON.")
    parser.add_argument(
        "--trained_on",
        type=str | None,
        help="What to call the images that it was trained on; by default as the dataset, or the folder, is called.",
    )
    parser.add_argument(
        "--index", type=str, default="zoo/index.yaml", help="The index; weights and cards lie beside it."
    )
    parser.add_argument("--precision", type=str, default="float16", help=f"Of the file: {' or '.join(PRECISIONS)}.")
    parser.add_argument("--licence", type=str, default="MIT", help="Of the weights.")
    parser.add_argument(
        "--places",
        type=list[str],
        default=[],
        help="Where else the file will be had: [https://..., hf:OWNER/REPO/PATH@REVISION].",
    )
    add_device_options(parser)


def _add(probing: Probing) -> int:
    backbone, data, options = probing.backbone, probing.data, probing.options
    config = backbone.config
    if Path(options.backbone).is_file():
        raise ConfigError(
            f"{options.backbone} is a file: an entry says after which epoch its weights are, which the run tells of its"
            " last checkpoint alone; give the run's folder"
        )
    if not config or probing.transfer or not (probing.home / "config.yaml").is_file():
        raise ConfigError(f"{options.backbone} is no run with its own data, of which a zoo entry is made")
    network = backbone.architecture
    width = "" if network.width == 1 else f"w{network.width:g}"
    role = "" if options.encoder == "backbone" else f"-{options.encoder}"
    folder = image_folder(data)
    trained_on = options.trained_on or folder or config["dataset"]
    usual = f"{config['method']}{role}-{network.backbone}{width}-{trained_on}"
    name = options.name or re.sub(r"[^A-Za-z0-9._-]+", "-", usual)

    def measure(file: Path) -> dict[str, float]:
        stored = load_backbone(file).to(probing.device)
        names = [str(name) for name in data.class_names]
        train, validation = probing.features(stored)
        quality = linear_and_knn(
            name, train, validation, names, linear=LinearConfig(), knn=KNNConfig(), seed=options.seed_everything
        )
        return {"linear_top1": quality.linear_top1, "knn_top1": quality.knn_top1}

    entry = add_checkpoint(
        backbone,
        RunFolder(probing.home),
        options.index,
        name=name,
        measure=measure,
        validation_images=data.num_val,
        dataset=trained_on,
        options=f"--data.root {shlex.quote(folder)}" if folder else "",
        precision=options.precision,
        licence=options.licence,
        places=options.places,
    )
    percents = ", ".join(f"{key} {value:.2f} %" for key, value in entry.accuracy.items())
    print(f"zoo:{entry.name}: {percents}; {entry.size / 1e6:.2f} MB")
    index = Path(options.index)
    if index.resolve() != shipped_index().resolve():
        print(f"Its options: --backbone zoo:{entry.name} --index {shlex.quote(str(index))}")
    print(f"Written to {index.parent}: weights/{entry.file}, cards/{entry.name}.md, {index.name}")
    return 0

"""What the programs that probe share: which backbone, which images, on which device."""

import argparse
import re
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
import yaml
from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.utilities import rank_zero_only
from torch import nn

from solo_frossl.augment.functional import LUMA
from solo_frossl.cli.config import compose, load_yaml
from solo_frossl.cli.errors import ConfigError
from solo_frossl.cli.parser import DEFAULT_DATASET, Parsed, build_cli
from solo_frossl.cli.pretrain import RUN_KEYS
from solo_frossl.data import DATASETS, ImageDataModule, ImageFolder
from solo_frossl.methods.backbones import Stem
from solo_frossl.probe import Features, extract_features
from solo_frossl.run_files import find_run
from solo_frossl.weights import Pretrained, WeightsError, load_backbone
from solo_frossl.zoo import ZooError

SPEC = (
    "a run folder or the name of a run (its newest), a checkpoint file (this library's, solo-learn's, lightly's,"
    " torchvision's, timm's, MoCo's, DINO's, safetensors), zoo:NAME, timm:NAME (with its pretrained weights),"
    " untrained:NAME (a timm model with random weights), or untrained (the network of --config with random weights)"
)
_KEPT = ("dataset", "data", "seed_everything")
"""What is taken of the configuration that a backbone comes with."""
Precision = Callable[[], AbstractContextManager]


class Probing(NamedTuple):
    """A backbone and the images to probe it on.

    Attributes:
        backbone: the backbone, in eval mode on ``device``; maps images as ``data.clean`` makes them to features.
        data: set up.
        options: the program's own options, their classes built, with ``dataset`` and ``seed_everything``.
        device: where to compute.
        precision: makes the context of each forward pass.
        home: folder for results: the run's, one beside the file, or one for this backbone in the folder of runs.
        variant: what folders of results add to their names, unless this is the newest backbone of a run on its data.
        transfer: whether the images are of a dataset that the backbone is not known to be trained on.
    """

    backbone: Pretrained
    data: ImageDataModule
    options: Namespace
    device: torch.device
    precision: Precision
    home: Path
    variant: str
    transfer: bool

    def features(self, backbone: nn.Module | None = None, *, unlabelled: bool = False) -> tuple[Features, Features]:
        """Features of the labelled training images and of the validation images, by this backbone or another.

        Args:
            backbone: maps images as ``data.clean`` makes them to features ``(B, F)``.
            unlabelled: also of the training images without a label, whose label is -1.
        """
        extract = partial(
            extract_features,
            backbone or self.backbone,
            prepare=self.data.clean,
            device=self.device,
            precision=self.precision,
        )
        train = self.data.whole_train_dataloader() if unlabelled else self.data.labelled_train_dataloader()
        return extract(train), extract(self.data.val_dataloader())

    def folder(self, what: str) -> Path:
        """The folder for results of a kind, made if it is missing: ``--out``, else in :attr:`home`.

        Each dataset, image folder (by its name), checkpoint and encoder has its own, so that no result takes the place
        of another's. To be asked for before anything is computed.

        Args:
            what: such as ``linear``.

        Raises:
            ConfigError: it cannot be made, or nothing can be written to it.
        """
        out = Path(self.options.out or self.home / f"{what}{self.variant}")
        return writable(out)

    def about(self) -> dict[str, Any]:
        """What was probed and on what, plain values for a file of results."""
        return {
            "backbone": self.backbone.name,
            "encoder": self.options.encoder,
            "architecture": self.backbone.architecture.to_dict(),
            "dataset": self.options.dataset,
            "root": self.data.root,
            "seed": self.options.seed_everything,
            "subset": self.data.subset,
            "labels": self.options.get("labels"),
            "image_size": self.data.image_size,
            "mean": list(self.data.mean),
            "std": list(self.data.std),
            "bf16": self.options.bf16,
        }


def writable(folder: Path) -> Path:
    """The folder, made if it is missing.

    Raises:
        ConfigError: it cannot be made, or nothing can be written to it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        reason = error.strerror or error
        raise ConfigError(f"{folder} cannot be written to ({reason}); choose another place with --out") from error


def add_backbone_options(parser: LightningArgumentParser) -> None:
    """The options by which a backbone is named."""
    parser.add_argument("--backbone", type=str | None, help=f"What to take: {SPEC}.")
    parser.add_argument(
        "--encoder",
        type=Literal["backbone", "target"],
        default="backbone",
        help="Which encoder of a checkpoint that holds two: the one that was trained, or the target network (EMA).",
    )
    parser.add_argument(
        "--architecture",
        type=str | None,
        help="timm name of the network, for a file whose weights leave it open.",
    )
    parser.add_argument(
        "--stem",
        type=Literal["imagenet", "cifar"] | Stem | None,
        help="First layers of a ResNet, where they are not what the weights let suppose.",
    )
    parser.add_argument("--runs_dir", type=str, default="runs", help="Folder that holds the run folders.")


def add_zoo_options(parser: LightningArgumentParser) -> None:
    """The options by which ``zoo:NAME`` is found."""
    parser.add_argument(
        "--index", type=str | None, help="Index of the zoo; by default the one that comes with the package."
    )
    parser.add_argument(
        "--cache",
        type=str | None,
        help="Folder for checkpoints of the zoo; by default SOLO_FROSSL_HOME, else the user's cache folder.",
    )


def add_label_options(parser: LightningArgumentParser) -> None:
    """The option by which some training images keep their labels."""
    parser.add_argument(
        "--labels",
        type=int | float | str | None,
        help="How many training images keep their label: a fraction (0.01 or 0.1 as in the semi-supervised tables;"
        " every class keeps its share, the smaller part lies within the larger), a number of images, or a file with the"
        " name of an image on each line. None given: all.",
    )


def add_device_options(parser: LightningArgumentParser) -> None:
    """The options by which a device and its precision are named."""
    parser.add_argument(
        "--device", type=str, default="auto", help="auto (a GPU where there is one), cpu, cuda, cuda:1, ..."
    )
    parser.add_argument("--bf16", action="store_true", help="Run the backbone in bfloat16 autocast.")


def prepare(
    argv: Sequence[str],
    *,
    add_arguments: Callable[[LightningArgumentParser], None],
    description: str,
    prog: str,
    unlabelled: bool = False,
) -> Probing:
    """Read a command line that names a backbone and a dataset; load the one and set up the other.

    Images are those that the backbone was trained on unless the command line names another dataset. They get the size
    and the normalisation that the backbone was trained with, where these are known and not given. A network for colour
    sees grey images as grey colours, and a network for grey images the luma of colours.

    Args:
        argv: the command line without the program's name.
        add_arguments: adds the program's options, with those of :func:`add_backbone_options` and
            :func:`add_device_options`.
        description: first paragraph of ``--help``.
        prog: name of the program.
        unlabelled: whether a dataset without labels will do.

    Raises:
        ConfigError: anything that cannot be probed.
    """
    asked = {"-h", "--help"}.intersection(argv)
    _refuse_training_options(argv)
    backbone = None if asked else read_backbone(argv)
    trained_on = dict(backbone.config or {}) if backbone else {}
    chosen = _chosen_dataset(argv)
    transfer = (chosen or trained_on.get("dataset", DEFAULT_DATASET)) != trained_on.get("dataset")
    with tempfile.TemporaryDirectory() as scratch:
        layers: list[str] = []
        if backbone:
            base = {} if transfer else {key: trained_on[key] for key in _KEPT if key in trained_on}
            dataset = DATASETS.get(chosen or str(base.get("dataset", DEFAULT_DATASET)))
            file = Path(scratch) / "data-of-the-backbone.yaml"
            file.write_text(yaml.safe_dump(_with_defaults(base, backbone, dataset), sort_keys=False), encoding="utf-8")
            layers = ["--config", str(file)]
        try:
            parsed = build_cli(
                [*layers, *argv],
                methods=None,
                datasets=DATASETS,
                add_arguments=add_arguments,
                ignored=(*RUN_KEYS, "knn"),
                description=description,
                prog=prog,
            )
            assert backbone is not None  # --help has ended the program
            return _set_up(parsed, backbone, transfer, unlabelled)
        except (ConfigError, FileNotFoundError, FloatingPointError, ValueError) as error:
            raise ConfigError(_without_place(str(error), scratch, backbone)) from error


def _without_place(message: str, scratch: str, backbone: Pretrained | None) -> str:
    """An error with the backbone named where a line of a file that only the program has seen is meant."""
    where = "" if backbone is None else f"as the configuration of {backbone.name} has it"
    return re.sub(rf"{re.escape(scratch)}/[\w.-]+(, line \d+)?", lambda _: where, message)


def read_backbone(argv: Sequence[str]) -> Pretrained:
    """The backbone that a command line names.

    Args:
        argv: the command line, with its ``--config`` files; other options than the backbone's are passed over.

    Raises:
        ConfigError: there is none, or it cannot be loaded.
    """
    given, where = given_options(
        argv, "backbone", "architecture", "stem", "index", "cache", "encoder", "runs_dir", "seed_everything"
    )
    if given.backbone is None:
        raise ConfigError(f"--backbone is needed: {SPEC}")
    spec, options = given.backbone, _untrained_options(argv, given.config) if _is_untrained(given.backbone) else {}
    if spec == "untrained":
        spec = f"untrained:{given.architecture or options.pop('name')}"
    options.pop("name", None)
    if given.stem is not None:
        options["stem"] = _stem(given.stem)
    try:
        with _warnings_in_a_line():
            return load_backbone(
                spec,
                encoder=given.encoder or "backbone",
                architecture=given.architecture,
                runs_dir=given.runs_dir or "runs",
                index=given.index,
                cache=given.cache,
                seed=_seed(given.seed_everything),
                **options,
            )
    except (WeightsError, ZooError, ValueError) as error:
        raise ConfigError(f"{where('backbone')}: --backbone {given.backbone}: {error}") from error


def given_options(argv: Sequence[str], *names: str) -> tuple[argparse.Namespace, Callable[[str], str]]:
    """Values of options before all others are known: of the command line, else of its ``--config`` files, else None.

    Args:
        argv: the command line.
        names: of the options, each with one value.

    Returns:
        The values by name, with ``config``, the paths of the files; and a function from a name to the value's place.

    Raises:
        ConfigError: an option has no value, or a file cannot be read.
    """
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for name in names:
        finder.add_argument(f"--{name}")
    finder.add_argument("--config", "-c", action="append", default=[])
    try:
        given, _ = finder.parse_known_args(list(argv))
    except argparse.ArgumentError as error:
        raise ConfigError(f"command line: {error}") from error
    composed = compose(given.config).without(RUN_KEYS)
    in_files = {name for name in names if getattr(given, name) is None and composed.get(name) is not None}
    for name in in_files:
        setattr(given, name, composed.get(name))
    return given, lambda name: (composed.where((name,)) or "") if name in in_files else "command line"


def _seed(given: Any) -> int:
    try:
        return int(given or 0)
    except (TypeError, ValueError):
        return 0  # build_cli says what is wrong with it


@contextmanager
def _warnings_in_a_line() -> Iterator[None]:
    """Write warnings without the line of source code that they come from."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}", file=sys.stderr)
        yield


def _is_untrained(spec: str) -> bool:
    return spec.partition(":")[0] == "untrained"


def _untrained_options(argv: Sequence[str], configs: Sequence[str]) -> dict[str, Any]:
    """What a network with random weights follows: the model of ``--config``, and the channels of the dataset."""
    model = compose(configs).get("model") or {}
    stem, dataset = model.get("stem", "imagenet"), DATASETS.get(_chosen_dataset(argv) or DEFAULT_DATASET)
    return {
        "name": model.get("backbone", "resnet18"),
        "stem": Stem(**stem) if isinstance(stem, Mapping) else stem,
        "width": model.get("width", 1.0),
        "channels": dataset.channels if dataset else 3,
    }


def has_option(argv: Sequence[str], prefix: str) -> str | None:
    """The first option of a command line whose name starts so.

    >>> has_option(["--linear.epochs=3", "--out", "a"], "linear.")
    '--linear.epochs'
    """
    return next((a.split("=")[0] for a in argv if a.startswith(f"--{prefix}")), None)


def find_device(name: str) -> torch.device:
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


def _stem(given: str | Mapping[str, Any]) -> Any:
    """The stem of ``--stem``, or of a file."""
    try:
        value = load_yaml(given) if isinstance(given, str) else given
        return Stem(**value) if isinstance(value, Mapping) else value
    except (TypeError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(
            f"command line: --stem {given}: {getattr(error, 'problem', None) or error}; write imagenet, cifar, or"
            " {kernel_size: 3, stride: 1, max_pool: false, padding: 1}"
        ) from error


def _refuse_training_options(argv: Sequence[str]) -> None:
    if training := next((a for a in argv if a.startswith(("--trainer", "--model", "--method"))), None):
        raise ConfigError(
            f"command line: {training} is an option of pretraining; a probe has --architecture and --stem for the"
            " network, --device and --bf16 for the machine, and its own (see --help)"
        )
    if any(a == "--checkpoint" or a.startswith("--checkpoint=") for a in argv):
        raise ConfigError("command line: --checkpoint is now --backbone, which takes the same and more (see --help)")


def _chosen_dataset(argv: Sequence[str]) -> str | None:
    return given_options(argv, "dataset")[0].dataset


def _with_defaults(
    base: Mapping[str, Any], backbone: Pretrained, dataset: type[ImageDataModule] | None
) -> dict[str, Any]:
    """The lowest layer of the configuration: the backbone's data, or its image size and normalisation on other data."""
    data = dict(base.get("data") or {})
    channels = dataset.channels if dataset else backbone.architecture.channels
    if data.get("image_size") is None and backbone.image_size:
        data["image_size"] = backbone.image_size
    if backbone.mean and backbone.std and channels == backbone.architecture.channels:
        data |= {"mean": list(backbone.mean), "std": list(backbone.std)}
    return {**base, "data": data} if data else dict(base)


def _set_up(parsed: Parsed, backbone: Pretrained, transfer: bool, unlabelled: bool) -> Probing:
    device = find_device(parsed.config.device)
    built = parsed.instantiate()
    data, options = built.data, built.options
    images, network = data.channels, backbone.architecture.channels
    if images != network and images != 1 and (images, network) != (3, 1):
        raise ValueError(
            f"the images of {options.dataset} have {images} channels and {backbone.name} takes {network}: probe it on"
            " images of as many channels"
        )
    own = {name: getattr(backbone, name) for name in ("mean", "std") if getattr(data, name) is None}  # where none given
    data.prepare_data()
    if not (data.num_classes or unlabelled):
        data.sources()  # which says so where there are no images at all
        raise ValueError(f"a probe needs labels, and the images of {data.root} have none")
    data.keep_labels(options.get("labels"))
    data.setup("fit")
    if images == 1 != network:
        backbone.accept_grey(data.mean, data.std)
    elif images != network:
        _turn_grey(data, own)
    precision = partial(torch.autocast, device.type, torch.bfloat16) if options.bf16 else nullcontext
    home = _home(options.backbone, options.runs_dir, backbone)
    variant = _variant(options, _other_images(data, options.dataset, backbone))
    if backbone.accounting:
        rank_zero_only(print)(backbone.accounting)
    if images == 3 != network:
        rank_zero_only(print)(
            f"the images of {options.dataset} are in colour and {backbone.name} takes one channel: they are turned into"
            " grey ones (ITU-R BT.601 luma)"
        )
    _try(backbone.to(device), data, device)
    return Probing(backbone, data, options, device, precision, home, variant, transfer)


def _try(backbone: Pretrained, data: ImageDataModule, device: torch.device) -> None:
    """Refuse images of a size that the network cannot take, before any is read."""
    size = data.image_size
    try:
        with torch.no_grad():
            backbone(torch.zeros(2, data.channels, size, size, device=device))
    except torch.OutOfMemoryError:
        raise
    except (AssertionError, RuntimeError) as error:
        raise ValueError(
            f"{backbone.name} cannot take images of {size} x {size} pixels ({error}): set data.image_size"
        ) from error


def _turn_grey(data: ImageDataModule, own: Mapping[str, Sequence[float] | None]) -> None:
    """Let colour images become grey ones, normalised as the network's own.

    Args:
        data: the images, set up.
        own: ``mean`` and ``std`` of the network, one value each; where one is missing, the luma of the data's counts.
    """

    def value(name: str) -> float:
        luma = sum(weight * part for weight, part in zip(LUMA, getattr(data, name), strict=True))
        return own[name][0] if own.get(name) else luma

    data.turn_grey(value("mean"), value("std"))


def _home(spec: str, runs_dir: str, backbone: Pretrained) -> Path:
    """The folder under which results go: the run's, where the backbone is one."""
    path = Path(spec).expanduser()
    if path.is_file():
        return path.parent.parent if _is_of_a_run(path) else path.with_name(f"{path.name}-probes")
    if not re.match(r"(zoo|timm|untrained):|untrained$", spec):
        return find_run(runs_dir, spec).path
    network = backbone.architecture
    stem = network.stem if isinstance(network.stem, str) else f"stem{network.stem.kernel_size}x{network.stem.stride}"
    kind = [*([stem] if stem != "imagenet" else []), *([f"w{network.width:g}"] if network.width != 1 else [])]
    name = "-".join([spec, *kind]) if _is_untrained(spec) else spec
    return Path(runs_dir) / re.sub(r"[^\w.-]+", "-", name)


def _is_of_a_run(file: Path) -> bool:
    return (file.parent.parent / "config.yaml").is_file()


def _other_images(data: ImageDataModule, dataset: str, backbone: Pretrained) -> str:
    """What to call the images, if they are not those that the backbone is known to be trained on; else ""."""
    config, folder = backbone.config or {}, image_folder(data)
    trained_on = Path((config.get("data") or {}).get("root", ""))
    if dataset != config.get("dataset"):
        same = False
    elif not folder:
        same = True
    elif len(trained_on.parts) == 1:  # of a published configuration, which has kept the name only
        same = folder == trained_on.name
    else:
        same = Path(data.root).expanduser().resolve() == trained_on.resolve()
    return "" if same else "-".join(part for part in (dataset, folder) if part)


def image_folder(data: ImageDataModule) -> str:
    """The name of the folder that the images are from, where they are no dataset with a name of its own; else ""."""
    return Path(data.root).expanduser().absolute().name if type(data) is ImageFolder else ""


def _variant(options: Namespace, images: str) -> str:
    """What a folder of results adds to its name: another checkpoint than the last, encoder, and other images."""
    file = Path(options.backbone).expanduser()
    checkpoint = file.stem if file.is_file() and _is_of_a_run(file) and file.stem != "last" else ""
    encoder = "" if options.encoder == "backbone" else options.encoder
    parts = (checkpoint, encoder, images)
    return "".join(f"-{part}" for part in parts if part)

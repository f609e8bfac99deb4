"""``solo-frossl export``: a trained backbone as a file that other libraries read."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from solo_frossl.cli.errors import ConfigError, one_message
from solo_frossl.cli.pretrain import quiet
from solo_frossl.cli.probing import SPEC, read_backbone
from solo_frossl.weights.export import SUFFIXES, TOLERANCE, ExportError, export_backbone, recipe

PROGRAM = "solo-frossl export"


def export(argv: Sequence[str] | None = None) -> int:
    """Export a backbone; the exit code is 0, or 2 for what cannot be exported.

    Args:
        argv: the command line without the program's name; ``sys.argv`` by default.
    """
    quiet()
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = _parser()
    with one_message(PROGRAM):
        args = parser.parse_args(argv)
        name = args.backbone.rstrip("/").replace(":", "-").split("/")[-1]
        out = args.out or Path(f"{name}-{args.format}{SUFFIXES[args.format]}")
        if out.suffix != SUFFIXES[args.format] and not (out.suffix == ".pt" and SUFFIXES[args.format] == ".pth"):
            raise ConfigError(f"--out is {out}: files of the format {args.format} end in {SUFFIXES[args.format]}")
        if out.exists() and Path(args.backbone).exists() and out.samefile(args.backbone):
            raise ConfigError(f"--out is {out}, the file that is read, which may hold more: choose another")
        backbone = read_backbone(argv)
        if backbone.accounting:
            print(backbone.accounting)
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            difference = export_backbone(backbone, out, args.format, args.image_size)
        except ExportError as error:
            raise ConfigError(str(error)) from error
        except OSError as error:
            raise ConfigError(f"{out} cannot be written ({error}); choose another file with --out") from error
        print(
            f"Written to {out} ({out.stat().st_size / 1e6:.1f} MB). Read back, its features of random images differ by"
            f" {difference:.1e} of their greatest magnitude (at most {TOLERANCE:.0e} is allowed).\n"
            f"{_input(backbone)}To read it without this package:\n"
        )
        print("\n".join(f"    {line}" if line else "" for line in recipe(backbone, out, args.format).splitlines()))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        allow_abbrev=False,
        description="Write a backbone, without projector and classifier, in a format that other libraries read. The"
        " file is read back and its features are compared before it takes its name.",
    )
    parser.add_argument("--backbone", required=True, metavar="SPEC", help=SPEC)
    parser.add_argument(
        "--format",
        choices=list(SUFFIXES),
        required=True,
        help="timm, torchvision: a state dict under that library's names; safetensors: timm's names, with architecture,"
        " mean and std in the metadata; onnx: from normalised images to features, for batches of any size",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="by default named after the backbone, in this folder")
    parser.add_argument("--image_size", type=int, metavar="PIXELS", help="side of the images of an ONNX network")
    parser.add_argument("--encoder", choices=("backbone", "target"), help="the one that was trained, or its EMA")
    parser.add_argument("--architecture", metavar="NAME", help="timm name, for a file whose weights leave it open")
    parser.add_argument("--stem", help="imagenet, cifar or {kernel_size: 3, stride: 1, max_pool: false, padding: 1}")
    parser.add_argument("--runs_dir", default="runs", metavar="DIR", help="folder that holds the run folders")
    parser.add_argument(
        "--index", metavar="FILE", help="index of the zoo; by default the one that comes with the package"
    )
    parser.add_argument("--cache", metavar="DIR", help="folder for checkpoints of the zoo")
    return parser


def _input(backbone) -> str:
    if backbone.mean is None or backbone.std is None:
        return ""
    mean, std = (", ".join(f"{value:.4f}" for value in values) for values in (backbone.mean, backbone.std))
    return f"Its input is images in 0 to 1, normalised by mean ({mean}) and standard deviation ({std}). "

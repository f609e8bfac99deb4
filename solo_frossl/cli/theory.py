"""``solo-frossl theory``: the figures of the theory, computed, drawn, and written as numbers."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from solo_frossl.cli.errors import ConfigError, one_message
from solo_frossl.theory.figures import FIGURES, Images, TheoryFigure, draw, write_csv
from solo_frossl.theory.page import write_page

PROGRAM = "solo-frossl theory"


def theory(argv: Sequence[str] | None = None) -> int:
    """Compute and draw figures; the exit code is 0, or 2 for what cannot be drawn.

    Args:
        argv: the command line without the program's name; ``sys.argv`` by default.
    """
    with one_message(PROGRAM):
        return _theory(_parser().parse_args(sys.argv[1:] if argv is None else argv))


def _parser() -> argparse.ArgumentParser:
    known = {name: entry.text for name, entry in FIGURES.items()}
    known["all"] = "all of them, on one page, with what the papers claim and what came out"
    width = max(map(len, known))
    users = [name for name, entry in FIGURES.items() if entry.images]
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="The dynamics that the papers derive: gradient descent on the weights, the differential equation\n"
        "and the closed form, one upon the other, as a PNG and as a CSV file with every point.",
        epilog="figures:\n" + "\n".join(f"  {name:<{width}}  {text}" for name, text in known.items()),
    )
    parser.add_argument("name", choices=[*FIGURES, "all"], metavar="NAME", help="one of the figures below, or all")
    parser.add_argument("--out", type=Path, default=Path("theory"), metavar="DIR", help="where to; default: theory")
    parser.add_argument(
        "--data",
        type=Path,
        metavar="FOLDER",
        help="images for " + ", ".join(users) + ", in class folders; default: scikit-learn's digits",
    )
    parser.add_argument("--seed", type=int, default=0, help="of everything that is drawn at random; default 0")
    return parser


def _theory(args: argparse.Namespace) -> int:
    names = list(FIGURES) if args.name == "all" else [args.name]
    if args.data is not None and not any(FIGURES[name].images for name in names):
        users = ", ".join(name for name, entry in FIGURES.items() if entry.images)
        raise ConfigError(f"{args.name} uses no images: leave --data away; those that do are {users}")
    images = {name: _images(name, args) for name in names}  # all, before the first figure takes its time
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # matrices are small here: more threads wait for each other longer than they work
    try:
        args.out.mkdir(parents=True, exist_ok=True)
        figures = [_figure(name, images[name], args) for name in names]
        if args.name == "all":
            write_page(figures, args.out)
    except OSError as error:
        raise ConfigError(f"{args.out} cannot be written ({error}); choose another folder with --out") from error
    finally:
        torch.set_num_threads(threads)
    written = "index.html" if args.name == "all" else f"{args.name}.png, {args.name}.csv"
    print(f"Written to {args.out}: {written}")
    return 0


def _images(name: str, args: argparse.Namespace) -> Images | None:
    read = FIGURES[name].images
    try:
        return read(args.data, args.seed) if read else None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{name}: {error}") from error


def _figure(name: str, images: Images | None, args: argparse.Namespace) -> TheoryFigure:
    entry = FIGURES[name]
    with tqdm(total=entry.steps, desc=name, unit="step", file=sys.stderr, leave=False) as bar:
        figure = entry.compute(images, args.seed, bar.update)
    draw(figure, args.out / f"{name}.png")
    write_csv(figure, args.out / f"{name}.csv")
    print(f"{figure.title}\n  {figure.measured}", flush=True)
    return figure

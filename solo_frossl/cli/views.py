"""``solo-frossl views``: a picture of the views that a training step gets, before anything is trained."""

import sys
from collections.abc import Sequence

import numpy as np
import torch
from lightning.pytorch.cli import LightningArgumentParser
from torch import Tensor

from solo_frossl.augment.parameters import BRIGHTNESS, CONTRAST, HUE, SATURATION, Parameters
from solo_frossl.batch import Batch
from solo_frossl.cli.errors import ConfigError, one_message
from solo_frossl.cli.parser import build_cli
from solo_frossl.cli.pretrain import RUN_KEYS, check_views, quiet
from solo_frossl.data import DATASETS, ImageDataModule
from solo_frossl.methods import METHODS
from solo_frossl.report import Tile, draw_views

PROGRAM = "solo-frossl views"


def views(argv: Sequence[str] | None = None) -> int:
    """Draw views; the exit code is 0, or 2 for what cannot be drawn.

    Args:
        argv: the command line without the program's name; ``sys.argv`` by default.
    """
    quiet()
    with one_message(PROGRAM):
        return _views(list(sys.argv[1:] if argv is None else argv))


def _add_options(parser: LightningArgumentParser) -> None:
    parser.add_argument("--out", type=str, default="views.png", help="The picture, a PNG file.")
    parser.add_argument("--images", type=int, default=8, help="Images to show, the first of the batch.")
    parser.add_argument("--epoch", type=int, default=0, help="Epoch of the training step, from 0.")
    parser.add_argument("--step", type=int, default=0, help="The training step within that epoch, from 0.")


def _views(argv: list[str]) -> int:
    parsed = build_cli(
        argv,
        methods=METHODS,
        datasets=DATASETS,
        add_arguments=_add_options,
        ignored=(*RUN_KEYS, "knn"),
        description="Draw the views of the first images of one training step, exactly as a run in one process gets"
        " them, with the parameters drawn for each. Nothing is trained.",
        prog=PROGRAM,
    )
    options = parsed.config
    for name, least in {"images": 1, "epoch": 0, "step": 0}.items():
        if options[name] < least:
            raise ConfigError(f"--{name} is {options[name]}: it must be at least {least}")
    if (
        options.data.on_error == "raise"
    ):  # else unreadable images are left out on reading all, and the order depends on it
        options.data.residency, options.data.workers = "stream", 0
    built = parsed.instantiate()
    check_views(built)
    data = built.data
    try:
        data.prepare_data()
        data.setup("fit")
        batch = training_batch(data, options.epoch, options.step)
        rows = view_tiles(data, batch, min(options.images, len(batch.label)))
        draw_views(rows, ["image", *view_titles(data)], options.out)
    except (FileNotFoundError, ValueError) as error:
        raise ConfigError(str(error)) from error
    except OSError as error:
        raise ConfigError(f"{options.out} cannot be written ({error}); choose another file with --out") from error
    print(
        f"{len(rows)} images of {options.dataset} and {len(rows[0]) - 1} views of each, for {options.method}:"
        f" step {options.step} of epoch {options.epoch}, seed {options.seed_everything}. Written to {options.out}"
    )
    return 0


def training_batch(data: ImageDataModule, epoch: int, step: int) -> Batch:
    """The batch of a training step.

    Args:
        data: set up.
        epoch: from 0.
        step: within the epoch, from 0.

    Raises:
        ValueError: the epoch has fewer steps.
    """
    loader = data.train_dataloader()
    if step >= len(loader):
        raise ValueError(f"--step is {step}: an epoch has {len(loader)} steps, from 0 to {len(loader) - 1}")
    loader.sampler.set_epoch(epoch)
    loader.load_state_dict({"epoch": epoch, "batches": step, "batches_per_epoch": len(loader)})
    return next(iter(loader))


def view_tiles(data: ImageDataModule, batch: Batch, number: int) -> list[list[Tile]]:
    """For each of the first images of a batch the image and its views, their normalisation taken back.

    Args:
        data: set up.
        batch: as a loader yields it.
        number: how many of its images.
    """
    images = list(batch.image)
    heights, widths = ([image.shape[side] for image in images] for side in (-2, -1))
    drawn = data.augment.draw(len(images), heights, widths, data.view_generator(batch))
    made = data.augment.apply(batch.image, drawn)
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (data.mean, data.std))
    colour = data.channels == 3
    rows = []
    for i, image in enumerate(images[:number]):
        boxes = [tuple(float(side[i]) for side in (p.top, p.left, p.height, p.width)) for p in drawn]
        rows.append([Tile(_shown(image / 255), _about_image(data, batch, i), boxes)])
        rows[-1] += [
            Tile(_shown(view[i] * std + mean), about_view(p, i, image, colour))
            for view, p in zip(made, drawn, strict=True)
        ]
    return rows


def _shown(image: Tensor) -> np.ndarray:
    return image.float().clamp(0, 1).cpu().numpy()


def _about_image(data: ImageDataModule, batch: Batch, i: int) -> str:
    height, width = batch.image[i].shape[-2:]
    label = int(batch.label[i])
    name = "unlabelled" if label < 0 else data.class_names[label]
    return f"number {int(batch.index[i])}, {name}\n{width} x {height} px"


def view_titles(data: ImageDataModule) -> list[str]:
    """A title for each view: its number and recipe, then its size and what it changes of the recipe, a line each."""
    titles = []
    for view in data.views:
        own = {n: v for n, v in vars(view).items() if n not in ("recipe", "count", "size") and v is not None}
        lines = [f"{view.size or data.image_size} px", *(f"{name} {value}" for name, value in own.items())]
        titles += ["\n".join([f"view {len(titles) + 1 + i}: {view.recipe}", *lines]) for i in range(view.count)]
    return titles


def about_view(drawn: Parameters, i: int, image: Tensor, colour: bool) -> str:
    """What was done to an image, in the order in which it was done; a line for the crop, up to three for the rest.

    Args:
        drawn: the parameters of one view of the batch.
        i: the image's place in the batch.
        image: ``(C, H, W)``.
        colour: whether it has colours, without which some of it does nothing.
    """
    height, width = int(drawn.height[i]), int(drawn.width[i])
    area = height * width / (image.shape[-2] * image.shape[-1])
    lines = [f"crop {width} x {height} px ({100 * area:.0f} %)" + (", flipped" if drawn.flip[i] else "")]
    if drawn.jitter[i]:
        words = {
            BRIGHTNESS: f"brightness {drawn.brightness[i]:.2f}",
            CONTRAST: f"contrast {drawn.contrast[i]:.2f}",
            SATURATION: f"saturation {drawn.saturation[i]:.2f}",
            HUE: f"hue {drawn.hue[i]:+.2f}",
        }
        order = [words[n] for n in drawn.jitter_order[i].tolist() if colour or n in (BRIGHTNESS, CONTRAST)]
        lines += [", ".join(order[start : start + 2]) for start in range(0, len(order), 2)]
    rest = {
        "grey": colour and drawn.grayscale[i],
        f"blur {drawn.sigma[i]:.2f} px": drawn.blur[i],
        "solarised": drawn.solarize[i],
    }
    lines += [", ".join(text for text, applied in rest.items() if applied)]
    return "\n".join(line for line in lines if line)

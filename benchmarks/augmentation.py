"""Views per second of the symmetric two-view recipe: solo_frossl, PIL, torchvision v2 image by image, and kornia.

    python benchmarks/augmentation.py [--device cuda] [--sizes 32 96 224] [--rounds 5] [--cores 2]

All contenders run in this one call, on the same random uint8 images (256 x 256 pixels for 224, else the view's size),
taking turns in every round; the table shows medians over the rounds. A view is one augmented image: two are made of
every image. PIL and torchvision v2 work image by image, so on a CPU they get one process a core; solo_frossl and kornia
get one process with one thread a core. On CUDA the images lie there already, torchvision v2 works there in one process,
and PIL stays on the CPU. Other programs on the same cores disturb the threads of one process more than separate
processes; keep the machine quiet, or give --cores 1.

Then a breakdown of ours: the time a view takes longer when one operation is added to crop and normalise.
kornia comes with ``pip install -e .[benchmark]``; without it its column is empty.
"""

import argparse
import os
import random
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache, partial
from multiprocessing import get_context

import torch
from PIL import ImageFilter
from torch import Tensor
from torchvision import transforms as v1
from torchvision.transforms import v2

from solo_frossl.augment import RECIPES, Augment, View

RECIPE = RECIPES["symmetric"]
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)
BATCH = {32: 512, 96: 128, 224: 32}
ONLY = {"jitter_probability": 0.0, "grayscale_probability": 0.0, "blur_probability": 0.0}
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def random_images(size: int, count: int) -> Tensor:
    """``(count, 3, S, S)`` uint8 source images for views of this size."""
    source = 256 if size == 224 else size
    return torch.randint(
        0, 256, (count, 3, source, source), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


def rate(make: Callable[[], int], seconds: float, device: str = "cpu") -> float:
    """Views per second of a function that makes some and returns how many."""
    make()
    synchronize(device)
    made, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds:
        made += make()
        synchronize(device)
    return made / elapsed


def synchronize(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


# The four contenders: each is built for a size and gives a function that makes some views and returns their number.


def ours(size: int, device: str, **changes: float) -> Callable[[], int]:
    images = random_images(size, BATCH[size]).to(device)
    augment = Augment([View("symmetric", count=2, **changes)], size, MEAN, STD)
    generator = torch.Generator().manual_seed(0)
    return lambda: sum(len(view) for view in augment(images, generator))


def kornia(size: int, device: str) -> Callable[[], int]:
    from kornia import augmentation as k

    pipeline = k.AugmentationSequential(
        k.RandomResizedCrop(
            (size, size), RECIPE.crop_scale, RECIPE.crop_ratio, resample="bicubic", cropping_mode="resample"
        ),
        k.RandomHorizontalFlip(RECIPE.flip_probability),
        k.ColorJitter(RECIPE.brightness, RECIPE.contrast, RECIPE.saturation, RECIPE.hue, p=RECIPE.jitter_probability),
        k.RandomGrayscale(p=RECIPE.grayscale_probability),
        k.RandomGaussianBlur((RECIPE.kernel_size(size),) * 2, RECIPE.blur_sigma, p=RECIPE.blur_probability),
        k.Normalize(torch.tensor(MEAN), torch.tensor(STD)),
    ).to(device)
    images = random_images(size, BATCH[size]).to(device)

    @torch.no_grad()
    def make() -> int:
        return sum(len(pipeline(images.float() / 255)) for _ in range(2))

    return make


def pil_blur(image, sigma: tuple[float, float]):
    return image.filter(ImageFilter.GaussianBlur(random.uniform(*sigma)))


def colours(library) -> list:
    """Jitter and grayscale of either torchvision interface."""
    jitter = library.ColorJitter(RECIPE.brightness, RECIPE.contrast, RECIPE.saturation, RECIPE.hue)
    return [
        library.RandomApply([jitter], RECIPE.jitter_probability),
        library.RandomGrayscale(RECIPE.grayscale_probability),
    ]


@lru_cache
def pil(size: int, device: str) -> Callable[[], int]:
    pipeline = v1.Compose(
        [
            v1.RandomResizedCrop(size, RECIPE.crop_scale, interpolation=v1.InterpolationMode.BICUBIC),
            *colours(v1),
            v1.RandomApply([v1.Lambda(partial(pil_blur, sigma=RECIPE.blur_sigma))], RECIPE.blur_probability),
            v1.RandomHorizontalFlip(RECIPE.flip_probability),
            v1.ToTensor(),
            v1.Normalize(MEAN, STD),
        ]
    )
    images = [v1.functional.to_pil_image(image) for image in random_images(size, 16)]
    return lambda: sum(len(pipeline(image)[:1]) for image in images for _ in range(2))


@lru_cache
def torchvision_v2(size: int, device: str) -> Callable[[], int]:
    pipeline = v2.Compose(
        [
            v2.RandomResizedCrop(size, RECIPE.crop_scale, interpolation=v2.InterpolationMode.BICUBIC, antialias=True),
            *colours(v2),
            v2.RandomApply([v2.GaussianBlur(RECIPE.kernel_size(size), RECIPE.blur_sigma)], RECIPE.blur_probability),
            v2.RandomHorizontalFlip(RECIPE.flip_probability),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )
    images = list(random_images(size, 16).to(device))
    return lambda: sum(len(pipeline(image)[:1]) for image in images for _ in range(2))


# Measuring.


def rate_in_worker(build: Callable[[int, str], Callable[[], int]], size: int, seconds: float) -> float:
    return rate(build(size, "cpu"), seconds)


def one_process_a_core(pool: ProcessPoolExecutor, cores: int, build: Callable, size: int, seconds: float) -> float:
    """Sum of the rates of as many processes as there are cores, all at work at the same time."""
    return sum(pool.map(rate_in_worker, [build] * cores, [size] * cores, [seconds] * cores))


def medians(contenders: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """Median of every contender's rate; they take turns, so that a disturbance meets all alike."""
    seen = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, measure in contenders.items():
            seen[name].append(measure())
    return {name: statistics.median(rates) for name, rates in seen.items()}


def compare(
    size: int, device: str, rounds: int, seconds: float, pool: ProcessPoolExecutor, cores: int
) -> dict[str, float]:
    in_pool = partial(one_process_a_core, pool, cores, size=size, seconds=seconds)
    contenders = {"ours": partial(rate, ours(size, device), seconds, device), "PIL": partial(in_pool, pil)}
    if device == "cpu":
        contenders["torchvision v2"] = partial(in_pool, torchvision_v2)
    else:
        contenders["torchvision v2"] = partial(rate, torchvision_v2(size, device), seconds, device)
    try:
        contenders["kornia"] = partial(rate, kornia(size, device), seconds, device)
    except ModuleNotFoundError:
        print("kornia is not installed: pip install -e .[benchmark]")
    return medians(contenders, rounds)


def breakdown(size: int, device: str, rounds: int, seconds: float) -> dict[str, float]:
    """Microseconds a view, by operation."""
    images = random_images(size, BATCH[size])
    augment = Augment([View("symmetric", count=2)], size, MEAN, STD)
    generator = torch.Generator().manual_seed(0)

    def draw() -> int:
        return sum(len(p) for p in augment.draw(len(images), *images.shape[-2:], generator))

    variants = {"whole": {}, "crop, flip, normalise": ONLY}
    for name in ("jitter", "grayscale", "blur"):
        key = f"{name}_probability"
        variants[name] = ONLY | {key: getattr(RECIPE, key)}
    runs = {name: partial(rate, ours(size, device, **changes), seconds, device) for name, changes in variants.items()}
    cost = {name: 1e6 / views for name, views in medians(runs | {"draw": partial(rate, draw, seconds)}, rounds).items()}
    base = cost["crop, flip, normalise"]
    parts = {name: cost[name] - base for name in ("jitter", "grayscale", "blur")}
    parts |= {"draw": cost["draw"], "crop, flip, normalise": base - cost["draw"]}
    parts["together"] = cost["whole"]
    return parts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--sizes", type=int, nargs="+", default=sorted(BATCH), choices=sorted(BATCH), help="pixels")
    parser.add_argument("--rounds", type=int, default=5, help="rounds, of which the median counts")
    parser.add_argument("--seconds", type=float, default=0.5, help="length of one measurement, seconds")
    parser.add_argument("--cores", type=int, default=CORES, help="threads of ours and kornia, processes of the others")
    arguments = parser.parse_args()
    device, rounds, seconds, cores = arguments.device, arguments.rounds, arguments.seconds, arguments.cores
    torch.set_num_threads(cores)
    print(f"{cores} cores, device {device}, torch {torch.__version__}; views/s, medians of {rounds} rounds")

    names = ["ours", "PIL", "torchvision v2", "kornia"]
    ratios = ["ours / PIL", "/ one PIL process", "/ v2", "/ kornia"]
    print(f"{'pixels':>6}" + "".join(f"{name:>16}" for name in names) + "".join(f"{name:>19}" for name in ratios))
    context = get_context("spawn")
    with ProcessPoolExecutor(cores, context, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for size in arguments.sizes:
            views = compare(size, device, rounds, seconds, pool, cores)
            pil_rate, v2_rate, kornia_rate = (views.get(name, float("nan")) for name in names[1:])
            cells = "".join(f"{views.get(name, float('nan')):16,.0f}" for name in names)
            rivals = (pil_rate, pil_rate / cores, v2_rate, kornia_rate)
            print(f"{size:>6}{cells}" + "".join(f"{views['ours'] / rival:19.2f}" for rival in rivals), flush=True)

    print("\nWhere our time goes, microseconds a view (and share of the whole):")
    for size in arguments.sizes:
        parts = breakdown(size, device, rounds, seconds)
        whole = parts["together"]
        print(f"{size:>6}  " + ", ".join(f"{name} {cost:.1f} ({cost / whole:.0%})" for name, cost in parts.items()))


if __name__ == "__main__":
    main()

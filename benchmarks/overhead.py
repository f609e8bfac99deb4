"""What a whole FroSSL training step costs beyond its backbone: step time over the bare backbone's, in one run.

    python benchmarks/overhead.py                       # ResNet-18, CIFAR stem, batch 256, fp32 and bf16
    python benchmarks/overhead.py --device cuda --steps 50

The step is the product's own: the Trainer with its callbacks drives loader, augmentation of two views, backbone,
projector, loss, online classifier and LARS on random uint8 images. After each step the bare backbone's forward and
backward run on that step's views, so that both see the same machine. Medians are printed, and where the rest goes.

The spectrum is measured twice: every second step has its check by ``SpectrumCallback``, so that steps with and without
it are of one run; and one check of a step's own embeddings and features by itself, from gathering them to their
eigenvalues. On a GPU the first is the less, for there a thread finds the eigenvalues while training goes on. What that
is of a run follows from how many of its steps have a check.
"""

import argparse
import copy
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from torch import Tensor

from solo_frossl.augment import View
from solo_frossl.batch import Views
from solo_frossl.cli.pretrain import TRAINER_DEFAULTS, quiet
from solo_frossl.data import ImageDataModule
from solo_frossl.data.sources import ArraySource
from solo_frossl.losses import frossl_loss
from solo_frossl.methods import METHODS
from solo_frossl.methods.base import Method
from solo_frossl.report import Throughput
from solo_frossl.runs import NonFiniteGuard, SeedEachStep
from solo_frossl.spectrum import SpectrumCallback, SpectrumConfig, batch_moments, spectrum_of

TARGET = {"cpu": 1.10, "cuda": 1.15}
ONE_BATCH = "bare, one batch"
"""The bare backbone with both views in one batch: what ``views_in_one_batch`` gains."""
CHECKED = "step with a check"
"""A whole step whose spectrum ``SpectrumCallback`` takes."""
CHECK = "spectrum, one check"
"""The same by itself."""
CIFAR10_STEPS, CIFAR10_EPOCHS = 195, 1000
"""Steps of an epoch and epochs of FroSSL's runs on CIFAR-10."""


class RandomImages(ImageDataModule):
    """Random uint8 images, resident like any dataset that fits."""

    num_classes = 10
    class_names = tuple("0123456789")
    native_mean, native_std = (0.5,) * 3, (0.25,) * 3

    def __init__(self, count: int, size: int, **kwargs) -> None:
        super().__init__(image_size=size, **kwargs)
        self.count = count

    def sources(self) -> tuple[ArraySource, ArraySource]:
        images = torch.randint(0, 256, (self.count, 3, self.image_size, self.image_size), dtype=torch.uint8)
        labels = torch.arange(self.count) % 10
        return ArraySource(images, labels), ArraySource(images[:10], labels[:10])


class EverySecondStep(SpectrumCallback):
    """Checks after every second step, whatever else it would do."""

    def on_train_batch_end(self, trainer: Trainer, module: Method, outputs, batch: Views, batch_idx: int) -> None:
        if self.has_check(batch_idx):
            super().on_train_batch_end(trainer, module, outputs, batch, batch_idx)

    @staticmethod
    def has_check(batch_idx: int) -> bool:
        return batch_idx % 2 == 1


class Compare(Callback):
    """Times each whole step, then the bare backbone and every part on the same tensors."""

    def __init__(self, warmup: int) -> None:
        self.warmup = warmup
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self._start: float | None = None

    def setup(self, trainer: Trainer, module: Method, stage: str) -> None:
        self.bare = copy.deepcopy(module.backbone)
        self.head = copy.deepcopy(module.projector)

    def on_train_batch_end(self, trainer: Trainer, module: Method, outputs, batch: Views, batch_idx: int) -> None:
        device = module.device
        if self._start is not None and batch_idx > self.warmup:
            name = CHECKED if EverySecondStep.has_check(batch_idx) else "whole step"
            self.seconds[name].append(now(device) - self._start)
            self.measure_parts(trainer, module, batch, outputs)
        elif self._start is None:
            self.bare.to(device)
            self.head.to(device)
        self._start = now(device)

    def measure_parts(self, trainer: Trainer, module: Method, batch: Views, outputs: dict) -> None:
        device, precision = module.device, trainer.precision_plugin.train_step_context
        views = [view.contiguous(memory_format=module.memory_format) for view in batch.views]

        def timed(name: str, run: Callable[[], object]) -> object:
            start = now(device)
            result = run()
            self.seconds[name].append(now(device) - start)
            return result

        timed("bare backbone", lambda: backbone_step(self.bare, views, precision))
        timed(ONE_BATCH, lambda: backbone_step(self.bare, [torch.cat(views)], precision))
        data = trainer.datamodule
        raw = timed("data", lambda: next(iter(trainer.train_dataloader)))
        timed("augmentation", lambda: data.make_views(raw))
        with torch.no_grad(), precision():
            features = [self.bare(view) for view in views]
        timed("projector", lambda: backbone_step(self.head, [f.requires_grad_() for f in features], precision))
        with torch.no_grad(), precision():
            embeddings = [self.head(f) for f in features]
        leaves = [z.detach().requires_grad_() for z in embeddings]
        timed("loss", lambda: frossl_loss(leaves).backward())
        timed("online classifier", lambda: classifier_step(module, features, batch.label, precision))
        state = [p.detach().clone() for p in module.parameters()]
        optimizer = trainer.optimizers[0]
        timed("optimiser", getattr(optimizer, "optimizer", optimizer).step)
        timed(CHECK, lambda: spectrum_of(batch_moments(outputs["features"], outputs["embeddings"]).map(Tensor.cpu)))
        with torch.no_grad():
            torch._foreach_copy_(list(module.parameters()), state)


def now(device: torch.device) -> float:
    """Seconds, once the device has finished what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


Precision = Callable[[], AbstractContextManager]


def backbone_step(network: torch.nn.Module, inputs: list[torch.Tensor], precision: Precision) -> None:
    """Forward and backward of a network, one view at a time, gradients cleared first."""
    network.zero_grad(set_to_none=True)
    with precision():
        outputs = [network(x) for x in inputs]
    torch.autograd.backward([y.float().sum() for y in outputs])


def classifier_step(module: Method, features: list[torch.Tensor], label: torch.Tensor, precision: Callable) -> None:
    """Forward and backward of the online classifier alone, on a copy of its gradients' place."""
    classifier = copy.deepcopy(module.classifier)
    with precision():
        loss = classifier.loss([classifier(x.detach()) for x in features], label)
    loss.backward()


def measure(args: argparse.Namespace, precision: str) -> dict[str, float]:
    """Median seconds of the whole step, the bare backbone and each part."""
    seed_everything(0, verbose=False)
    steps = args.warmup + 2 * args.steps + 1
    data = RandomImages(
        args.batch_size * steps, args.size, batch_size=args.batch_size, views=[View(recipe="symmetric", count=2)]
    )
    model: LightningModule = METHODS["frossl"](stem=args.stem, batch_size=args.batch_size)
    compare = Compare(args.warmup)
    with tempfile.TemporaryDirectory() as folder:
        spectrum = EverySecondStep(Path(folder) / "spectrum.bin", SpectrumConfig(every_n_steps=1))
        _trainer(args, precision, [spectrum, compare]).fit(model, datamodule=data)
    return {name: statistics.median(seconds) for name, seconds in compare.seconds.items()}


def _trainer(args: argparse.Namespace, precision: str, callbacks: list[Callback]) -> Trainer:
    return Trainer(
        **{**TRAINER_DEFAULTS, "max_epochs": 1, "sync_batchnorm": False},
        enable_checkpointing=False,
        accelerator="gpu" if args.device == "cuda" else "cpu",
        devices=1,
        precision=precision,
        limit_val_batches=0,
        logger=False,
        enable_progress_bar=False,
        callbacks=[SeedEachStep(0), NonFiniteGuard(), Throughput(), *callbacks],
    )


def checked_share(every: int, epoch: int = CIFAR10_STEPS, epochs: int = CIFAR10_EPOCHS) -> float:
    """Part of a run's steps that have a check: the first, every so many, and each epoch's last."""
    steps = epoch * epochs
    return len({*range(0, steps, every), *range(epoch - 1, steps, epoch)}) / steps


def main() -> None:
    """Print one table a precision."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precisions", nargs="+", default=["32-true", "bf16-mixed"])
    parser.add_argument("--batch_size", type=int, default=256, help="images per step")
    parser.add_argument("--size", type=int, default=32, help="side of the images, pixels")
    parser.add_argument("--stem", choices=["cifar", "imagenet"], default="cifar")
    parser.add_argument("--steps", type=int, default=7, help="measured steps, and as many with a check of the spectrum")
    parser.add_argument("--warmup", type=int, default=2, help="steps before measuring")
    args = parser.parse_args()
    quiet()
    name = torch.cuda.get_device_name() if args.device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"FroSSL step over bare ResNet-18, {args.stem} stem, {args.batch_size} x {args.size} px x 2 views, {name}")
    for precision in args.precisions:
        seconds = measure(args, precision)
        bare = seconds["bare backbone"]
        print(f"\n{precision:<20} {'ms':>9} {'of bare':>8}")
        order = ["whole step", CHECKED, *(part for part in seconds if part not in ("whole step", CHECKED))]
        for part, value in ((part, seconds[part]) for part in order):
            print(f"{part:<20} {1000 * value:9.1f} {value / bare:8.3f}")
        known = sum(value for part, value in seconds.items() if part not in ("whole step", CHECKED, ONE_BATCH, CHECK))
        rest = seconds["whole step"] - known
        print(f"{'Trainer and rest':<20} {1000 * rest:9.1f} {rest / bare:8.3f}")
        print(f"ratio {seconds['whole step'] / bare:.3f} (target {TARGET[args.device]:.2f})")
        step, often = seconds["whole step"], 100 * checked_share(SpectrumConfig().every_n_steps)
        extra, alone = seconds[CHECKED] / step - 1, seconds[CHECK] / step
        print(
            f"spectrum: its check adds {100 * extra:.2f} % to a step, by itself it is {100 * alone:.2f} % of one;\n"
            f"on CIFAR-10 {often:.2f} % of the steps have one, so it adds {often * extra:.4f} % to a run, by itself"
            f" {often * alone:.4f} % (target 1 %)"
        )


if __name__ == "__main__":
    main()

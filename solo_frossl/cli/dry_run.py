"""``--dry_run``: build the whole run, take one training and one validation step, say what was found, write nothing."""

import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from torch import Tensor, nn

from solo_frossl.cli.errors import ConfigError
from solo_frossl.cli.parser import Instances, Parsed, build_trainer


class _Watch(Callback):
    """Notes shapes and seconds of the one training and the one validation step."""

    def __init__(self) -> None:
        self.shapes: list[tuple[str, str]] = []
        self.seconds: dict[str, float] = {}
        self._hooks: list[Any] = []
        self._start = 0.0

    def _now(self, module: LightningModule) -> float:
        if module.device.type == "cuda":
            torch.cuda.synchronize(module.device)
        return time.perf_counter()

    def on_train_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        for name, child in module.named_children():
            if any(True for _ in child.parameters()):
                self._hooks.append(child.register_forward_hook(self._note(name)))
        self._start = self._now(module)

    def _note(self, name: str) -> Callable:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            line = (name, f"{_shape(inputs[0])} -> {_shape(output)}")
            if line not in self.shapes:
                self.shapes.append(line)

        return hook

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *args) -> None:
        self.seconds["train"] = self._now(module) - self._start
        for hook in self._hooks:
            hook.remove()

    def on_validation_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        self._start = self._now(module)

    def on_validation_batch_end(self, trainer: Trainer, module: LightningModule, outputs: Any, *args) -> None:
        self.seconds["validation"] = self._now(module) - self._start
        self.validated = len(outputs["label"])


def _shape(x: Tensor) -> str:
    return " x ".join(map(str, x.shape))


def dry_run(
    parsed: Parsed, trainer_arguments: Callable[..., dict[str, Any]], check_views: Callable[[Instances], None]
) -> int:
    """Run one step of each kind and print shapes, parameter counts, memory and the estimated time of the whole run.

    Args:
        parsed: the checked configuration.
        trainer_arguments: makes the Trainer's keyword arguments from the configuration's, callbacks and loggers.
        check_views: refuses a number of views that the method cannot take.

    Returns:
        The exit code, 0.

    Raises:
        ConfigError: the data is missing or does not fit the configuration.
    """
    download = parsed.config.data.get("download", False)
    if download:
        parsed.config.data.download = False
    seed_everything(parsed.config.seed_everything, verbose=False)
    built = parsed.instantiate()
    check_views(built)
    watch = _Watch()
    epochs = built.trainer["max_epochs"] or 1
    limits = {"max_epochs": 1, "limit_train_batches": 1, "limit_val_batches": 1, "enable_progress_bar": False}
    trainer = build_trainer(
        **trainer_arguments(built.trainer | limits, callbacks=[watch], loggers=[]) | {"logger": False}
    )
    try:
        trainer.fit(built.model, datamodule=built.data)
    except FileNotFoundError as error:
        if download:
            raise ConfigError(f"a dry run downloads nothing, and the data is not there yet: {error}") from error
        raise ConfigError(str(error)) from error
    except ValueError as error:
        raise ConfigError(str(error)) from error
    if trainer.is_global_zero:
        print("\n".join(_report(parsed, built, trainer, watch, epochs)))
    return 0


def _report(parsed: Parsed, built: Any, trainer: Trainer, watch: _Watch, epochs: int) -> list[str]:
    data, model = built.data, built.model
    steps = len(data.train_dataloader())
    evaluation = watch.seconds["validation"] / max(1, watch.validated * trainer.world_size)
    knn = built.options.knn.every_n_epochs
    evaluated = data.num_val + (data.num_train / knn if knn else 0)
    epoch_seconds = steps * watch.seconds["train"] + evaluated * evaluation
    lines = [
        f"dry run of {parsed.config.method} on {parsed.config.dataset}: one training and one validation step,"
        f" {trainer.world_size} process(es) on {model.device.type}, precision {trainer.precision}",
        f"data         {data.num_train:,} training and {data.num_val:,} validation images, {data.num_classes} classes,"
        f" on {data.placement}; {steps} steps of {data.batch_size} images an epoch",
        *(f"{name:<12} {text}" for name, text in watch.shapes),
    ]
    for name, child in model.named_children():
        if count := sum(p.numel() for p in child.parameters()):
            trained = sum(p.numel() for p in child.parameters() if p.requires_grad)
            lines.append(
                f"{'parameters':<12} {name} {count:,}" + ("" if trained == count else f", {trained:,} trained")
            )
    lines.append(f"{'memory':<12} {_peak_memory(model)}")
    lines.append(
        f"{'time':<12} {watch.seconds['train']:.2f} s a training step (the first, so an upper bound),"
        f" about {_duration(epoch_seconds)} an epoch, {_duration(epochs * epoch_seconds)} for {epochs} epochs"
    )
    return lines


def _peak_memory(model: LightningModule) -> str:
    if model.device.type == "cuda":
        return f"{torch.cuda.max_memory_allocated(model.device) / 2**30:.2f} GiB at most on the GPU"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return f"{peak / 2**30:.2f} GiB at most, the whole process"


def _duration(seconds: float) -> str:
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"

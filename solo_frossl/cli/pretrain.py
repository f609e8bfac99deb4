"""``main_pretrain.py``: read the configuration, build everything, run the Trainer, keep the run's folder."""

import argparse
import logging
import os
import shutil
import signal
import sys
import threading
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import Checkpoint, ProgressBar
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import SIGTERMException
from tqdm import tqdm

from solo_frossl.cli.dry_run import dry_run
from solo_frossl.cli.errors import ConfigError, one_message
from solo_frossl.cli.parser import Instances, Parsed, build_cli, build_trainer
from solo_frossl.data import DATASETS
from solo_frossl.methods import METHODS
from solo_frossl.probe import EffectiveRank, KNNConfig, OnlineKNN
from solo_frossl.published import row_name
from solo_frossl.replacing import replacing
from solo_frossl.report import EpochCSV, EpochTable, LearningRate, TerminalBar, Throughput, draw_curves
from solo_frossl.run_files import RunFolder, find_run, new_run
from solo_frossl.runs import (
    AtomicCheckpointIO,
    CheckpointConfig,
    CheckpointError,
    NonFiniteError,
    NonFiniteGuard,
    RunCheckpoint,
    SeedEachStep,
    StatusFile,
    StopAfterEpoch,
    WandbRun,
    newest_readable,
)
from solo_frossl.spectrum import CollapseStop, SpectrumCallback, SpectrumConfig

PROGRAM = "main_pretrain.py"
TRAINER_DEFAULTS = {
    "max_epochs": 100,
    "sync_batchnorm": True,
    "use_distributed_sampler": False,
    "num_sanity_val_steps": 0,
    "log_every_n_steps": 1,
    "enable_model_summary": False,
}
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed", "32", "bf16", "16", "None")
"""What the Trainer's precision may be: the views are float32 tensors, so the weights must be too."""
RUN_KEYS = (
    *("name", "runs_dir", "stop_after_epoch", "checkpoint", "spectrum", "on_collapse"),
    *("wandb", "wandb_project", "wandb_checkpoints"),
)
"""Top-level keys that only pretraining has."""
COLLAPSED = 3
"""Exit code of a run that ``--on_collapse stop`` has ended."""
_RUN_VARIABLE = "SOLO_FROSSL_RUN_FOLDER"
"""Tells the processes that the Trainer starts which folder the first one made."""


def pretrain(argv: Sequence[str] | None = None) -> int:
    """Pretrain a backbone; returns the exit code.

    It is 0 for a run that is done, or was stopped by SIGTERM and can go on; 1 for a run that failed, 2 for a
    configuration that cannot be run, :data:`COLLAPSED` for ``--on_collapse stop``, 130 for Ctrl-C.

    Args:
        argv: the command line without the program's name; ``sys.argv`` by default.
    """
    quiet()
    with one_message(PROGRAM):
        return _pretrain(list(sys.argv[1:] if argv is None else argv))


def quiet() -> None:
    """Leave out what Lightning says about itself; its warnings stay."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*Found .* module.s. in eval mode.*")
    warnings.filterwarnings("ignore", message=".*sync_dist=True.*")  # what is logged is of the global batch already


def _add_options(parser: LightningArgumentParser) -> None:
    parser.add_argument("--name", type=str | None, help="Name of the run folder; by default DATASET-METHOD.")
    parser.add_argument("--runs_dir", type=str, default="runs", help="Folder that holds the run folders.")
    parser.add_argument(
        "--stop_after_epoch",
        type=int | None,
        help="Train up to this epoch, counted from 1, while all schedules go on to trainer.max_epochs; --resume with a"
        " later one, or null, trains the rest.",
    )
    parser.add_argument(
        "--wandb",
        action="store_true",
        help="Also log to Weights & Biases; without an API key offline, to be synchronised later.",
    )
    parser.add_argument("--wandb_project", type=str, default="solo-frossl", help="Project of the W&B run.")
    parser.add_argument(
        "--wandb_checkpoints",
        action="store_true",
        help="Also send the best and the last checkpoint to W&B when training has ended.",
    )
    parser.add_class_arguments(CheckpointConfig, "checkpoint")
    parser.add_class_arguments(KNNConfig, "knn")
    parser.add_class_arguments(SpectrumConfig, "spectrum")
    parser.add_argument(
        "--on_collapse",
        type=Literal["warn", "stop"],
        default="warn",
        help="What follows once the embeddings have collapsed (spectrum.collapse_rank) and that was reported: nothing,"
        f" or the end of the run, saved, with exit code {COLLAPSED}.",
    )


def _pretrain(argv: list[str]) -> int:
    resume, argv = _take_resume(argv)
    dry = "--dry_run" in argv
    argv = [argument for argument in argv if argument != "--dry_run"]
    run = None
    if resume is not None:
        run = _run_to_resume(resume, argv)
        argv = ["--config", str(run.config), *argv]
    parsed = parse(argv)
    if dry:
        return dry_run(parsed, trainer_arguments, check_views)
    return _run(parsed, run)


def parse(argv: list[str]) -> Parsed:
    """Check a command line of pretraining, without its flags ``--resume`` and ``--dry_run``.

    Raises:
        ConfigError: any fault in files or arguments.
    """
    return build_cli(
        argv,
        methods=METHODS,
        datasets=DATASETS,
        add_arguments=_add_options,
        trainer_defaults=TRAINER_DEFAULTS,
        description="Pretrain a backbone without labels. Two more flags: --resume [RUN] continues the newest run (of"
        " --name, or the run folder given) from its last checkpoint; --dry_run builds everything, runs one training and"
        " one validation step, prints what it found and writes nothing.",
        prog=PROGRAM,
    )


def _take_resume(argv: list[str]) -> tuple[str | None, list[str]]:
    """What ``--resume`` names, "" where it names nothing, None without it; and the other arguments.

    argparse would take an option that follows for the name if its value has a space, as lists of views have.
    """
    for place, argument in enumerate(argv):
        if argument.startswith("--resume="):
            return argument.removeprefix("--resume="), argv[:place] + argv[place + 1 :]
        if argument == "--resume":
            named = place + 1 < len(argv) and not argv[place + 1].startswith("-")
            return argv[place + 1] if named else "", argv[:place] + argv[place + 1 + named :]
    return None, argv


def _run_to_resume(which: str, argv: list[str]) -> RunFolder:
    where = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    where.add_argument("--runs_dir", default="runs")
    where.add_argument("--name")
    known, _ = where.parse_known_args(argv)
    try:
        return find_run(known.runs_dir, which or known.name)
    except FileNotFoundError as error:
        raise ConfigError(f"command line: --resume: {error}") from error


def _run(parsed: Parsed, run: RunFolder | None) -> int:
    seed_everything(parsed.config.seed_everything, verbose=False)
    built = parsed.instantiate()
    check_views(built)
    options = built.options
    first_part = _first_part(options.stop_after_epoch)
    resuming = run is not None
    checkpoint_path = None
    if resuming:
        checkpoint_path = _checkpoint_to_resume(run)
        _report_changes(run, parsed)
    else:
        run = _start_run(options.runs_dir, options.name or f"{parsed.config.dataset}-{parsed.config.method}")
    guard = NonFiniteGuard(last_checkpoint=run.last)
    metrics = EpochCSV(run.metrics)
    keeper = RunCheckpoint(run, options.checkpoint, parsed.resolved, guard, metrics)
    announce = _Announce(parsed, run, checkpoint_path)
    status = StatusFile(run)
    spectrum = SpectrumCallback(run.spectrum, options.spectrum, options.on_collapse)
    try:
        trainer = build_trainer(
            **trainer_arguments(
                built.trainer,
                callbacks=[
                    announce,
                    status,
                    SeedEachStep(parsed.config.seed_everything),
                    guard,
                    Throughput(),
                    LearningRate(),
                    OnlineKNN(options.knn),
                    EffectiveRank(),
                    spectrum,
                    EpochTable(),
                    *_progress_bar(built.trainer, options.stop_after_epoch, spectrum),
                    *first_part,
                    *_wandb(run, parsed, options),
                    keeper,
                ],
                loggers=[metrics],
            ),
        )
        started = time.monotonic()
        with status.watching(trainer):
            trainer.fit(built.model, datamodule=built.data, ckpt_path=checkpoint_path, weights_only=True)
            spectrum.raise_if_stopped()
            status.remark = spectrum.remark
    except CollapseStop:
        return _stopped_by_collapse(run, keeper)
    except SIGTERMException:
        by = "Ctrl-C" if announce.interrupted else "SIGTERM"
        _say(f"\nStopped by {by}; saved after step {keeper.saved_step}. Go on with: --resume {run.path}")
        return 130 if announce.interrupted else 0
    except (NonFiniteError, CheckpointError, OSError, ValueError) as error:
        print(f"{PROGRAM}: error: {error}", file=sys.stderr)
        return 1
    except RuntimeError as error:
        if not (resuming and "loading state_dict" in str(error)):
            raise
        print(
            f"{PROGRAM}: error: {checkpoint_path} does not fit this model, which must not change on resuming:"
            f" {_changes(run, parsed, 'model.') or error}",
            file=sys.stderr,
        )
        return 1
    except SystemExit:  # what the Trainer makes of a second Ctrl-C
        saved = f"step {keeper.saved_step} is saved. Go on with: --resume {run.path}"
        _say(f"\nInterrupted at once; {'nothing was saved yet' if keeper.saved_step is None else saved}")
        raise
    finally:
        announce.restore()
        if not announce.started and not resuming and rank_zero_only.rank == 0:
            shutil.rmtree(run.path)
        _draw(metrics, run)
    _say(_footer(run, trainer, time.monotonic() - started, status.remark))
    return 0


def _stopped_by_collapse(run: RunFolder, keeper: RunCheckpoint) -> int:
    """Say so; the exit code of the first process tells too, while another's would make the Trainer kill the rest."""
    _say(
        f"\nStopped because the embeddings have collapsed; saved after step {keeper.saved_step}. Mend the causes and"
        f" start anew, or go on all the same with: --resume {run.path}"
    )
    return COLLAPSED if rank_zero_only.rank == 0 else 0


def _first_part(epoch: int | None) -> list[Callback]:
    """What stops the run after an epoch, if one is given."""
    try:
        return [] if epoch is None else [StopAfterEpoch(epoch)]
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _draw(metrics: EpochCSV, run: RunFolder) -> None:
    """The picture of the curves; a run is not lost for want of it."""
    if metrics.rows:
        try:
            draw_curves(run.metrics, run.curves)
        except OSError as error:
            print(f"{PROGRAM}: {run.curves} could not be written: {error}", file=sys.stderr)


def check_views(built: Instances) -> None:
    """Refuse more or fewer views than the method compares.

    Raises:
        ConfigError: naming both.
    """
    try:
        built.model.check_views(sum(view.count for view in built.data.views))
    except ValueError as error:
        raise ConfigError(str(error)) from error


def trainer_arguments(given: dict[str, Any], callbacks: list[Callback], loggers: list[Logger]) -> dict[str, Any]:
    """Keyword arguments for the Trainer: what the configuration gives, with the run's own callbacks and loggers.

    SyncBatchNorm stays off where there is no GPU, for it runs only there.

    Raises:
        ConfigError: an argument that these runs cannot keep their word under.
    """
    if given["max_steps"] != -1:
        raise ConfigError(
            f"trainer.max_steps is {given['max_steps']}: a run is counted in epochs, on which its schedule rests; set"
            " trainer.max_epochs, and trainer.limit_train_batches for shorter epochs"
        )
    if (given["max_epochs"] or 0) < 1:
        raise ConfigError(f"trainer.max_epochs is {given['max_epochs']}: it must be at least 1")
    if str(given["precision"]) not in PRECISIONS:
        raise ConfigError(f"trainer.precision is {given['precision']}: it must be one of {', '.join(PRECISIONS)}")
    on_gpu = torch.cuda.is_available() and given["accelerator"] in ("auto", "gpu", "cuda")
    callbacks = [*(_as_list(given["callbacks"])), *callbacks]
    return given | {
        "callbacks": callbacks,
        "logger": [*(x for x in _as_list(given["logger"]) if isinstance(x, Logger)), *loggers],
        "plugins": [*(_as_list(given["plugins"])), AtomicCheckpointIO()],
        "sync_batchnorm": given["sync_batchnorm"] and on_gpu,
        "enable_checkpointing": any(isinstance(callback, Checkpoint) for callback in callbacks),
        "enable_progress_bar": any(isinstance(callback, ProgressBar) for callback in callbacks),
    }


def _progress_bar(given: dict[str, Any], epochs: int | None, spectrum: SpectrumCallback) -> list[Callback]:
    """A progress bar at a terminal, or as the configuration has it; it may also bring one of its own."""
    own = any(isinstance(callback, ProgressBar) for callback in _as_list(given["callbacks"]))
    wanted = given["enable_progress_bar"]
    shown = sys.stderr.isatty() if wanted is None else wanted
    live = (lambda: spectrum.effective_rank) if spectrum.config.every_n_steps else None
    return [TerminalBar(epochs, live)] if shown and not own else []


def _as_list(value: Any) -> list[Any]:
    return [] if value is None else list(value) if isinstance(value, (list, tuple)) else [value]


def _start_run(runs_dir: str, name: str) -> RunFolder:
    """A new folder, made by the first process only."""
    if rank_zero_only.rank != 0:
        return RunFolder(Path(os.environ.get(_RUN_VARIABLE, Path(runs_dir) / name)))
    try:
        run = new_run(runs_dir, name)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    except OSError as error:
        raise ConfigError(
            f"runs_dir is {runs_dir}, where no folder can be made ({error}); choose another with --runs_dir"
        ) from error
    os.environ[_RUN_VARIABLE] = str(run.path)
    return run


def _checkpoint_to_resume(run: RunFolder) -> Path | None:
    try:
        return newest_readable(run)
    except CheckpointError as error:
        raise ConfigError(f"command line: --resume: {error}") from error


def _write_config(run: RunFolder, resolved: dict[str, Any]) -> None:
    with replacing(run.config) as part:
        part.write_text(yaml.safe_dump(resolved, sort_keys=False), encoding="utf-8")


def _report_changes(run: RunFolder, parsed: Parsed) -> None:
    """Say which values of a resumed run differ from those it was started with."""
    if changes := _changes(run, parsed):
        _say(f"changed on resuming: {changes}")


def _changes(run: RunFolder, parsed: Parsed, prefix: str = "") -> str:
    """The values below a key that differ from those that the run was started with, in words."""
    before, now = (_flat(x) for x in (yaml.safe_load(run.config.read_text(encoding="utf-8")), parsed.resolved))
    keys = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
    return ", ".join(f"{key} from {before.get(key)} to {now.get(key)}" for key in keys if key.startswith(prefix))


def _flat(values: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(values, dict):
        return {prefix: values}
    return {k: v for name, value in values.items() for k, v in _flat(value, f"{prefix}.{name}".lstrip(".")).items()}


def _wandb(run: RunFolder, parsed: Parsed, options: Any) -> list[Callback]:
    """What sends the run to W&B, if that is asked for: grouped by dataset and method, found by the same."""
    if not options.wandb:
        return []
    config = parsed.resolved
    row = row_name(config)
    return [
        WandbRun(
            run,
            project=options.wandb_project,
            config=config,
            group=f"{config['dataset']}/{row}",
            tags=[config["dataset"], row, config["model"]["backbone"]],
            checkpoints=options.wandb_checkpoints,
        )
    ]


class _Announce(Callback):
    """Says what is about to be trained, and writes the configuration once nothing refuses to start."""

    def __init__(self, parsed: Parsed, run: RunFolder, checkpoint_path: Path | None) -> None:
        self.parsed, self.run, self.checkpoint_path = parsed, run, checkpoint_path
        self.started = self.interrupted = False
        self._handler: Any = None

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Data, Trainer and checkpoint have been accepted: from now on the folder stands for this configuration."""
        self.started = True
        if trainer.is_global_zero:
            _write_config(self.run, self.parsed.resolved)
        if threading.current_thread() is threading.main_thread():
            self._handler = signal.signal(signal.SIGINT, self._stop_after_this_step)

    def _stop_after_this_step(self, *args) -> None:
        """The first Ctrl-C does what SIGTERM does; the next one is Python's own."""
        self.restore()
        self.interrupted = True
        _say("\nStopping after this step; press Ctrl-C again to stop at once.")
        os.kill(os.getpid(), signal.SIGTERM)

    def restore(self) -> None:
        """Give Ctrl-C back its own meaning."""
        if self._handler is not None:
            signal.signal(signal.SIGINT, self._handler)
            self._handler = None

    def on_fit_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Print a few lines."""
        data, config = trainer.datamodule, self.parsed.config
        parameters = sum(p.numel() for p in module.parameters())
        _say(
            f"{config.method} on {config.dataset}: {data.num_train:,} training and {data.num_val:,} validation images,"
            f" batch {data.batch_size}, {parameters / 1e6:.1f} M parameters, {trainer.world_size} process(es) on"
            f" {module.device.type}"
        )
        if data.streaming_because:
            _say(f"images are streamed: {data.streaming_because}")
        if trainer.world_size > 1 and module.device.type == "cpu" and self.parsed.config.trainer.sync_batchnorm:
            _say("BatchNorm sees the images of each process by itself: SyncBatchNorm runs only on GPUs")
        warmup = self.parsed.config.model.schedule.warmup_epochs if "schedule" in self.parsed.config.model else 0
        if warmup >= trainer.max_epochs:
            _say(
                f"note: the learning rate warms up over {warmup:g} epochs and the run has {trainer.max_epochs}, so it"
                " never reaches its peak; see --model.schedule.warmup_epochs"
            )
        _say(f"run folder: {self.run.path}" + (f", from {self.checkpoint_path.name}" if self.checkpoint_path else ""))


def _footer(run: RunFolder, trainer: Trainer, seconds: float, remark: str | None) -> str:
    files = [p for p in (run.last, run.best, run.metrics, run.spectrum, run.curves, run.config) if p.exists()]
    skipped = trainer.datamodule.num_skipped
    probe = f"\nNext: python main_linear.py --backbone {run.path}" if trainer.datamodule.num_classes else ""
    return (
        (f"\n{skipped:,} unreadable images were skipped" if skipped else "")
        + (f"\nnote: {remark}" if remark else "")
        + f"\n{trainer.current_epoch} epochs, {seconds:.0f} s. Written to {run.path}: "
        + ", ".join(str(p.relative_to(run.path)) for p in files)
        + probe
    )


@rank_zero_only
def _say(text: str) -> None:
    """Print, above the progress bar if there is one."""
    tqdm.write(text, file=sys.stdout)
    sys.stdout.flush()

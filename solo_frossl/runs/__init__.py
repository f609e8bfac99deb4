"""Run folders, checkpoints and what keeps a run repeatable."""

from solo_frossl.runs.checkpoint import (
    AtomicCheckpointIO,
    CheckpointConfig,
    CheckpointError,
    RunCheckpoint,
    newest_readable,
    read_checkpoint,
)
from solo_frossl.runs.guard import NonFiniteError, NonFiniteGuard, SeedEachStep
from solo_frossl.runs.status import StatusFile
from solo_frossl.runs.stop import StopAfterEpoch
from solo_frossl.runs.weights_and_biases import WandbRun

__all__ = [
    "AtomicCheckpointIO",
    "CheckpointConfig",
    "CheckpointError",
    "NonFiniteError",
    "NonFiniteGuard",
    "RunCheckpoint",
    "SeedEachStep",
    "StatusFile",
    "StopAfterEpoch",
    "WandbRun",
    "newest_readable",
    "read_checkpoint",
]

"""Run folders, checkpoints and what keeps a run repeatable."""

from solo_frossl.runs.checkpoint import (
    AtomicCheckpointIO,
    CheckpointConfig,
    CheckpointError,
    RunCheckpoint,
    newest_readable,
    read_checkpoint,
)
from solo_frossl.runs.folder import RunFolder, find_run, new_run
from solo_frossl.runs.guard import NonFiniteError, NonFiniteGuard, SeedEachStep
from solo_frossl.runs.status import RunStatus, StatusFile, read_status, write_status
from solo_frossl.runs.stop import StopAfterEpoch
from solo_frossl.runs.weights_and_biases import WandbRun

__all__ = [
    "AtomicCheckpointIO",
    "CheckpointConfig",
    "CheckpointError",
    "NonFiniteError",
    "NonFiniteGuard",
    "RunCheckpoint",
    "RunFolder",
    "RunStatus",
    "SeedEachStep",
    "StatusFile",
    "StopAfterEpoch",
    "WandbRun",
    "find_run",
    "new_run",
    "newest_readable",
    "read_checkpoint",
    "read_status",
    "write_status",
]

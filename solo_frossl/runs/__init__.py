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

__all__ = [
    "AtomicCheckpointIO",
    "CheckpointConfig",
    "CheckpointError",
    "NonFiniteError",
    "NonFiniteGuard",
    "RunCheckpoint",
    "RunFolder",
    "SeedEachStep",
    "find_run",
    "new_run",
    "newest_readable",
    "read_checkpoint",
]

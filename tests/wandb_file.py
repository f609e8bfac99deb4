"""Reads what W&B writes offline: ``.wandb`` files, LevelDB's log format around protocol buffers.

The file begins with a header of 7 bytes (``:W&B``, a magic number, a version). Then come blocks of 32 KiB. In a block
stand pieces: a header of 7 bytes (checksum 4, length 2, kind 1, little-endian), then the data. A record is one whole
piece (kind 1) or a first, middle ones and a last (2, 3, 4). The format is that of
https://github.com/google/leveldb/blob/main/doc/log_format.md, but the checksum of kind and data is zlib's CRC-32.
"""

import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from wandb.proto.wandb_internal_pb2 import Record

_BLOCK = 32 * 1024
_HEADER = struct.Struct("<IHB")
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


class WandbFile(NamedTuple):
    """What an offline run holds.

    Attributes:
        run: the run's record: ``run_id``, ``project``, ``run_group``, ``job_type``, ``tags``, ``display_name``.
        config: the configuration, with all its changes.
        history: what was logged, a dictionary a call.
        summary: the summary at the end.
        axes: the x axis of each metric, or pattern of metrics.
        artifacts: type and aliases of each artifact, with the names of its files.
        preempting: whether it was marked as one that is stopped to go on later.
        exit_code: that of the run; None when it did not finish.
    """

    run: Any
    config: dict[str, Any]
    history: list[dict[str, Any]]
    summary: dict[str, Any]
    axes: dict[str, str]
    artifacts: list[tuple[str, set[str], list[str]]]
    preempting: bool
    exit_code: int | None


def read_wandb(path: Path) -> WandbFile:
    """Read a ``.wandb`` file.

    Raises:
        ValueError: it is none, or is damaged.
    """
    run, exit_code, preempting = None, None, False
    config: dict[str, Any] = {}
    history: list[dict[str, Any]] = []
    summary: dict[str, Any] = {}
    axes: dict[str, str] = {}
    artifacts = []
    for data in _records(path.read_bytes()):
        record = Record.FromString(data)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run = record.run
            _update(config, record.run.config.update)
        elif kind == "config":
            _update(config, record.config.update)
        elif kind == "history":
            history.append({})
            _update(history[-1], record.history.item)
        elif kind == "summary":
            _update(summary, record.summary.update)
        elif kind == "metric":
            axes[record.metric.name or record.metric.glob_name] = record.metric.step_metric
        elif kind == "artifact":
            files = [entry.path for entry in record.artifact.manifest.contents]
            artifacts.append((record.artifact.type, set(record.artifact.aliases), files))
        elif kind == "preempting":
            preempting = True
        elif kind == "exit":
            exit_code = record.exit.exit_code
    return WandbFile(run, config, history, summary, axes, artifacts, preempting, exit_code)


def _update(values: dict[str, Any], items: Any) -> None:
    for item in items:
        *outer, last = list(getattr(item, "nested_key", [])) or [item.key]
        inner = values
        for key in outer:
            inner = inner.setdefault(key, {})
        inner[last] = json.loads(item.value_json)


def _records(content: bytes) -> Iterator[bytes]:
    if content[:4] != b":W&B":
        raise ValueError("this is no file of W&B")
    position, parts = 7, []
    while position < len(content):
        left = _BLOCK - position % _BLOCK
        if left < _HEADER.size:  # too little for another piece: filled with zeros
            position += left
            continue
        checksum, length, kind = _HEADER.unpack_from(content, position)
        start = position + _HEADER.size
        data = content[start : start + length]
        if kind not in (_FULL, _FIRST, _MIDDLE, _LAST) or len(data) != length:
            raise ValueError(f"there is no whole record at byte {position}")
        if checksum != zlib.crc32(data, zlib.crc32(bytes([kind]))):
            raise ValueError(f"the record at byte {position} is damaged")
        if (kind in (_FULL, _FIRST)) is bool(parts):
            raise ValueError(f"the record at byte {position} does not follow the one before")
        parts.append(data)
        position = start + length
        if kind in (_FULL, _LAST):
            yield b"".join(parts)
            parts = []

"""Files that are whole or not there: written beside their place, and moved to it when they are done."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | Path, *, sync: bool = False) -> Iterator[Path]:
    """A path to write to, ``path.part``; on leaving what was written there takes the place of ``path``.

    A reader, and a process killed at any moment, finds the old file or the new one. After an error the old one stays,
    and nothing is left of the new one.

    Args:
        path: the file; its folder is made.
        sync: have it on the disk before it takes its place, so that it outlasts a machine that stops.

    Raises:
        OSError: it cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        yield part
        if sync:
            with open(part, "rb+") as file:
                os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)

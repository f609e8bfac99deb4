"""A terminal in memory: what a program writes to it, and what a person would see."""

import fcntl
import os
import pty
import struct
import sys
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pyte

_MARK = b"\x1b]2;mark\x07"
"""A title of the window, which nobody sees."""


class Terminal:
    """A pseudo-terminal and the emulator behind it.

    Args:
        columns: of the terminal.
        rows: of the terminal.
        known: whether it tells its size; else it says that it has no column and no row.
    """

    def __init__(self, columns: int, rows: int = 40, known: bool = True) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows * known, columns * known, 0, 0))
        self._screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self._screen)
        self._lock = threading.Lock()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self.file = os.fdopen(slave, "w", encoding="utf-8")
        self._arrived, self._marks = b"", 0
        self._reader.start()

    @property
    def written(self) -> bytes:
        """All that has arrived."""
        return self._arrived.replace(_MARK, b"")

    def lines(self) -> list[str]:
        """The lines on the screen now, from the first to the last that is not empty."""
        self.file.write(_MARK.decode())
        self.file.flush()
        self._marks += 1
        until = time.monotonic() + 60
        while self._arrived.count(_MARK) < self._marks:  # until all that was written before has arrived
            assert time.monotonic() < until, "nothing arrives"
            time.sleep(0.005)
        with self._lock:
            return "\n".join(line.rstrip() for line in self._screen.display).rstrip().split("\n")

    def close(self) -> None:
        """Forget it."""
        self.file.close()
        self._reader.join()
        os.close(self._master)

    def _read(self) -> None:
        while True:
            try:
                part = os.read(self._master, 65536)
            except OSError:  # the other end is closed
                return
            with self._lock:
                self._stream.feed(part)
                self._arrived += part


@contextmanager
def terminal(columns: int, known: bool = True) -> Iterator[Terminal]:
    """Standard output and standard error are a terminal of this width."""
    made, before = Terminal(columns, known=known), (sys.stdout, sys.stderr)
    sys.stdout = sys.stderr = made.file
    try:
        yield made
    finally:
        sys.stdout, sys.stderr = before
        made.close()

"""What is known of the terminal."""

import os
import sys

COLUMNS = 80
"""Of a terminal that does not know its size."""


def terminal_columns() -> int | None:
    """Columns of the terminal that standard output is; None where it is none."""
    if not sys.stdout.isatty():
        return None
    return os.get_terminal_size(sys.stdout.fileno()).columns or COLUMNS

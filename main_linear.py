"""Probe a frozen backbone with a linear classifier: ``python main_linear.py --backbone runs/NAME``."""

import sys

from solo_frossl.cli.linear import linear

if __name__ == "__main__":
    sys.exit(linear())

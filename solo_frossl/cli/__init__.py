"""The command line: the only room that reads YAML and arguments."""

import sys

from solo_frossl.cli.linear import linear
from solo_frossl.cli.pretrain import pretrain

__all__ = ["linear", "main", "pretrain"]

_COMMANDS = {
    "pretrain": (pretrain, "pretrain a backbone without labels (main_pretrain.py)"),
    "linear": (linear, "probe a frozen backbone with a linear classifier (main_linear.py)"),
}


def main() -> int:
    """``solo-frossl COMMAND ...``: the programs of this project as subcommands."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in _COMMANDS:
        return _COMMANDS[name][0](sys.argv[2:])
    lines = ["usage: solo-frossl COMMAND [--help | arguments]", ""]
    lines += [f"  {command:<10} {text}" for command, (_, text) in _COMMANDS.items()]
    if name in ("-h", "--help"):
        print("\n".join(lines))
        return 0
    print("\n".join([f"solo-frossl: error: there is no command {name!r}", *lines]), file=sys.stderr)
    return 2

"""The command line: the only room that reads YAML and arguments."""

import importlib
import sys

_COMMANDS = {
    "pretrain": "pretrain a backbone without labels (main_pretrain.py)",
    "linear": "probe any backbone with a linear classifier, or fine-tune it (main_linear.py)",
    "knn": "probe any backbone by nearest neighbours",
    "features": "write the features of a dataset to a file, and draw them",
    "export": "write a backbone as a state dict of timm or torchvision, as safetensors, or as ONNX",
    "views": "draw the augmented views of a training step, before training",
    "runs": "list runs: how they ended, their accuracies, in what they differ",
    "compare": "put runs side by side: one page, Markdown, CSV and figures",
    "reproduce": "train the grid of a paper's table or figure, and put its numbers beside the paper's",
    "theory": "compute and draw the dynamics that the papers derive",
    "zoo": "list, show, download, verify, add and remove checkpoints",
    "dashboard": "save a view of a W&B project that puts its methods side by side",
}
"""What each command does; ``NAME`` is the function of that name in ``solo_frossl/cli/NAME.py``."""


def main() -> int:
    """``solo-frossl COMMAND ...``: the programs of this project as subcommands."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in _COMMANDS:
        command = getattr(importlib.import_module(f"solo_frossl.cli.{name}"), name)
        return command(sys.argv[2:])
    lines = ["usage: solo-frossl COMMAND [--help | arguments]", ""]
    lines += [f"  {command:<10} {text}" for command, text in _COMMANDS.items()]
    if name in ("-h", "--help"):
        print("\n".join(lines))
        return 0
    print("\n".join([f"solo-frossl: error: there is no command {name!r}", *lines]), file=sys.stderr)
    return 2

"""Pretrain a backbone without labels: ``python main_pretrain.py --config configs/digits/frossl.yaml``."""

import sys

from solo_frossl.cli.pretrain import pretrain

if __name__ == "__main__":
    sys.exit(pretrain())

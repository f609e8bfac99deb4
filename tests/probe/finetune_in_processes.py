"""Run by test_finetune.py: fine-tune with N processes, and write the result. Arguments: file, N."""

import runpy
import sys
from pathlib import Path

import torch.distributed as dist

from solo_frossl.augment import View
from solo_frossl.distributed import rank
from solo_frossl.probe import FineTuneConfig, fine_tune


def main(out: Path, processes: int) -> None:
    """Two epochs of a few labelled digits; not augmented, for each process draws its own views."""
    made = runpy.run_path(str(Path(__file__).with_name("test_finetune.py")))
    config = FineTuneConfig(epochs=2, backbone_learning_rate=0.2, head_learning_rate=1.0, batch_norm="frozen")
    strategy = "ddp" if processes > 1 else "auto"
    data = made["digits"](labels=100)
    data.views = [View("crop_only", crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0), flip_probability=0.0)]
    result = fine_tune(made["backbone"](), data, config, accelerator="cpu", devices=processes, strategy=strategy)
    if rank() == 0:
        result.write(out)
    if dist.is_initialized():
        dist.barrier()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))

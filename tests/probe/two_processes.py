"""Run by test_online.py: fit with N processes, and write what was measured. Arguments: folder, N."""

import json
import runpy
import sys
from pathlib import Path

from lightning.pytorch import Trainer

from solo_frossl.probe import EffectiveRank, KNNConfig, OnlineKNN, extract_features
from solo_frossl.report import EpochCSV, Throughput


def main(out: Path, processes: int) -> None:
    """Everything that gathers or reduces."""
    tiny = runpy.run_path(str(Path(__file__).with_name("conftest.py")))
    data, method = tiny["TinyData"](), tiny["TinyMethod"]()
    for module in method.backbone:
        module.momentum = 0.0  # BatchNorm's statistics would be those of a process's own images
    history = EpochCSV(out / "metrics.csv")
    trainer = Trainer(
        accelerator="cpu",
        devices=processes,
        strategy="ddp" if processes > 1 else "auto",
        max_epochs=1,
        logger=history,
        callbacks=[OnlineKNN(KNNConfig(k=5)), EffectiveRank(), Throughput()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        log_every_n_steps=1,
    )
    trainer.fit(method, datamodule=data)

    train = extract_features(method.backbone, data.labelled_train_dataloader(), data.clean, "cpu").gathered()
    if trainer.is_global_zero:
        metrics = history.rows[0]
        assert metrics.pop("images_per_second") > 0
        assert metrics.pop("device_seconds") > 0
        results = metrics | {
            "index": train.index.tolist(),
            "features": train.features.flatten().tolist(),
        }
        (out / "results.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))

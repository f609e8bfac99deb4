import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer

from solo_frossl.probe import EffectiveRank, KNNConfig, OnlineKNN, extract_features, knn_accuracy, knn_classify
from solo_frossl.report import EpochCSV
from solo_frossl.run_files import RunFolder
from solo_frossl.runs import CheckpointConfig, NonFiniteGuard, RunCheckpoint
from solo_frossl.spectrum import covariance_eigenvalues, effective_rank


def run(method, data, tmp_path, config, **kwargs):
    history = EpochCSV(tmp_path / "metrics.csv")
    trainer = Trainer(
        **{"num_sanity_val_steps": 0} | kwargs,
        accelerator="cpu",
        logger=history,
        callbacks=[OnlineKNN(config), EffectiveRank()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        log_every_n_steps=1,
    )
    trainer.fit(method, datamodule=data)
    return history.rows


def test_logs_what_the_functions_say(data, method, tmp_path):
    rows = run(method, data, tmp_path, KNNConfig(k=5), max_epochs=1)
    bank = extract_features(method, data.labelled_train_dataloader(), data.clean, "cpu")
    queries = extract_features(method, data.val_dataloader(), data.clean, "cpu")
    scores = knn_classify(queries.features, bank.features, bank.label, k=5, num_classes=3)
    assert rows[0]["knn/top1"] == pytest.approx(float(knn_accuracy(scores, queries.label)))
    assert 40 < rows[0]["knn/top1"] <= 100
    rank = effective_rank(covariance_eigenvalues(queries.features))
    assert rows[0]["spectrum/effective_rank"] == pytest.approx(float(rank), rel=1e-5)


def test_training_is_as_without_it(data, method, tmp_path):
    """No random number is drawn, no BatchNorm statistic moves, and each module keeps its own mode."""
    modes = []
    hook = method.backbone.register_forward_pre_hook(lambda m, args: modes.append((m.training, method.frozen.training)))
    torch.manual_seed(0)
    run(method, data, tmp_path, KNNConfig(), max_epochs=2)
    hook.remove()
    assert modes[:4] == [(True, False)] * 4
    assert modes[4:] == [(False, False)] * 6 + [(True, False)] * 4 + [(False, False)] * 6
    with_knn, next_number = {k: v.clone() for k, v in method.state_dict().items()}, torch.rand(())
    torch.manual_seed(0)
    other = type(method)()
    run(other, data, tmp_path, KNNConfig(every_n_epochs=0), max_epochs=2)
    torch.testing.assert_close(other.state_dict(), with_knn, rtol=0, atol=0)
    assert torch.rand(()) == next_number


@pytest.mark.parametrize(("every", "epochs"), [(1, [0, 1, 2, 3, 4]), (2, [1, 3, 4]), (0, [])])
def test_chosen_epochs(data, method, tmp_path, every, epochs):
    rows = run(method, data, tmp_path, KNNConfig(every_n_epochs=every), max_epochs=5)
    assert [e for e, row in rows.items() if "knn/top1" in row] == epochs
    assert all("spectrum/effective_rank" in row for row in rows.values())


def test_an_epoch_shows_only_what_it_measured(data, method, tmp_path):
    """The Trainer would show the last k-NN accuracy again; the checkpoint callback writes the row."""
    history = EpochCSV(tmp_path / "metrics.csv")
    keeper = RunCheckpoint(RunFolder(tmp_path), CheckpointConfig(), {}, NonFiniteGuard(), history)
    Trainer(
        accelerator="cpu",
        max_epochs=5,
        logger=history,
        callbacks=[OnlineKNN(KNNConfig(every_n_epochs=2)), EffectiveRank(), keeper],
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        check_val_every_n_epoch=1,
        use_distributed_sampler=False,
        log_every_n_steps=1,
    ).fit(method, datamodule=data)
    assert [e for e, row in history.rows.items() if "knn/top1" in row] == [1, 3, 4]
    assert len(history.rows) == 5


def test_a_sanity_check_is_not_measured(data, method, tmp_path):
    seen = []
    data.labelled_train_dataloader = lambda real=data.labelled_train_dataloader: seen.append(1) or real()
    run(method, data, tmp_path, KNNConfig(), max_epochs=1, num_sanity_val_steps=2)
    assert seen == [1]


def test_without_classes_there_is_only_the_rank(data, method, tmp_path):
    data.num_classes = 0
    assert set(run(method, data, tmp_path, KNNConfig(), max_epochs=1)[0]) == {"spectrum/effective_rank"}


@pytest.mark.slow
def test_two_processes_measure_what_one_does(tmp_path):
    """Real processes: k-NN, effective rank and gathered features."""
    script = Path(__file__).with_name("two_processes.py")
    results = []
    for processes in (1, 2):
        out = tmp_path / str(processes)
        subprocess.run([sys.executable, script, out, str(processes)], check=True, timeout=120, capture_output=True)
        results.append(json.loads((out / "results.json").read_text()))
    assert results[1].keys() == results[0].keys()
    for name, value in results[0].items():
        assert results[1][name] == pytest.approx(value, rel=1e-4, abs=1e-6), name

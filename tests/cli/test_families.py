"""One method of each family through the main job: killed and resumed, and by two processes."""

import csv
import random
import signal

import pytest
import torch
from real_processes import finish, start, start_two
from signal_at_step import NO_SIGNAL, signal_at_step
from small_methods import NO_BATCH_NORM, OWN, ROOT, SMALL, VIT

from solo_frossl.run_files import RunFolder
from solo_frossl.runs import newest_readable, read_checkpoint

FAMILIES = {
    "moco_v2": [],  # contrast of samples: queue, EMA
    "swav": ["--model.queue_from_epoch=0"],  # clustering: queue, prototypes that are frozen at first
    "dino": [],  # self-distillation: centre, EMA, crops of two sizes
    "byol": [],  # asymmetric networks: EMA, predictor
    "corinfomax": [],  # contrast of dimensions: running covariance
    "directpred": [],  # predictor in closed form: moving correlation, EMA
    "wmse": [],  # whitening: random partitions
}
EPOCHS, STEPS = 2, 4


def arguments(name, *more):
    """The small method, and what it needs to use its whole state within two epochs."""
    config = f"--config={ROOT}/configs/digits/{name}.yaml"
    return [config, *SMALL, *OWN.get(name, []), *FAMILIES[name], f"--trainer.max_epochs={EPOCHS}", *more]


def views(*entries):
    return f"--data.views=[{', '.join(f'{{recipe: digits, {entry}}}' for entry in entries)}]"


def checkpoint(folder):
    return read_checkpoint(folder / "r/checkpoints/last.ckpt")


def steps_saved(folder):
    """Steps in the newest checkpoint, which is ``previous`` between the two renames that put a new one in place."""
    return read_checkpoint(newest_readable(RunFolder(folder / "r")))["global_step"]


def measured(folder):
    """What the run measured in each epoch, but for its speed."""
    with open(folder / "r/metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    kinds = ("train/", "online/", "knn/", "spectrum/")
    return [{name: float(value) for name, value in row.items() if name.startswith(kinds)} for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_killed_at_some_step_and_resumed_it_ends_bit_identical(name, tmp_path):
    more = [views("count: 2", "count: 2, size: 6")] if name == "dino" else []
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    finish(whole, start(whole, *arguments(name, *more)))

    every_step = arguments(name, *more, "--checkpoint.every_n_steps=1")
    draw = random.Random(name)
    step, delay = draw.randint(2, STEPS + 1), draw.uniform(0, 0.03)
    (process,) = start(broken, *every_step, signal_at_step("SIGKILL", step, delay))
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert steps_saved(broken) in (step - 1, step)

    finish(broken, start(broken, *every_step, "--resume", NO_SIGNAL))
    ours, theirs = checkpoint(broken), checkpoint(whole)
    assert ours["global_step"] == theirs["global_step"] == EPOCHS * STEPS
    ours, theirs = ours["state_dict"], theirs["state_dict"]
    assert ours.keys() == theirs.keys()
    assert [key for key, value in theirs.items() if not torch.equal(ours[key], value)] == []
    assert measured(broken) == measured(whole)


STILL = "crop_scale: [1.0, 1.0], crop_ratio: [1.0, 1.0], jitter_probability: 0.0"
INVERTED = f"{STILL}, solarize_probability: 1.0"
WELL_CONDITIONED = {  # or else rounding errors are blown up by the inverse of a covariance that is nearly singular
    "corinfomax": ["--model.eps=0.1"],
    "wmse": ["--model.projector.output=8", "--model.whitening_size=32", "--model.whitening_eps=0.1"],
}


def without_chance(name, crop, *more):
    """A run whose views are always the same, crops of some pixels among them where the method takes these."""
    crops = [f"{STILL}, size: {crop}"] if name in ("swav", "dino") else []
    return arguments(
        name,
        *more,
        *WELL_CONDITIONED.get(name, []),
        views(STILL, INVERTED, *crops),
        "--model.optimizer.lr=0.05",
        "--model.schedule.warmup_epochs=0",
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_two_processes_make_the_run_of_one(name, tmp_path):
    """With views without chance, since each process draws its own, and without BatchNorm: up to float32's rounding."""
    same = without_chance(name, 16, *VIT, *NO_BATCH_NORM.get(name, []))
    one, two = tmp_path / "one", tmp_path / "two"
    finish(one, start(one, *same))
    finish(two, start_two(two, *same))
    assert [path.name for path in two.iterdir() if path.is_dir()] == ["r"]
    ours, theirs = checkpoint(two)["state_dict"], checkpoint(one)["state_dict"]
    assert not [key for key in theirs if "running_mean" in key]
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        torch.testing.assert_close(ours[key], value, rtol=0, atol=2e-6, msg=lambda m, k=key: f"{k}: {m}")
    one_image = 100 / 256  # of the training images, the fewest that a percentage is of
    for row, expected in zip(measured(two), measured(one), strict=True):
        assert row.keys() == expected.keys() >= {"train/loss", "train/online_top1", "online/top1", "knn/top1"}
        for column, value in expected.items():
            rounding = {"abs": 1.01 * one_image} if "top" in column else {"rel": 1e-4, "abs": 1e-6}
            assert row[column] == pytest.approx(value, **rounding), column


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "moco_v2"])  # which refuses SyncBatchNorm
def test_two_gpus_with_synchronised_batch_norm_make_the_run_of_one(name, tmp_path):
    """With BatchNorm in backbone and projector, over the global batch: up to float32's rounding on a GPU."""
    same = without_chance(name, 6)
    one, two = tmp_path / "one", tmp_path / "two"
    finish(one, start(one, *same, "--trainer.devices=1", accelerator="gpu"))
    finish(two, start_two(two, *same, accelerator="gpu"))
    ours, theirs = checkpoint(two)["state_dict"], checkpoint(one)["state_dict"]
    assert [key for key in theirs if "running_mean" in key]
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        torch.testing.assert_close(ours[key], value, rtol=1e-3, atol=1e-4, msg=lambda m, k=key: f"{k}: {m}")

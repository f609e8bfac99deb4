"""Which runs are seeds of one configuration, and what sets configurations apart."""

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
from made_up_runs import config

from solo_frossl.compare.groups import Group, differences, group_runs, learning_settings
from solo_frossl.compare.read import Run


def run(folder="a", epochs=None, **changes):
    """A run of FroSSL; ``changes`` are dotted keys with two underscores for a dot."""
    settings = deepcopy(config("frossl", 0, 10))
    for key, value in changes.items():
        *parents, last = key.split("__")
        inner = settings
        for parent in parents:
            inner = inner[parent]
        inner[last] = value
    return Run(Path(folder), settings, {e: {"online/top1": v} for e, v in (epochs or {}).items()})


@pytest.mark.parametrize(
    "change",
    [
        {"seed_everything": 3},
        {"name": "other", "runs_dir": "elsewhere"},
        {"data__root": "/another/disk"},
        {"data__workers": 8, "data__residency": "memory"},
        {"trainer__devices": 4, "trainer__strategy": "ddp", "trainer__accelerator": "gpu"},
        {"trainer__enable_progress_bar": False},
        {"wandb": True, "wandb_project": "mine"},
        {"spectrum": {"every_n_steps": 10}, "on_collapse": "stop", "stop_after_epoch": 5},
        {"model__new_option": None},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_does_not_change_learning_leaves_runs_in_one_group(change):
    (group,) = group_runs([run("a"), run("b", **change)])
    assert group.label == "FroSSL"
    assert [member.name for member in group.runs] == ["a", "b"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model__optimizer": {"name": "lars", "lr": 0.1}}, "FroSSL, lr 0.1"),
        ({"model__optimizer": {"name": "sgd", "lr": 0.1}}, "FroSSL, optimizer sgd, lr 0.1"),
        ({"data__batch_size": 512}, "FroSSL, batch_size 512"),
        ({"trainer__max_epochs": 20}, "FroSSL, max_epochs 20"),
        ({"data__subset": 100}, "FroSSL, subset 100"),
    ],
)
def test_what_changes_learning_makes_another_group_that_says_so(change, said):
    groups = group_runs([run("a"), run("b", **change)])
    assert len(groups) == 2
    assert groups[1].label == said


def test_a_learning_rate_of_0_is_untrained_and_has_no_row_in_the_papers():
    still = run("b", model__optimizer={"name": "lars", "lr": 0.0})
    assert [group.label for group in group_runs([run("a"), still])] == ["FroSSL", "FroSSL (untrained)"]
    (alone,) = group_runs([still])
    assert (alone.label, alone.row) == ("FroSSL (untrained)", "frossl_untrained")


def test_many_differences_are_named_by_the_run():
    other = run("short", data__batch_size=1, trainer__max_epochs=2, data__subset=3)
    assert [group.label for group in group_runs([run("long"), other])] == ["FroSSL: long", "FroSSL: short"]


def test_an_image_folder_is_another_dataset_than_another_folder():
    folders = [run(dataset="folder", data__root=root) for root in ("/images/birds", "/images/cats")]
    assert [group.dataset for group in group_runs(folders)] == ["images in images/birds", "images in images/cats"]


def test_seeds_stand_in_order_also_without_one():
    runs = [run("c", seed_everything=None), run("b", seed_everything=2), run("a", seed_everything=10)]
    (group,) = group_runs(runs)
    assert [member.name for member in group.runs] == ["b", "a", "c"]


def test_methods_stand_in_the_order_of_the_papers_and_unknown_ones_last():
    runs = [run(method=name) for name in ("my_package.mine.Mine", "simclr", "barlow_twins", "frossl")]
    runs.append(run("logs", model__log_variance=False))
    labels = [group.label for group in group_runs(runs)]
    assert labels == ["FroSSL", "FroSSL (no logs)", "Barlow Twins", "SimCLR", "Mine"]


@pytest.fixture
def group():
    return Group("x", (run(epochs={1: 10.0, 2: 30.0, 3: 20.0}), run(epochs={1: 20.0, 2: 50.0}), run(epochs={})))


def test_a_band_covers_the_seeds_that_have_reached_the_epoch(group):
    band = group.band("online/top1")
    assert band == ([1, 2, 3], [15.0, 40.0, 20.0], [10.0, 30.0, 20.0], [20.0, 50.0, 20.0], [2, 2, 1])


def test_the_last_epoch_is_the_last_that_all_seeds_with_the_metric_have(group):
    assert group.last_epoch("online/top1") == 2
    assert group.last_epoch("knn/top1") is None


def test_what_a_metric_is_at_last_is_of_the_last_epoch_that_all_seeds_have(group):
    assert group.final("online/top1") == [30.0, 50.0]
    assert group.final("knn/top1") == []


def test_what_a_linear_probe_has_is_of_the_runs_that_were_probed(group):
    probed = Group("x", (group.runs[0], replace(group.runs[1], linear={"top1": 87.0})))
    assert probed.final("linear/top1") == [87.0]
    assert probed.final("linear/top5") == []


def test_the_best_of_each_seed_comes_with_its_first_epoch(group):
    assert group.best("online/top1") == [(30.0, 2), (50.0, 2)]
    assert Group("x", (run(epochs={1: 5.0, 2: 5.0}),)).best("online/top1") == [(5.0, 1)]


def test_epochs_to_reach_are_those_of_each_seed(group):
    assert group.epochs_to_reach("online/top1", 40.0) == [None, pytest.approx(1 + 20 / 30)]


def test_seconds_to_reach_count_from_the_start():
    rows = {1: {"online/top1": 10.0, "device_seconds": 5.0}, 2: {"online/top1": 30.0, "device_seconds": 15.0}}
    timed = Run(Path("a"), config("frossl", 0, 2), rows)
    assert Group("x", (timed,)).seconds_to_reach("online/top1", 20.0) == [5.0 + 15.0 / 2]
    untimed = Run(Path("b"), config("frossl", 1, 2), {**rows, 2: {"online/top1": 30.0}})
    assert Group("x", (timed, untimed)).seconds_to_reach("online/top1", 20.0) == []


def test_differences_are_keys_with_several_values_and_keys_that_some_have():
    groups = group_runs([run(), run(model__log_variance=False), run(method="simclr", model__temperature=0.2)])
    found = {difference.key: difference for difference in differences(groups)}
    assert set(found) == {"method", "model.log_variance", "model.temperature"}
    assert found["method"].shared
    assert found["method"].values == [("frossl", ["FroSSL", "FroSSL (no logs)"]), ("simclr", ["SimCLR"])]
    assert not found["model.temperature"].shared
    assert found["model.temperature"].values == [("0.2", ["SimCLR"])]


def test_settings_leave_out_seeds_names_and_paths():
    settings = learning_settings(run())
    assert settings["model.optimizer.lr"] == 0.3
    assert not {"seed_everything", "name", "runs_dir", "data.root", "trainer.devices"} & set(settings)

"""Accuracies at the end, after chosen epochs and beside the papers' numbers."""

from pathlib import Path

import pytest
from runs_by_hand import METRIC, run, texts

from solo_frossl.cli.config import compose
from solo_frossl.compare import tables
from solo_frossl.compare.groups import Group, group_runs
from solo_frossl.compare.papers import SETTINGS, other_model
from solo_frossl.compare.read import Run
from solo_frossl.published import PUBLISHED


def test_the_summary(groups):
    table = tables.summary_table(groups)
    assert table.columns == ("method", "seeds", "epochs", "last", "best", "images/s")
    assert texts(table)["FroSSL"] == ["2 (0, 1)", "3 of 10", "60.0 ± 0.0", "60.0 ± 0.0", "2 ± 0"]
    assert texts(table)["Barlow Twins"] == ["1 (0)", "3 of 10", "40.0", "40.0", "6"]
    assert [cell.best for cell in table.rows[0]][3:5] == [True, True]
    assert table.rows[0][4].note == "epoch 3"


def test_the_summary_takes_the_last_epoch_that_all_seeds_have():
    (group,) = group_runs([run("frossl", 0, [10.0, 20.0, 90.0]), run("frossl", 1, [30.0, 40.0])])
    row = texts(tables.summary_table([group]))["FroSSL"]
    assert row[1:3] == ["2–3 of 10", "30.0 ± 14.1"]


def test_accuracies_stand_beside_the_papers_at_its_epochs(groups):
    (paper,) = (t for t in PUBLISHED if t.table == "frossl-table3")
    table = tables.accuracy_table(groups, METRIC, [2, 3], [paper])
    assert table.columns == ("method", "ours", "ours", "paper", "difference")
    assert table.spans == (("", 1), ("epoch 2", 1), ("epoch 3", 3))
    assert texts(table) == {
        "FroSSL": ["50.0 ± 2.8", "60.0 ± 0.0", "44.8", "+15.2"],
        "Barlow Twins": ["30.0", "40.0", "32.1", "+7.9"],
    }
    assert table.rows[0][4].value == pytest.approx(15.2)


def test_training_that_is_not_the_papers_is_named():
    (paper,) = (t for t in PUBLISHED if t.table == "frossl-table3")
    short = group_runs([run("frossl", 0, [1.0, 2.0, 3.0], planned=5, subset=6400)])
    full = group_runs([run("frossl", 0, [1.0, 2.0, 3.0], planned=500)])
    notes = tables.accuracy_table(short, METRIC, [3], [paper]).notes
    assert notes[-1] == "Not the paper's training: FroSSL: 3 of 5 epochs, 6,400 images, batch 256."
    assert not any("Not the paper's" in note for note in tables.accuracy_table(full, METRIC, [3], [paper]).notes)


def test_a_model_that_is_not_the_papers_is_named_once_for_all_that_have_it():
    (paper,) = (t for t in PUBLISHED if t.table == "frossl-table3")
    small = {"kernel_size": 3, "stride": 1, "max_pool": False}
    runs = [run(method, 0, [1.0, 2.0, 3.0], planned=500, image_size=32) for method in ("frossl", "simclr", "byol")]
    for other in runs[:2]:
        other.config["model"] |= {"backbone": "resnet50", "width": 0.5, "stem": small}
    runs[2].config["model"]["stem"] = "imagenet"
    notes = tables.accuracy_table(group_runs(runs), METRIC, [3], [paper]).notes
    assert notes[-2:] == (
        "Not the paper's training: FroSSL, SimCLR: 3 of 500 epochs, batch 256, backbone resnet50 (paper: backbone"
        " resnet18), width 0.5 (paper: width 1), stem 3x3, stride 1, no max-pool (paper: stem 7x7, stride 2, max-pool),"
        " 32 pixels (paper: 96 pixels).",
        "Not the paper's training: BYOL: 3 of 500 epochs, batch 256, 32 pixels (paper: 96 pixels).",
    )


def test_the_papers_models_are_those_of_the_configurations():
    for dataset, setting in SETTINGS.items():
        given = compose([f"configs/{dataset}/frossl.yaml"])
        group = Group("x", (Run(Path("x"), {"dataset": dataset, "model": {}, "data": {}}),))
        group.runs[0].config["model"]["stem"] = given.get("model.stem")
        group.runs[0].config["data"]["image_size"] = given.get("data.image_size")
        assert other_model(group) == [], dataset
        assert given.get("data.image_size") in (None, setting.image_size)


def test_an_epoch_that_was_not_measured_is_left_out_and_said(groups):
    table = tables.accuracy_table(groups, METRIC, [3, 7, 9], [])
    assert table.columns == ("method", "epoch 3")
    assert table.notes[-1] == "No method has been measured after epoch 7, 9."


def test_the_end_of_training_stands_beside_the_papers_final_tables():
    groups = group_runs([run("byol", 0, [91.0], planned=1), run("frossl", 0, [50.0], planned=1, linear={"top1": 87.0})])
    papers = [t for t in PUBLISHED if t.dataset == "stl10" and not t.epochs]
    table = tables.final_table(groups, papers)
    rows = [[cell.text for cell in row] for row in table.rows]
    assert ["FroSSL", "frossl-table2", "linear probe top-1", "1 epoch, batch 256", "87.0", "87.3", "−0.3"] in rows
    assert ["BYOL", "implicit-table2", "online top-1", "1 epoch, batch 256", "91.0", "91.7 ± 0.1", "−0.7"] in rows
    assert tables.final_table(group_runs([run("frossl", 0, [50.0])]), papers) is None

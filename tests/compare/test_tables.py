"""The tables, against values worked out by hand."""

from dataclasses import replace
from inspect import signature
from pathlib import Path

import pytest
from made_up_runs import config

from solo_frossl.cli.config import compose
from solo_frossl.compare import tables
from solo_frossl.compare.groups import Group, group_runs
from solo_frossl.compare.papers import SETTINGS, other_model
from solo_frossl.compare.read import Run
from solo_frossl.published import PUBLISHED
from solo_frossl.spectrum import saturation_step

METRIC = "online/top1"


def run(method="frossl", seed=0, values=(), seconds=None, *, planned=10, linear=None, dataset="stl10", **data):
    """A run that measured ``values`` after epochs 1, 2, ..., each of which took ``seconds``."""
    settings = config(method, seed, planned, dataset)
    settings["data"] |= data
    rows = {
        epoch: {METRIC: value}
        | ({} if seconds is None else {"device_seconds": seconds, "images_per_second": 60 / seconds})
        for epoch, value in enumerate(values, start=1)
    }
    return Run(Path(f"{method}-{seed}"), settings, rows, linear=linear or {})


def texts(table):
    """Rows by their first cell."""
    return {row[0].text: [cell.text for cell in row[1:]] for row in table.rows}


@pytest.fixture
def groups():
    """FroSSL, two seeds: mean 30, 50, 60; Barlow Twins: 20, 30, 40."""
    return group_runs(
        [
            run("frossl", 0, [28.0, 48.0, 60.0], 30),
            run("frossl", 1, [32.0, 52.0, 60.0], 30),
            run("barlow_twins", 0, [20.0, 30.0, 40.0], 10),
        ]
    )


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


def test_columns_that_are_empty_are_left_out(groups):
    columns = tables.runs_table(groups).columns
    assert columns == ("run", "method", "seed", "epochs", "state")
    assert tables.runs_table(groups).text_columns == 5
    odd = replace(groups[0].runs[0], device="cpu", remarks=("odd",))
    columns = tables.runs_table([Group("x", (odd,)), groups[1]]).columns
    assert columns == ("run", "method", "seed", "epochs", "state", "device", "remarks")


def test_the_end_of_training_stands_beside_the_papers_final_tables():
    groups = group_runs([run("byol", 0, [91.0], planned=1), run("frossl", 0, [50.0], planned=1, linear={"top1": 87.0})])
    papers = [t for t in PUBLISHED if t.dataset == "stl10" and not t.epochs]
    table = tables.final_table(groups, papers)
    rows = [[cell.text for cell in row] for row in table.rows]
    assert ["FroSSL", "frossl-table2", "linear probe top-1", "1 epoch, batch 256", "87.0", "87.3", "−0.3"] in rows
    assert ["BYOL", "implicit-table2", "online top-1", "1 epoch, batch 256", "91.0", "91.7 ± 0.1", "−0.7"] in rows
    assert tables.final_table(group_runs([run("frossl", 0, [50.0])]), papers) is None


def test_how_long_until_an_accuracy(groups):
    table = tables.reach_table(groups, METRIC, [20.0, 40.0, 50.0])
    assert table.columns == ("method", *("epochs", "device-seconds") * 3)
    # FroSSL's seeds are at 40 after 1 + 12/20 and 1 + 8/20 epochs, at 50 after 2 + 2/12 and 1 + 18/20
    assert texts(table)["FroSSL"] == [
        "≤ 1.0 ± 0.0",
        "≤ 30.0 ± 0.0",
        "1.5 ± 0.1",
        "45.0 ± 4.2",
        "2.0 ± 0.2",
        "61.0 ± 5.7",
    ]
    assert texts(table)["Barlow Twins"] == ["≤ 1.0", "≤ 10.0", "3.0", "30.0", "> 3", "> 30.0"]
    # at 20 both are there at once, and nobody knows who was first
    assert [cell.best for cell in table.rows[0]] == [False, False, False, True, False, True, False]
    assert [cell.best for cell in table.rows[1]] == [False, False, False, False, True, False, False]


def test_seeds_that_do_not_get_there_are_counted():
    groups = group_runs([run("frossl", 0, [10.0, 30.0]), run("frossl", 1, [10.0, 20.0])])
    assert texts(tables.reach_table(groups, METRIC, [25.0]))["FroSSL"] == ["1 of 2 seeds"]


def test_how_long_until_the_best_rival(groups):
    table = tables.best_rival_table(groups, METRIC, [2, 3])
    assert table.spans == (("", 1), ("rival's epoch 2", 2), ("rival's epoch 3", 2))
    # Barlow Twins has 30 after epoch 2; FroSSL's seeds are there after 1 + 2/20 and at once
    frossl, barlow = table.rows
    assert [cell.text for cell in frossl[1:3]] == ["≤ 1.1 ± 0.1", "≤ 31.5 ± 2.1"]
    assert frossl[1].note == "30.0 %, Barlow Twins"
    assert frossl[2].note == "rival 20.0"
    assert [cell.best for cell in frossl[1:]] == [True, False, True, False]
    assert [cell.text for cell in barlow[1:]] == ["> 3", "> 30.0", "> 3", "> 30.0"]
    assert not any(cell.best for cell in barlow)


def test_device_seconds_that_were_not_measured_are_estimated_and_marked():
    old = run("frossl", 0, [10.0, 30.0, 50.0], 10, subset=1000)
    for row in old.metrics.values():
        del row["device_seconds"]
        row["images_per_second"] = 76.8  # of 768 images: whole batches of 256
    groups = group_runs([old, run("simclr", 0, [10.0, 20.0, 30.0], 10)])
    table = tables.reach_table(groups, METRIC, [5.0, 20.0, 40.0])
    assert texts(table)["FroSSL"][1::2] == ["≤ ≈ 10.0", "≈ 15.0", "≈ 25.0"]
    assert texts(table)["SimCLR"][1::2] == ["≤ 10.0", "20.0", "> 30.0"]
    assert table.notes[-1].startswith("≈: estimated")
    assert texts(tables.speed_table(groups))["FroSSL"][-1] == "≈ 10.0"
    assert not any("≈" in note for note in tables.reach_table(groups[1:], METRIC, [20.0]).notes)


def test_how_long_until_each_rival(groups):
    table = tables.rivals_table(groups, METRIC, 3)
    assert table.columns == ("method", "FroSSL", "Barlow Twins")
    assert texts(table) == {"FroSSL": ["·", "1.5 ± 0.1"], "Barlow Twins": ["> 3", "·"]}
    assert [cell.best for cell in table.rows[0]] == [False, False, True]
    # 40 is at 1 + 12/20 and 1 + 8/20 epochs of 30 seconds each; Barlow Twins is not there within 3 of 10 seconds
    assert [table.rows[0][2].note, table.rows[1][1].note] == ["45.0 ± 4.2 s", "> 30.0 s"]
    assert "Small print: device-time." in table.notes[0]


def test_rivals_without_a_clock_are_compared_by_epochs_alone():
    groups = group_runs([run("frossl", 0, [10.0, 30.0]), run("simclr", 0, [20.0, 20.0])])
    table = tables.rivals_table(groups, METRIC, 2)
    assert not any(cell.note for row in table.rows for cell in row)
    assert table.notes == ("Columns: the rivals. Bold: before the rival.",)


def test_the_area_under_the_curve(groups):
    table = tables.area_table(groups, METRIC, [1, 2, 3])
    assert table.columns == ("method", "epochs 1 to 2", "epochs 1 to 3")
    assert texts(table) == {"FroSSL": ["40.0 ± 2.8", "47.5 ± 2.1"], "Barlow Twins": ["25.0", "30.0"]}


def test_throughput_is_compared_with_the_slowest(groups):
    table = tables.speed_table(groups)
    assert table.columns == ("method", "images/s", "of the slowest", "device-seconds an epoch")
    assert texts(table) == {"FroSSL": ["2 ± 0", "1.00", "30.0 ± 0.0"], "Barlow Twins": ["6", "3.00", "10.0"]}


def test_a_saturation_that_is_gone_at_the_end_is_not_told():
    def saturating(seed, steps):
        rows = {e: {"spectrum/embeddings/l14": 1.0, "spectrum/embeddings/entropy": 2.0} for e in (1, 2)}
        for epoch, step in steps.items():
            rows[epoch]["spectrum/saturation_step"] = step
        return Run(Path(f"a{seed}"), config("frossl", seed, 2), rows)

    def told(*seeds):
        return tables.spectrum_table(group_runs(saturating(i, steps) for i, steps in enumerate(seeds))).rows[0][-1].text

    assert told({1: 40, 2: 80}) == "80"
    assert told({1: 40}) == "not yet"
    assert told({2: 40}, {1: 40}) == "1 of 2 seeds"


def test_differences_say_who_has_which_value():
    groups = group_runs([run(method) for method in ("frossl", "simclr", "byol", "dino", "vicreg")])
    groups[1].runs[0].config["model"]["optimizer"]["lr"] = 0.5
    groups[2].runs[0].config["model"]["tau"] = 0.99
    said = texts(tables.differences_table(groups))
    assert said["model.optimizer.lr"] == ["all", "0.3 (the others); 0.5 (VICReg)"]
    assert "model.tau" not in said
    assert tables.differences_table(groups).notes[-1].startswith("Left out too: 1 settings")
    few = tables.differences_table([groups[i] for i in (0, 2)])
    assert texts(few)["model.tau"] == ["some", "0.99 (SimCLR)"]
    assert tables.differences_table(groups[:1]) is None


def test_variants_of_a_method_that_agree_are_named_by_the_method():
    runs = [run(method) for method in ("frossl", "simclr", "byol", "vicreg", "vicreg")]
    runs[4].config["model"]["optimizer"]["lr"] = 0.5
    for number in (1, 3, 4):
        runs[number].config["data"]["batch_size"] = 512
    said = texts(tables.differences_table(group_runs(runs)))
    assert said["data.batch_size"] == ["all", "256 (FroSSL · BYOL); 512 (the others)"]
    runs[1].config["data"]["batch_size"] = 128
    said = texts(tables.differences_table(group_runs(runs)))
    assert said["data.batch_size"] == ["all", "256 (FroSSL · BYOL); 512 (VICReg); 128 (SimCLR)"]


def test_the_definition_of_saturation_is_that_of_the_code():
    given = {name: p.default for name, p in signature(saturation_step).parameters.items()}
    assert f"running median of {given['window']} checks" in tables.SATURATION
    assert f"within {100 * given['tolerance']:.0f} %" in tables.SATURATION
    assert f"off by more than {100 * given['away']:.0f} %" in tables.SATURATION
    assert 1 / given["plateau"] == 5
    assert tables.SATURATION.count("fifth of the steps") == 2


@pytest.mark.parametrize(
    ("texts", "best"),
    [
        (["1.0", "2.0", "> 5"], 0),
        (["4.5", "> 5", "> 5"], 0),
        (["4.5", "> 5", "> 3"], None),  # the third was given up before the first got there
        (["≤ 1.0", "2.0", "3.0"], None),
        (["1.0", "≤ 2.0", "3.0"], None),
        (["1.0", "2.0", "–"], 0),
        (["1.0", "2.0", "–", "–", "–"], None),
        (["> 5", "> 5"], None),
        (["1.0", "1.0", "2.0"], None),
    ],
)
def test_the_first_is_named_only_where_that_is_sure(texts, best):
    cells = []
    for text in texts:
        sign, _, value = text.rpartition(" ")
        cells.append(tables.MISSING if text == "–" else tables.Cell(text, float(value), sign=sign))
    assert tables.best_of(cells, lowest=True) == best


@pytest.mark.parametrize(
    ("values", "lowest", "marked"),
    [
        ([1, 3, 2], False, [1]),
        ([1, 3, 2], True, [0]),
        ([3, 3, 2], False, []),
        ([None, 3, None], False, []),
        ([], False, []),
    ],
)
def test_the_best_is_marked_where_one_alone_has_it(values, lowest, marked):
    rows = tables.mark_best([[tables.Cell("", v)] for v in values], [0], lowest=lowest)
    assert [i for i, (cell,) in enumerate(rows) if cell.best] == marked

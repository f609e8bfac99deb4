"""How long until an accuracy, against the rivals, and the area under the curve."""

from runs_by_hand import METRIC, run, texts

from solo_frossl.compare import tables
from solo_frossl.compare.groups import group_runs


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

"""What the configurations differ in."""

from runs_by_hand import run, texts

from solo_frossl.compare import tables
from solo_frossl.compare.groups import group_runs


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

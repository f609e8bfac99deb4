"""From a table to its runs."""

import pytest

from solo_frossl.cli.config import compose
from solo_frossl.reproduce import TABLES, Cell, Scale, plan


def planned(name: str, **kwargs) -> dict[str, Cell]:
    cells = plan(TABLES[name], lambda config, key: compose([config]).get(key), **{"root": "images"} | kwargs)
    return {cell.name: cell for cell in cells}


def test_all_rows_of_one_seed_come_first():
    names = list(planned("frossl-fig4", seeds=[3, 1]))
    assert names == ["frossl-seed3", "barlow_twins-seed3", "frossl-seed1", "barlow_twins-seed1"]


def test_a_table_of_several_datasets_names_them():
    cells = planned("implicit-table2", rows=["isoloss"], datasets=["stl10", "cifar10"])
    assert list(cells) == [f"{d}-isoloss-seed{seed}" for seed in range(5) for d in ("cifar10", "stl10")]
    assert list(planned("implicit-table2", rows=["isoloss"], datasets=["stl10"], seeds=[0])) == ["stl10-isoloss-seed0"]


def test_nothing_is_changed_without_a_scale():
    (cell,) = planned("frossl-table2", rows=["frossl"], datasets=["cifar10"]).values()
    assert cell == Cell(
        name="cifar10-frossl-seed0",
        row="frossl",
        dataset="cifar10",
        seed=0,
        config="configs/cifar10/frossl.yaml",
        options={"data.root": "images"},
        epochs=1000,
        probe={},
    )


def test_fewer_epochs_end_the_schedule_earlier():
    cell = planned("frossl-table3", scale=Scale(epochs=20))["frossl-seed0"]
    assert cell.epochs == cell.options["trainer.max_epochs"] == 20
    assert "stop_after_epoch" not in cell.options
    assert cell.options["model.schedule.warmup_epochs"] == 4
    cell = planned("frossl-table3", scale=Scale(epochs=300))["frossl-seed0"]
    assert (cell.options["trainer.max_epochs"], cell.options["stop_after_epoch"], cell.epochs) == (300, 100, 100)
    assert "model.schedule.warmup_epochs" not in cell.options


def test_a_run_without_warm_up_gets_none():
    assert "model.schedule.warmup_epochs" not in planned("frossl-table3", scale=Scale(epochs=4))["wmse-seed0"].options
    cell = planned("frossl-fig3", scale=Scale(epochs=2))["simclr-seed0"]
    assert cell.options["model.schedule.warmup_epochs"] == 0
    assert "model.schedule.warmup_epochs" not in planned("frossl-fig4", scale=Scale(epochs=2))["frossl-seed0"].options


def test_stopping_leaves_the_schedule():
    cell = planned("frossl-table3", scale=Scale(stop=10))["frossl-seed0"]
    assert cell.options == {"data.root": "images", "stop_after_epoch": 10}
    assert cell.epochs == 10
    cell = planned("frossl-fig4", scale=Scale(stop=500))["frossl-seed0"]
    assert (cell.epochs, "stop_after_epoch" in cell.options) == (100, False)


def test_the_probe_waits_for_the_end_of_training():
    assert planned("frossl-fig4")["frossl-seed0"].probe is None
    assert planned("frossl-fig4", scale=Scale(stop=100))["frossl-seed0"].probe is not None
    assert planned("frossl-fig4", scale=Scale(epochs=2))["frossl-seed0"].probe is not None
    assert planned("frossl-table2", scale=Scale(stop=5))["stl10-frossl-seed0"].probe is None


def test_another_dataset_takes_the_settings_of_one_of_the_table_s():
    cells = planned("frossl-table2", images="folder", scale=Scale(subset=0.5, image_size=32, stem="imagenet"))
    assert {cell.dataset for cell in cells.values()} == {"cifar10"}
    assert cells["cifar10-frossl-seed0"].options == {
        "data.root": "images",
        "dataset": "folder",
        "data.subset": 0.5,
        "data.image_size": 32,
        "model.stem": "imagenet",
    }
    cells = planned("frossl-table2", images="folder", datasets=["stl10"])
    assert {cell.config.split("/")[1] for cell in cells.values()} == {"stl10"}


def test_a_queue_fits_the_images():
    assert planned("frossl-table3", scale=Scale(subset=3000))["moco_v2-seed0"].options["model.queue_size"] == 1000
    for subset in (100_000, 0.5):
        assert "model.queue_size" not in planned("frossl-table3", scale=Scale(subset=subset))["moco_v2-seed0"].options
    assert "model.queue_size" not in planned("frossl-table3", scale=Scale(subset=3000))["swav-seed0"].options


def test_whitening_fits_the_batch():
    options = planned("frossl-table3", scale=Scale(batch_size=64))["wmse-seed0"].options
    assert (options["data.batch_size"], options["model.whitening_size"], options["model.projector.output"]) == (
        64,
        64,
        32,
    )
    options = planned("frossl-table2", scale=Scale(batch_size=128))["cifar10-wmse-seed0"].options
    assert "model.whitening_size" not in options


def test_batches_that_the_table_varies_shrink_in_proportion():
    cells = planned("frossl-appendix-c", scale=Scale(batch_size=64))
    assert [cells[f"frossl{n}-seed0"].options["data.batch_size"] for n in ("", "_batch_64", "_batch_1024")] == [
        64,
        16,
        256,
    ]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"rows": ["frossl", "frosl"]}, "frossl-table3 has no row frosl; its rows are simclr, swav"),
        ({"datasets": ["cifar10"]}, "frossl-table3 has no dataset cifar10; its datasets are stl10"),
    ],
)
def test_what_the_table_does_not_have(asked, message):
    with pytest.raises(ValueError, match=message):
        planned("frossl-table3", **asked)


@pytest.mark.parametrize("values", [{"epochs": 0}, {"subset": -1}, {"stem": "tiny"}])
def test_scales_out_of_range(values):
    with pytest.raises(ValueError, match=f"{next(iter(values))} is"):
        Scale(**values)

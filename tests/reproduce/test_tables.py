"""The grids: their rows are the papers', and every run is a configuration that can be run."""

import pytest

from solo_frossl.cli import linear, pretrain
from solo_frossl.cli.config import compose
from solo_frossl.cli.parser import Parsed, build_cli
from solo_frossl.data import DATASETS
from solo_frossl.methods import METHODS
from solo_frossl.published import PUBLISHED, row_name
from solo_frossl.reproduce import TABLES, Cell, plan
from solo_frossl.reproduce.runner import option

PUBLISHED_TABLES = sorted({table.table for table in PUBLISHED})
CALLED_OTHERWISE = {"simsiam": "byol_no_target"}
"""Rows of the implicit-variance paper by another name than its runs have."""


def cells(name: str, **kwargs) -> list[Cell]:
    return plan(TABLES[name], lambda config, key: compose([config]).get(key), root="images", seeds=[0], **kwargs)


def parse(cell: Cell) -> Parsed:
    options = [option(key, value) for key, value in cell.options.items()]
    return build_cli(
        ["--config", cell.config, *options],
        methods=METHODS,
        datasets=DATASETS,
        add_arguments=pretrain._add_options,
        trainer_defaults=pretrain.TRAINER_DEFAULTS,
    )


def parsed(name: str, row: str, dataset: str | None = None) -> dict:
    (cell,) = (cell for cell in cells(name) if cell.row == row and dataset in (None, cell.dataset))
    return parse(cell).resolved


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLES)
def test_every_run_is_a_valid_configuration(name):
    for cell in cells(name):
        config = parse(cell).resolved
        assert config["data"]["root"] == "images", cell.name
        assert config["dataset"] == cell.dataset, cell.name
        assert min(config["trainer"]["max_epochs"], config["stop_after_epoch"] or 10**6) == cell.epochs, cell.name
        if name in PUBLISHED_TABLES:
            assert row_name(config) == cell.row, cell.name


@pytest.mark.parametrize("name", [name for name, table in TABLES.items() if table.probe is not None])
def test_every_probe_is_a_valid_configuration(name):
    probe = [option(key, value) for key, value in TABLES[name].probe.items()]
    build_cli(probe, methods=None, datasets=DATASETS, add_arguments=linear._add_options)


@pytest.mark.parametrize("name", PUBLISHED_TABLES)
def test_every_number_of_the_paper_has_a_run(name):
    runs = {(run.row, run.dataset) for run in TABLES[name].runs}
    printed = {
        (CALLED_OTHERWISE.get(row, row) if name.startswith("implicit") else row, table.dataset)
        for table in PUBLISHED
        if table.table == name
        for row, values in table.values.items()
        if any(value is not None for value in values)
    }
    assert runs == printed


@pytest.mark.parametrize("name", PUBLISHED_TABLES)
def test_every_column_of_the_paper_is_shown(name):
    shown = {(column.dataset or TABLES[name].datasets[0], column.metric) for column in TABLES[name].columns}
    assert {(table.dataset, table.metric) for table in PUBLISHED if table.table == name} <= shown


@pytest.mark.parametrize("name", TABLES)
def test_names_and_captions(name):
    table = TABLES[name]
    assert table.name == name
    assert "\n" not in table.caption
    names = [cell.name for cell in cells(name)]
    assert len(set(names)) == len(names)


def test_table_2_is_probed_after_the_whole_run():
    table = TABLES["frossl-table2"]
    assert {(c.dataset, c.epochs) for c in cells(table.name)} == {("cifar10", 1000), ("cifar100", 1000), ("stl10", 500)}
    assert all(cell.probe is not None for cell in cells(table.name))
    assert ("corinfomax", "stl10") not in {(run.row, run.dataset) for run in table.runs}


def test_table_3_is_the_first_part_of_table_2_s_runs():
    config = parsed("frossl-table3", "frossl")
    assert (config["trainer"]["max_epochs"], config["stop_after_epoch"]) == (500, 100)
    assert all(cell.probe is None for cell in cells("frossl-table3"))


def test_fig_3_has_its_own_settings():
    runs = {row: parsed("frossl-fig3", row) for row in ("frossl", "vicreg", "barlow_twins", "simclr")}
    for config in runs.values():
        optimizer, data = config["model"]["optimizer"], config["data"]
        assert (optimizer["name"], optimizer["lr"], data["batch_size"]) == ("sgd", 0.1, 256)
        assert config["trainer"]["max_epochs"] == 5
    assert runs["barlow_twins"]["model"]["off_diagonal_weight"] == 0.05
    assert runs["vicreg"]["model"]["invariance_weight"] == runs["vicreg"]["model"]["variance_weight"] == 25
    assert runs["simclr"]["model"]["temperature"] == 0.2
    dimensions = {row: config["model"]["projector"]["output"] for row, config in runs.items()}
    assert dimensions == {"frossl": 1024, "vicreg": 1024, "barlow_twins": 1024, "simclr": 256}


def test_fig_4_has_its_own_settings():
    for row in ("frossl", "barlow_twins"):
        config = parsed("frossl-fig4", row)
        model = config["model"]
        assert (model["optimizer"]["name"], model["optimizer"]["lr"]) == ("sgd", 1e-2)
        assert model["optimizer"]["weight_decay"] == 5e-4
        assert (model["schedule"]["name"], model["schedule"]["restart_epochs"]) == ("warm_restarts", 15)
        assert (config["data"]["batch_size"], config["data"]["image_size"]) == (224, 224)
        assert [view["recipe"] for view in config["data"]["views"]] == ["symmetric"]
        assert (config["trainer"]["max_epochs"], config["stop_after_epoch"]) == (100, 30)
    assert config["model"]["off_diagonal_weight"] == 0.005


def test_appendix_c_changes_one_thing_at_a_time():
    changed = [run.options for run in TABLES["frossl-appendix-c"].runs]
    assert changed[0] == {}
    assert {tuple(options) for options in changed[1:]} == {("model.projector.output",), ("data.batch_size",)}


def test_rows_without_target_network():
    for row in ("byol_no_target", "directpred_no_target", "isoloss_no_target"):
        model = parsed("implicit-table2", row, "cifar100")["model"]
        assert model["momentum"] is None, row
        assert (model["optimizer"]["name"], model["optimizer"]["lr"]) == ("sgd", 0.1), row
        assert model["optimizer"]["weight_decay"] == (1e-5 if row.startswith("byol") else 4e-4), row
    model = parsed("implicit-table2", "isoloss", "cifar100")["model"]
    assert (model["optimizer"]["name"], model["optimizer"]["lr"], model["momentum"]["base_tau"]) == ("lars", 1.0, 0.99)


@pytest.mark.slow
@pytest.mark.parametrize("row", ["byol", "byol_no_target", "isoloss"])
def test_the_implicit_paper_blurs_stl10_and_nothing_else(row):
    for dataset, blur in (("stl10", [1.0, 0.1]), ("cifar10", [None, None]), ("tinyimagenet", [None, None])):
        config = parsed("implicit-table2", row, dataset)
        assert [view["recipe"] for view in config["data"]["views"]] == ["asymmetric"] * 2
        assert [view["blur_probability"] for view in config["data"]["views"]] == blur
        assert config["trainer"]["max_epochs"] == 1000


def test_the_implicit_paper_s_stems():
    stem = {
        d: parsed("implicit-table3", "directcopy", d)["model"]["stem"] for d in ("cifar10", "stl10", "tinyimagenet")
    }
    assert (stem["cifar10"], stem["stl10"]) == ("cifar", "imagenet")
    assert stem["tinyimagenet"].items() >= {"kernel_size": 3, "stride": 1, "max_pool": True}.items()


def test_powers():
    for row, alpha, eps in (("directcopy", 1, 0.25), ("isoloss_alpha_1_no_target", 1, 0.25), ("isoloss", 0.5, 0)):
        model = parsed("implicit-table3", row, "cifar10")["model"]
        assert (model["alpha"], model["predictor_eps"]) == (alpha, eps), row


def test_implicit_figures():
    assert parsed("implicit-fig3", "isoloss_euclidean")["model"]["similarity"] == "euclidean"
    assert parsed("implicit-fig3", "isoloss")["stop_after_epoch"] == 500
    assert parsed("implicit-fig7", "isoloss_no_target")["model"]["momentum"] is None
    decays = [
        parsed("implicit-fig8", f"directpred_weight_decay_{d}")["model"]["optimizer"]["weight_decay"]
        for d in ("4e-4", "1e-5", "1e-6")
    ]
    assert decays == [4e-4, 1e-5, 1e-6]

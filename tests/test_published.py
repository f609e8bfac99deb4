"""The papers' numbers, against sums taken by hand from the papers' text."""

from pathlib import Path

import pytest

from solo_frossl.methods import METHODS
from solo_frossl.published import PUBLISHED, Published, published_for, row_name

CONFIGS = Path(__file__).parents[1] / "configs"
VARIANTS = {"byol_no_target", "isoloss_alpha_1", "isoloss_alpha_1_no_target"} | {
    f"{name}_no_target" for name in ("directpred", "directcopy", "isoloss")
}
"""Rows that are not a file of their own but some of its values changed."""
CASES = [pytest.param(table, id=f"{table.table}-{table.dataset}-{table.metric}") for table in PUBLISHED]


def only(name: str, dataset: str, metric: str) -> Published:
    (table,) = (table for table in published_for(dataset, metric) if table.table == name)
    return table


@pytest.mark.parametrize("table", CASES)
def test_every_row_is_a_configuration_or_a_variant_of_one(table):
    files = {file.stem for file in CONFIGS.glob("methods/*.yaml")}
    assert set(table.values) <= files | VARIANTS


@pytest.mark.parametrize("table", CASES)
def test_every_row_has_a_value_a_column(table):
    columns = max(1, len(table.epochs))
    assert {len(values) for values in [*table.values.values(), *table.deviations.values()]} == {columns}
    assert list(table.epochs) == sorted(set(table.epochs))
    assert set(table.deviations) <= set(table.values)
    assert all(0 <= value <= 100 for values in table.values.values() for value in values if value is not None)


@pytest.mark.parametrize("table", CASES)
def test_every_dataset_has_configurations(table):
    assert (CONFIGS / table.dataset / "dataset.yaml").is_file()


@pytest.mark.parametrize(
    ("dataset", "total", "frossl"), [("cifar10", 1096.6, 92.8), ("cifar100", 812.0, 70.6), ("stl10", 920.8, 87.3)]
)
def test_frossl_table_2(dataset, total, frossl):
    values = only("frossl-table2", dataset, "linear/top1").values
    assert len(values) == 12
    assert sum(value for (value,) in values.values() if value is not None) == pytest.approx(total)
    assert values["frossl"] == (frossl,)


def test_the_averages_that_frossl_table_2_prints():
    printed = {"simclr": 81.2, "swav": 78.9, "moco_v2": 82.0, "simsiam": 81.7, "byol": 83.9, "dino": 78.4}
    printed |= {"vicreg": 82.2, "barlow_twins": 82.7, "wmse": 76.7, "frossl_no_logs": 77.9, "frossl": 83.6}
    tables = [only("frossl-table2", dataset, "linear/top1") for dataset in ("cifar10", "cifar100", "stl10")]
    for row, average in printed.items():
        assert sum(table.values[row][0] for table in tables) / 3 == pytest.approx(average, abs=0.051), row


def test_frossl_table_3():
    table = only("frossl-table3", "stl10", "online/top1")
    assert table.epochs == (3, 10, 30, 50, 100)
    columns = [sum(column) for column in zip(*table.values.values(), strict=True)]
    assert columns == pytest.approx([361.6, 466.0, 636.6, 693.1, 754.7])
    assert table.values["frossl"] == (44.8, 56.9, 64.8, 67.1, 72.0)
    assert "corinfomax" not in table.values


def test_imagenet():
    top1, top5 = (only("frossl-fig4", "imagenet", f"linear/top{k}").values for k in (1, 5))
    assert (top1["frossl"], top5["frossl"]) == ((53.4,), (77.7,))
    assert (top1["barlow_twins"], top5["barlow_twins"]) == ((52.5,), (77.5,))


@pytest.mark.parametrize(
    ("number", "dataset", "total", "deviations"),
    [
        *[(2, "cifar10", 470.4, 2.1), (2, "cifar100", 338.3, 2.0), (2, "stl10", 454.8, 1.6)],
        (2, "tinyimagenet", 204.7, 3.6),
        *[(3, "cifar10", 573.4, 3.1), (3, "cifar100", 404.0, 2.9), (3, "stl10", 551.2, 1.8)],
        (3, "tinyimagenet", 256.6, 3.3),
    ],
)
def test_implicit_tables(number, dataset, total, deviations):
    table = only(f"implicit-table{number}", dataset, "online/top1")
    printed = [row for row in table.values if row != "simsiam"]  # the same row as byol_no_target
    assert sum(table.values[row][0] for row in printed) == pytest.approx(total)
    assert sum(table.deviations[row][0] or 0 for row in printed) == pytest.approx(deviations)


def test_implicit_deviations():
    table = only("implicit-table3", "tinyimagenet", "online/top1")
    assert table.values["isoloss_alpha_1"] == (45.6,)
    assert table.deviations["isoloss_alpha_1"] == (0.9,)
    assert only("implicit-table2", "stl10", "online/top1").deviations["byol_no_target"] == (0.7,)
    assert only("implicit-table2", "cifar10", "online/top1").deviations["byol"] == (None,)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_s_own_configuration_is_its_row(name):
    assert row_name({"method": name, "model": {"alpha": {"directcopy": 1.0}.get(name, 0.5), "momentum": {}}}) == name


@pytest.mark.parametrize(
    ("method", "model", "row"),
    [
        ("frossl", {"log_variance": True}, "frossl"),
        ("frossl", {"log_variance": False}, "frossl_no_logs"),
        ("byol", {"momentum": None}, "byol_no_target"),
        ("directpred", {"alpha": 0.5, "momentum": None}, "directpred_no_target"),
        ("directpred", {"alpha": 1.0, "momentum": {"base_tau": 0.99}}, "directpred_alpha_1"),
        ("isoloss", {"alpha": 1, "similarity": "cosine", "momentum": None}, "isoloss_alpha_1_no_target"),
        ("isoloss", {"alpha": 0.5, "similarity": "euclidean"}, "isoloss_euclidean"),
        ("directpred", {"use_predictor": False}, "directpred_no_predictor"),
        ("directpred", {"stop_gradient": False, "momentum": None}, "directpred_no_stop_gradient_no_target"),
        ("my_package.Mine", None, "my_package.Mine"),
    ],
)
def test_what_makes_another_row(method, model, row):
    assert row_name({"method": method, "model": model}) == row

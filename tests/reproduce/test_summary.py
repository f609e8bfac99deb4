"""The reproduced table in Markdown, from files as runs write them."""

import json
from pathlib import Path

import pytest

from solo_frossl.cli.config import compose
from solo_frossl.reproduce import TABLES, Scale, plan, summary
from solo_frossl.run_files import write_metrics


@pytest.fixture
def made(tmp_path):
    """``made(name, values, **plan)``: a table's summary; ``values`` are metrics by epoch from 1, by name of the run."""

    def make(name: str, values: dict, changes=(), **kwargs) -> list[str]:
        cells = plan(TABLES[name], lambda config, key: compose([config]).get(key), root="images", **kwargs)
        for run, rows in values.items():
            assert run in {cell.name for cell in cells}
            write(tmp_path / run, rows)
        return summary(TABLES[name], cells, tmp_path, changes).splitlines()

    def write(run: Path, rows: dict) -> None:
        if probe := {key.removeprefix("linear/"): value for key, value in rows.items() if isinstance(key, str)}:
            (run / "linear").mkdir(parents=True, exist_ok=True)
            (run / "linear" / "linear.json").write_text(json.dumps(probe))
        write_metrics(run / "metrics.csv", {epoch - 1: row for epoch, row in rows.items() if isinstance(epoch, int)})

    return make


def row(lines: list[str], name: str) -> list[str]:
    (line,) = (line for line in lines if line.startswith(f"| {name} |"))
    return [text.strip() for text in line.strip("|").split("|")][1:]


def online(**epochs: float) -> dict:
    return {int(epoch[1:]): {"online/top1": value} for epoch, value in epochs.items()}


def test_our_number_stands_beside_the_paper_s(made):
    lines = made("frossl-table3", {"frossl-seed0": online(e3=44.04, e10=57.96), "byol-seed0": online(e2=20.0)})
    assert row(lines, "row") == [f"epoch {epoch}: ours / paper" for epoch in (3, 10, 30, 50, 100)]
    assert row(lines, "frossl") == ["44.0 / 44.8", "58.0 / 56.9", "– / 64.8", "– / 67.1", "– / 72.0"]
    assert row(lines, "byol") == ["– / 28.8", "– / 32.7", "– / 59.6", "– / 64.7", "– / 70.6"]
    assert len([line for line in lines if line.startswith("| ")]) == 12
    assert not any("Not the paper's setting" in line for line in lines)
    assert any("500 epochs" in line for line in lines if line.startswith("* "))


def test_several_seeds_give_mean_and_deviation(made):
    values = {f"cifar10-isoloss-seed{seed}": online(e1000=90.0 + seed) for seed in range(3)}
    lines = made("implicit-table2", values, rows=["isoloss", "byol"])
    assert row(lines, "isoloss") == ["91.0 ± 1.0 / 91.5 ± 0.2", "– / 69.0 ± 0.2", "– / 89.0 ± 0.3", "– / 44.8 ± 0.4"]
    assert row(lines, "byol")[0] == "– / 92.6"
    assert any("Seeds 0, 1, 2, 3, 4." in line for line in lines)


def test_the_last_epoch_counts_only_when_it_is_reached(made):
    lines = made("implicit-table3", {"cifar10-isoloss-seed0": online(e999=90.0)}, seeds=[0], datasets=["cifar10"])
    assert row(lines, "isoloss") == ["– / 91.5 ± 0.2"]


def test_the_linear_probe_is_read(made):
    values = {"stl10-frossl-seed0": {"linear/top1": 87.04, "linear/top5": 99.0}}
    lines = made("frossl-table2", values, rows=["frossl", "corinfomax"])
    assert row(lines, "frossl") == ["– / 92.8", "– / 70.6", "87.0 / 87.3"]
    assert row(lines, "corinfomax") == ["– / 92.6", "– / 69.7", "– / –"]


def test_smaller_runs_say_so_and_show_their_last_epoch(made):
    scale = Scale(epochs=8, subset=0.25)
    lines = made(
        "frossl-table3", {"frossl-seed0": online(e3=30.0, e8=35.0)}, [scale.in_words(), "on folder"], scale=scale
    )
    assert row(lines, "row") == ["epoch 3: ours / paper", "epoch 8"]
    assert row(lines, "frossl") == ["30.0 / 44.8", "35.0"]
    assert "* Left out, for these runs do not get there: epoch 10; epoch 30; epoch 50; epoch 100." in lines
    assert "**Not the paper's setting: 8 epochs a run, 0.25 of the training images; on folder.**" in lines


def test_only_columns_with_runs_are_shown(made):
    lines = made("frossl-table2", {}, datasets=["cifar100"], rows=["frossl"])
    assert row(lines, "row") == ["CIFAR-100: ours / paper"]


def test_figures_have_columns_of_their_own(made):
    values = {5: {"spectrum/embeddings/condition_number": 12.345, "spectrum/saturation_step": 321.0}}
    lines = made("frossl-fig3", {"simclr-seed0": values})
    assert row(lines, "row") == ["l1 / l14", "entropy", "effective rank", "l14 saturates at step", "online top-1"]
    assert row(lines, "simclr") == ["12.35", "–", "–", "321", "–"]


def test_imagenet_s_paper_has_final_numbers_only(made):
    lines = made(
        "frossl-fig4", {"frossl-seed0": {1: {"online/top1": 20.0}, "linear/top1": 53.0}}, scale=Scale(stop=100)
    )
    texts = dict(zip(row(lines, "row"), row(lines, "frossl"), strict=True))
    assert texts["top-1, epoch 1"] == "20.0"
    assert "top-1, epoch 100" not in texts  # beyond the figure
    assert [text for title, text in texts.items() if title.startswith("linear")] == ["53.0 / 53.4", "– / 77.7"]


def test_a_table_cut_short_shows_its_last_epoch_of_every_metric(made):
    lines = made("frossl-fig4", {}, scale=Scale(stop=12))
    epochs = [f"epoch {epoch}" for epoch in (1, 3, 10, 12)]
    assert row(lines, "row") == [f"{metric}, {epoch}" for metric in ("top-1", "top-5") for epoch in epochs]
    (left_out,) = (line for line in lines if line.startswith("* Left out"))
    assert left_out.endswith("top-5, epoch 20; top-5, epoch 30; linear probe top-1; linear probe top-5.")


def test_a_table_of_which_no_column_is_reached_keeps_them(made):
    lines = made("frossl-table2", {}, scale=Scale(stop=1), rows=["frossl"], datasets=["cifar10"])
    assert row(lines, "frossl") == ["– / 92.8"]


@pytest.mark.parametrize(
    ("values", "ours"),
    [
        ({"frossl-seed0": online(e1=30.0), "barlow_twins-seed0": online(e1=33.25)}, "-3.2"),
        ({"frossl-seed0": online(e1=30.0)}, "–"),
        (
            {"frossl-seed0": online(e1=30.0), "frossl-seed1": online(e1=40.0), "barlow_twins-seed0": online(e1=20.0)},
            "+15.0",
        ),
    ],
)
def test_a_difference_that_the_paper_prints_stands_below(made, values, ours):
    lines = made("frossl-fig4", values, seeds=[0, 1])
    assert f"* FroSSL - Barlow Twins, top-1, epoch 1: ours {ours} / paper's +12.2." in lines


def test_a_difference_needs_both_rows(made):
    assert not any("Barlow Twins, top-1" in line for line in made("frossl-fig4", {}, rows=["frossl"]))

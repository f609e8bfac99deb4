"""What is written beside the page."""

import csv
import io

import numpy as np
import pytest
import yaml
from made_up_runs import metrics, write_run
from PIL import Image

from solo_frossl.compare import compare_runs, read_run, write_comparison
from solo_frossl.compare.files import markdown, markdown_table, table_csv, tidy_csv
from solo_frossl.compare.tables import Cell, Table

TABLE = Table(
    name="a",
    caption="A caption.",
    columns=("method", "ours", "paper"),
    rows=(
        (Cell("a|b_c"), Cell("1.2 ± 0.1", 1.234, 0.1, best=True), Cell("2.0", 2.0, note="epoch 3")),
        (Cell("d"), Cell("–"), Cell("> 5")),
    ),
    spans=(("", 1), ("epoch 3", 2)),
    notes=("A note.",),
)
BOUNDS = Table(
    name="bounds",
    caption="Bounds.",
    columns=("method", "epochs"),
    rows=((Cell("a"), Cell("≤ 1.0", 1.04, sign="≤")), (Cell("b"), Cell("> 5", 5, sign=">")), (Cell("c"), Cell("–"))),
)


def compared(folder):
    folders = sorted(path.parent for path in folder.glob("*/config.yaml"))
    return compare_runs([read_run(f, yaml.safe_load((f / "config.yaml").read_text())) for f in folders])


@pytest.mark.slow
def test_everything_is_written(runs, tmp_path):
    out = tmp_path / "deep" / "out"
    written = write_comparison(compared(runs), out)
    names = {str(path.relative_to(out)) for path in written}
    assert names == {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert {
        "index.html",
        "comparison.md",
        "comparison.csv",
        "tables/summary.csv",
        "tables/reach-online-top1.csv",
    } <= names
    for figure in ("accuracy", "rank", "eigenvalues-embeddings", "eigenvalues-features", "loss"):
        assert {f"figures/{figure}.png", f"figures/{figure}.pdf"} <= names
    for path in written:
        assert path.stat().st_size > 0


@pytest.mark.slow
def test_figures_are_wide_enough_for_print_and_the_pdf_keeps_its_text(runs, tmp_path):
    write_comparison(compared(runs), tmp_path)
    with Image.open(tmp_path / "figures" / "accuracy.png") as image:
        assert image.size[0] == 1650  # 5.5 inches at 300 dots
        assert len(np.unique(np.asarray(image.convert("L")))) > 50
    assert b"/FontFile2" in (tmp_path / "figures" / "accuracy.pdf").read_bytes()


@pytest.mark.slow
def test_several_datasets_have_files_of_their_own(tmp_path):
    write_run(tmp_path / "runs" / "a", dataset="cifar10", epochs=2)
    write_run(tmp_path / "runs" / "b", dataset="stl10", epochs=2)
    write_comparison(compared(tmp_path / "runs"), tmp_path / "out")
    for name in ("figures/cifar-10-accuracy.png", "figures/stl-10-accuracy.png", "tables/cifar-10-summary.csv"):
        assert (tmp_path / "out" / name).is_file()


def test_the_csv_has_every_number_of_every_run_with_epochs_from_1(runs):
    rows = list(csv.DictReader(io.StringIO(tidy_csv(compared(runs)))))
    assert list(rows[0]) == ["run", "method", "seed", "dataset", "epoch", "metric", "value"]
    expected = sum(len(row) for seed in (0, 1) for row in metrics("frossl", seed, 12).values())
    assert sum(row["method"] == "FroSSL" for row in rows) == expected
    found = {(r["run"], r["epoch"], r["metric"]): float(r["value"]) for r in rows}
    assert found["frossl-seed1", "1", "knn/top1"] == metrics("frossl", 1, 12, 1.3)[0]["knn/top1"]


def test_a_table_as_csv_has_unrounded_numbers():
    assert table_csv(TABLE) == (
        "method,epoch 3: ours,epoch 3: ours: standard deviation,epoch 3: paper,epoch 3: paper: note\n"
        "a|b_c,1.234,0.1,2.0,epoch 3\n"
        "d,–,,> 5,\n"
    )


def test_a_table_as_csv_keeps_the_signs_of_bounds():
    assert table_csv(BOUNDS) == "method,epochs\na,≤ 1.04\nb,> 5\nc,–\n"


def test_remarks_stand_at_the_top_of_the_markdown(runs):
    comparison = compared(runs)
    said = compare_runs(comparison.runs, remarks=["Table 3 of a paper.", "Trained on_another dataset."])
    assert markdown(said).splitlines()[2:7] == [
        comparison.lead,
        "",
        "**Table 3 of a paper.**",
        "",
        "**Trained on\\_another dataset.**",
    ]


def test_the_markdown_has_every_table(runs):
    comparison = compared(runs)
    text = markdown(comparison)
    for table in comparison.parts[0].tables:
        assert f"**{table.caption}**" in text
    lines = text.splitlines()
    assert sum(line.startswith("| ---") for line in lines) == len(comparison.parts[0].tables)
    blocks = [block.splitlines() for block in text.split("\n\n") if block.startswith("| ")]
    for block in blocks:
        assert len({line.replace("\\|", "").count("|") for line in block}) == 1


def test_markdown_is_escaped_and_marks_the_best():
    assert list(markdown_table(TABLE)) == [
        "**A caption.**",
        "",
        "| method | epoch 3: ours | epoch 3: paper |",
        "| --- | ---: | ---: |",
        "| a\\|b\\_c | **1.2 ± 0.1** | 2.0 (epoch 3) |",
        "| d | – | > 5 |",
        "",
        "- A note.",
    ]

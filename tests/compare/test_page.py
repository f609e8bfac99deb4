"""The page: complete, whole in one file, and with the numbers of the runs."""

import csv
import io
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from statistics import fmean

import pytest
import yaml
from made_up_runs import config, metrics, write_csv, write_run, write_spectra

from solo_frossl.compare import compare_runs, read_run
from solo_frossl.compare.charts import MOST_EPOCHS, MOST_STEPS, chart_data, spectrum_over_steps, thin
from solo_frossl.compare.files import tidy_csv
from solo_frossl.compare.page import render_page
from solo_frossl.compare.read import Run
from solo_frossl.run_files import read_spectra

SECTIONS = ["summary", "accuracy", "convergence", "throughput", "spectrum", "loss", "configuration", "runs"]


class Page(HTMLParser):
    """What a page holds.

    Attributes:
        ids: of all elements.
        tags: attributes of all elements, by tag.
        tables: by name: rows of (text, data-value).
        scripts: text of each script, by id.
        text: all text outside of scripts and styles.
    """

    def __init__(self, html):
        super().__init__()
        self.ids, self.tags, self.tables, self.scripts, self.text = [], {}, {}, {}, []
        self._script = self._table = None
        self.open = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.setdefault(tag, []).append(attributes)
        self.ids += [attributes["id"]] if "id" in attributes else []
        if tag in ("script", "style"):
            self._script = attributes.get("id", tag)
        elif tag == "table" and "data-name" in attributes:
            self._table = self.tables[attributes["data-name"]] = []
        elif tag == "tr" and self._table is not None:
            self._table.append([])
        elif tag in ("th", "td") and self._table is not None:
            self._table[-1].append(["", attributes.get("data-value")])

    def handle_endtag(self, tag):
        if tag in ("script", "style"):
            self._script = None
        elif tag == "table":
            self._table = None

    def handle_data(self, data):
        if self._script is not None:
            self.scripts[self._script] = self.scripts.get(self._script, "") + data
            return
        self.text.append(data)
        if self._table and self._table[-1]:
            self._table[-1][-1][0] += data.strip()

    @property
    def data(self):
        return json.loads(self.scripts["data"])


def compared(*folders, **options):
    runs = [read_run(folder, yaml.safe_load((folder / "config.yaml").read_text())) for folder in folders]
    return compare_runs(runs, **options)


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return compared(
        write_run(folder / "frossl-seed0", "frossl", 0, speed=1.4),
        write_run(folder / "frossl-seed1", "frossl", 1, speed=1.3),
        write_run(folder / "barlow-seed0", "barlow_twins", 0, speed=0.8),
        write_run(folder / "simclr-seed0", "simclr", 0, epochs=9, planned=12, spectra=False),
    )


@pytest.fixture(scope="module")
def html(comparison):
    return render_page(comparison)


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


def test_every_section_is_there_and_can_be_jumped_to(page):
    links = {a["href"] for a in page.tags["a"]}
    for section in SECTIONS:
        assert f"stl-10-{section}" in page.ids
        assert f"#stl-10-{section}" in links
    assert links <= {f"#{name}" for name in page.ids}


def test_every_id_is_there_once(page):
    assert len(page.ids) == len(set(page.ids))


def test_nothing_is_loaded_from_elsewhere(page, html):
    loading = ("src", "srcset", "data", "poster", "action", "formaction", "background")
    for tag, elements in page.tags.items():
        for attributes in elements:
            assert not [name for name in loading if attributes.get(name)], (tag, attributes)
            assert tag in ("a", "svg") or "href" not in attributes
    assert not {"link", "iframe", "object", "embed", "img", "base"} & set(page.tags)
    assert not re.search(r"@import|url\(", page.scripts["style"])
    policy = next(meta["content"] for meta in page.tags["meta"] if meta.get("http-equiv"))
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy
    assert html.count("<script") == html.count("</script>") == 3 + html.split("<script>")[1].count("<script")


def test_the_table_at_chosen_epochs_has_the_means_of_the_csv(comparison, page):
    rows = list(csv.DictReader(io.StringIO(tidy_csv(comparison))))
    (head, titles, *body) = page.tables["accuracy-online-top1"]
    assert [text for text, _ in head] == ["", "epoch 3", "epoch 10", "epoch 12"]
    assert [text for text, _ in titles] == ["method", *["ours", "paper", "difference"] * 2, "ours"]
    for method, *cells in body:
        for column, epoch in ((0, 3), (3, 10), (6, 12)):
            asked = (method[0], str(epoch), "online/top1")
            values = [float(r["value"]) for r in rows if (r["method"], r["epoch"], r["metric"]) == asked]
            shown = cells[column][1]
            assert (shown is None) == (not values)
            assert not values or float(shown) == pytest.approx(fmean(values), rel=1e-12)


def test_the_papers_values_stand_there(page):
    frossl = next(row for row in page.tables["accuracy-online-top1"] if row[0][0] == "FroSSL")
    assert [frossl[2][1], frossl[5][1]] == ["44.8", "56.9"]
    assert float(frossl[3][1]) == pytest.approx(float(frossl[1][1]) - 44.8)


def test_the_curves_have_the_values_of_the_csv(comparison, page):
    rows = list(csv.DictReader(io.StringIO(tidy_csv(comparison))))
    labels = [method["label"] for method in page.data["methods"]]
    assert labels == ["FroSSL", "Barlow Twins", "SimCLR"]
    groups = {labels[group["method"]]: group for group in page.data["datasets"]["STL-10"]}
    for metric in ("online/top1", "knn/top1", "train/loss", "images_per_second"):
        for label, group in groups.items():
            curve = group["curves"][metric]
            for i, epoch in enumerate(curve["epochs"]):
                asked = (label, str(epoch), metric)
                values = [float(r["value"]) for r in rows if (r["method"], r["epoch"], r["metric"]) == asked]
                assert curve["mean"][i] == pytest.approx(fmean(values), rel=1e-4)
                if label == "FroSSL":
                    assert curve["low"][i] == pytest.approx(min(values), rel=1e-4)
                    assert curve["high"][i] == pytest.approx(max(values), rel=1e-4)
                    assert curve["count"][i] == 2
            assert ("low" in curve) == (label == "FroSSL")


def test_curves_know_the_device_seconds_so_far(page):
    barlow = next(g for g in page.data["datasets"]["STL-10"] if g["method"] == 1)
    assert barlow["curves"]["online/top1"]["seconds"] == [80.0 * epoch for epoch in range(1, 13)]


def test_eigenvalues_are_those_of_the_file_and_without_one_those_of_the_table(page):
    frossl, barlow, simclr = page.data["datasets"]["STL-10"]
    assert frossl["spectra"]["embeddings"]["step"] == list(range(0, 480, 5))
    assert len(barlow["spectra"]["features"]["values"]) == 14
    assert simclr["spectra"]["embeddings"]["step"] is None
    assert simclr["spectra"]["embeddings"]["epoch"] == list(range(1, 10))
    expected = metrics("simclr", 0, 9)[4]["spectrum/embeddings/l2"]
    assert simclr["spectra"]["embeddings"]["values"][1][4] == pytest.approx(expected, rel=1e-4)
    assert "features" not in simclr["spectra"]
    assert list(frossl["profiles"]["features"]["after"]) == ["start", "3", "10", "12"]


def test_eigenvalues_are_means_over_the_seeds_that_have_the_step(tmp_path):
    folders = [write_run(tmp_path / str(seed), "frossl", seed, epochs=2, planned=9, spectra=False) for seed in range(3)]
    write_spectra(folders[0] / "spectrum.bin", steps=80, every=10, steps_an_epoch=40, speed=1.0)
    write_spectra(folders[1] / "spectrum.bin", steps=35, every=10, steps_an_epoch=40, speed=9.0)
    alone, other = (read_run(folder, config("frossl", 0, 9)).spectrum.first["features"] for folder in folders[:2])
    (group,) = compared(*folders).groups
    drawn = spectrum_over_steps(group, "features")
    assert drawn["step"] == list(range(0, 80, 10))
    assert drawn["values"][4] == pytest.approx([*((alone[:4] + other)[:, 4] / 2), *alone[4:, 4]], rel=1e-4)


def test_numbers_of_the_spectrum_are_known_by_step_with_their_band(tmp_path):
    folders = [write_run(tmp_path / str(seed), "frossl", seed, epochs=2, spectra=False) for seed in range(2)]
    write_spectra(folders[0] / "spectrum.bin", steps=80, every=10, steps_an_epoch=40, speed=1.0)
    write_spectra(folders[1] / "spectrum.bin", steps=35, every=10, steps_an_epoch=40, speed=9.0)
    (group,) = chart_data(compared(*folders).groups, [], {"STL-10": [2]})["datasets"]["STL-10"]
    slow, fast = (read_spectra(folder / "spectrum.bin").embeddings.astype(float) for folder in folders)
    entropy = group["stepped"]["spectrum/embeddings/entropy"]
    expected = [-sum(p * math.log(p) for p in row / row.sum()) for row in slow]
    assert entropy["steps"] == list(range(0, 80, 10))
    assert entropy["mean"][4:] == pytest.approx(expected[4:], rel=1e-5)
    assert entropy["low"][:4] == pytest.approx(expected[:4], rel=1e-5)
    assert entropy["count"] == [2] * 4 + [1] * 4
    condition = group["stepped"]["spectrum/embeddings/condition_number"]
    pair = [slow[2, 0] / slow[2, 13], fast[2, 0] / fast[2, 13]]
    assert [condition[name][2] for name in ("low", "mean", "high")] == pytest.approx(
        [pair[1], fmean(pair), pair[0]], rel=1e-5
    )


def test_every_figure_and_table_can_be_reached_and_is_named(page):
    assert all(attributes.get("aria-label") for attributes in page.tags["div"] if attributes.get("role") == "region")
    assert len(page.tags["caption"]) == len(page.tables)
    labelled = [a for a in page.tags["button"] if a.get("class") == "chip"]
    assert [a["aria-pressed"] for a in labelled] == ["true"] * 3
    assert all(a["type"] == "button" for a in page.tags["button"])
    assert not [a for elements in page.tags.values() for a in elements if "onclick" in a]


def test_a_run_that_ended_before_its_first_epoch_is_named_and_is_no_method(tmp_path):
    good, odd = (Run(tmp_path / name, config("frossl", 0, 3) | {"name": name}) for name in ("good", "odd"))
    good = replace(good, metrics={1: {"online/top1": 20.0}})
    odd = replace(odd, config=config("frossl", 0, 3, log_variance=True))
    for state in ("failed", "killed", "stopped"):
        comparison = compare_runs([replace(odd, state=state), good])
        assert [run.name for run in comparison.runs] == ["good"]
        assert [group.label for group in comparison.groups] == ["FroSSL"]
        assert comparison.remarks == (f"Left out, as no epoch of theirs was done: odd ({state}).",)
    both = compare_runs([replace(odd, state="running"), good])
    assert (len(both.runs), both.remarks) == (2, ())
    assert len(compare_runs([replace(odd, state="failed")]).runs) == 1


def test_remarks_stand_above_everything(tmp_path):
    run = read_run(write_run(tmp_path / "a"), config("frossl", 0, 12))
    text = " ".join(Page(render_page(compare_runs([run], remarks=["Trained on <other> images."]))).text)
    assert text.index("Trained on <other> images.") < text.index("Summary")


def test_terms_that_lie_far_apart_are_the_same_for_page_and_figures(tmp_path):
    terms = {"near": (1.0, 40.0), "far": (1.0, 60.0), "signed": (-1.0, 1000.0)}
    folders = [write_run(tmp_path / name, name, epochs=2, spectra=False) for name in terms]
    for folder, (loss, term) in zip(folders, terms.values(), strict=True):
        write_csv(folder / "metrics.csv", {e: {"train/loss": loss, "train/term": term} for e in range(2)})
    data = chart_data(compared(*folders).groups, [], {"STL-10": [2]})
    far = {data["methods"][group["method"]]["label"]: group["farApart"] for group in data["datasets"]["STL-10"]}
    assert far == {"near": False, "far": True, "signed": False}


def test_highlights_name_no_first_that_is_not_sure(tmp_path):
    rows = {"frossl": [30.0, 35.0], "simclr": [10.0, 40.0], "byol": [10.0, 20.0]}
    for name, values in rows.items():
        folder = write_run(tmp_path / name, name, epochs=2, spectra=False)
        write_csv(folder / "metrics.csv", {e: {"online/top1": value} for e, value in enumerate(values)})
    folders = [tmp_path / name for name in rows]
    (part,) = compared(*folders, reach=[25.0]).parts
    assert [h.title for h in part.highlights] == ["Best online top-1"]  # FroSSL was at 25 before it was measured
    (part,) = compared(*folders, reach=[25.0, 32.0]).parts
    assert part.highlights[1].label == "FroSSL"
    assert part.highlights[1].title == "First at 32 % online top-1"


def test_names_cannot_break_the_page(tmp_path):
    folder = write_run(tmp_path / "<b>&run", "my.module.<script>alert(1)</script>")
    page = Page(render_page(compared(folder)))
    assert "<b>&run" in "".join(page.text)
    assert "b" not in page.tags
    assert page.data["methods"][0]["label"].startswith("<script>alert")


def test_runs_without_anything_make_a_page_that_says_so(tmp_path):
    for name in ("a", "b"):
        write_run(tmp_path / name, name, spectra=False)
        (tmp_path / name / "metrics.csv").unlink()
    text = " ".join(Page(render_page(compared(tmp_path / "a", tmp_path / "b"))).text)
    for sentence in (
        "No accuracy has been measured",
        "none has been measured yet",
        "No run has measured its spectrum yet",
    ):
        assert sentence in text
    assert "no epoch is done yet" in text


def test_runs_of_several_kinds_make_one_page(tmp_path):
    unlabelled = write_run(tmp_path / "unlabelled", "vicreg", spectra=False)
    rows = {epoch: {"train/loss": -1.0, "images_per_second": 5.0} for epoch in range(3)}
    write_csv(unlabelled / "metrics.csv", rows)
    target = write_run(tmp_path / "target", "byol", epochs=3)
    rows = metrics("byol", 0, 3)
    write_csv(
        target / "metrics.csv",
        {e: row | {"online/target_top1": 12.5, "knn/target_top1": 13.5} for e, row in rows.items()},
    )
    begun = write_run(tmp_path / "begun", "dino")
    (begun / "metrics.csv").unlink()
    other = write_run(tmp_path / "other", "frossl", dataset="cifar10", epochs=1)
    page = Page(render_page(compared(unlabelled, target, begun, other)))
    assert list(page.data["datasets"]) == ["CIFAR-10", "STL-10"]
    assert {f"{dataset}-{section}" for dataset in ("cifar-10", "stl-10") for section in SECTIONS} <= set(page.ids)
    options = {a["value"] for a in page.tags["option"]}
    assert {"online/target_top1", "knn/target_top1"} <= options
    assert {row[0][0] for row in page.tables["runs"]} >= {"unlabelled", "target", "begun"}


def test_runs_that_still_train_are_counted(tmp_path):
    folder = write_run(tmp_path / "a")
    run = read_run(folder, config("frossl", 0, 12))
    assert "still" not in compare_runs([run]).lead
    running = compare_runs([replace(run, state="running")])
    assert running.lead == "1 run, 12 epochs at most. 1 of them still trains."


def test_chosen_epochs_and_accuracies_can_be_given(tmp_path):
    folders = [write_run(tmp_path / name, name) for name in ("frossl", "simclr")]
    (part,) = compared(*folders, epochs=[7, 2], reach=[33.0]).parts
    assert part.epochs == [2, 7]
    assert part.convergence[0].targets == [33.0]
    assert [epoch for epoch, _ in part.convergence[0].rivals] == [2, 7]


def test_long_runs_are_thinned_and_keep_both_ends(tmp_path):
    rows = {epoch: {"online/top1": float(epoch % 90)} for epoch in range(1234)}
    folder = write_run(tmp_path / "long", "frossl", epochs=1, planned=1234)
    write_csv(folder / "metrics.csv", rows)
    comparison = compared(folder)
    curve = Page(render_page(comparison)).data["datasets"]["STL-10"][0]["curves"]["online/top1"]
    assert len(curve["epochs"]) <= MOST_EPOCHS
    assert (curve["epochs"][0], curve["epochs"][-1]) == (1, 1234)
    assert tidy_csv(comparison).count("online/top1") == 1234


@pytest.mark.parametrize("count", [1, 2, MOST_STEPS, MOST_STEPS + 1, 5000])
def test_thinned_steps_keep_both_ends_and_are_denser_at_the_start(count):
    rows = thin(count, MOST_STEPS)
    assert len(rows) <= MOST_STEPS
    assert (rows[0], rows[-1]) == (0, count - 1)
    assert (rows[1:] > rows[:-1]).all()
    if count == 5000:
        assert rows[20] - rows[0] < rows[-1] - rows[-21]

"""Layers, merging, places of values, and what is refused in a YAML file."""

import math
from pathlib import Path

import pytest

from solo_frossl.cli.config import compose, find_layers, load_yaml, merge, read_layer
from solo_frossl.cli.errors import ConfigError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of configurations that is the current one; ``write(path, text)`` adds a file."""
    monkeypatch.chdir(tmp_path)

    def write(path: str, text: str) -> Path:
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        return file

    return write


def write_layers(write):
    write("configs/methods/frossl.yaml", "method: frossl\nmodel:\n  lr: 0.3\n  weight: 1.0\n  sizes: [1, 2]\n")
    write("configs/methods/byol.yaml", "method: byol\n")
    write("configs/stl10/dataset.yaml", "dataset: stl10\nmodel:\n  sizes: [3]\ntrainer:\n  max_epochs: 500\n")


class TestLayers:
    def test_method_then_dataset_then_pair(self, folder):
        write_layers(folder)
        folder("configs/stl10/frossl.yaml", "model:\n  weight: 1.4\n")
        composed = compose(["configs/stl10/frossl.yaml"])
        assert [layer.file for layer in composed.layers] == [
            Path("configs/methods/frossl.yaml"),
            Path("configs/stl10/dataset.yaml"),
            Path("configs/stl10/frossl.yaml"),
        ]
        assert composed.values == {
            "method": "frossl",
            "dataset": "stl10",
            "model": {"lr": 0.3, "weight": 1.4, "sizes": [3]},
            "trainer": {"max_epochs": 500},
        }

    def test_the_pair_file_need_not_exist(self, folder):
        write_layers(folder)
        assert compose(["configs/stl10/byol.yaml"]).values["method"] == "byol"

    def test_a_file_of_several_methods_stands_below_the_pair_s_own(self, folder):
        write_layers(folder)
        folder("configs/stl10/byol+frossl.yaml", "model:\n  weight: 1.2\n  lr: 0.1\n")
        folder("configs/stl10/byol+dino.yaml", "model:\n  weight: 9.0\n")
        folder("configs/stl10/frossl.yaml", "model:\n  weight: 1.4\n")
        composed = compose(["configs/stl10/frossl.yaml"])
        assert [layer.file.name for layer in composed.layers[2:]] == ["byol+frossl.yaml", "frossl.yaml"]
        assert composed.values["model"] == {"lr": 0.1, "weight": 1.4, "sizes": [3]}
        assert composed.where(("model", "lr")) == f"{Path('configs/stl10/byol+frossl.yaml')}, line 3"
        assert compose(["configs/stl10/byol.yaml"]).get("model.weight") == 1.2

    def test_a_file_of_a_layered_folder_without_a_method_is_the_file_alone(self, folder):
        write_layers(folder)
        folder("configs/stl10/notes.yaml", "name: a\n")
        assert compose(["configs/stl10/notes.yaml"]).values == {"name": "a"}
        assert compose(["configs/stl10/dataset.yaml"]).values["dataset"] == "stl10"
        assert compose(["configs/methods/frossl.yaml"]).values["method"] == "frossl"

    def test_later_configurations_win(self, folder):
        write_layers(folder)
        folder("mine.yaml", "trainer:\n  max_epochs: 3\n")
        values = compose(["configs/stl10/frossl.yaml", "mine.yaml"]).values
        assert values["trainer"] == {"max_epochs": 3}
        assert values["model"]["weight"] == 1.0

    def test_what_is_missing_here_comes_with_the_package(self, folder):
        assert compose(["configs/digits/frossl.yaml"]).values["dataset"] == "digits"
        assert find_layers("digits/frossl.yaml") == find_layers("configs/digits/frossl.yaml")

    def test_missing_file_names_the_nearest(self, folder):
        write_layers(folder)
        with pytest.raises(ConfigError, match=r"configs/stl10/frosl\.yaml.*nearest are configs/stl10/frossl\.yaml"):
            find_layers("configs/stl10/frosl.yaml")

    def test_missing_method_names_the_ones_of_that_dataset(self, folder):
        write_layers(folder)
        with pytest.raises(ConfigError, match=r"configs/stl10/frossl\.yaml"):
            find_layers("configs/stl10/fossl.yaml")

    def test_a_folder_is_no_file(self, folder):
        write_layers(folder)
        with pytest.raises(ConfigError, match="no such file"):
            find_layers("configs/stl10")


class TestMerge:
    def test_inputs_stay_as_they_are(self):
        base, top = {"a": {"x": 1}}, {"a": {"y": 2}}
        assert merge(base, top) == {"a": {"x": 1, "y": 2}}
        assert (base, top) == ({"a": {"x": 1}}, {"a": {"y": 2}})

    def test_a_mapping_and_a_plain_value_replace_each_other(self):
        assert merge({"stem": "cifar"}, {"stem": {"stride": 1}}) == {"stem": {"stride": 1}}
        assert merge({"stem": {"stride": 1}}, {"stem": "cifar"}) == {"stem": "cifar"}


class TestPlaces:
    def test_the_winning_file_and_line(self, folder):
        write_layers(folder)
        folder("configs/stl10/frossl.yaml", "# a comment\nmodel:\n  weight: 1.4\n")
        composed = compose(["configs/stl10/frossl.yaml"])
        assert composed.where(("model", "weight")) == f"{Path('configs/stl10/frossl.yaml')}, line 3"
        assert composed.where(("model", "lr")) == f"{Path('configs/methods/frossl.yaml')}, line 3"
        assert composed.where(("model", "sizes", 0)) == f"{Path('configs/stl10/dataset.yaml')}, line 3"
        assert composed.where(("model", "typo")) is None

    def test_items_of_a_list_have_their_lines(self, folder):
        file = folder("a.yaml", "data:\n  views:\n  - recipe: weak\n  - recipe: weak\n    size: 96\n")
        assert read_layer(file).lines["data", "views", 1, "size"] == 5

    def test_values_by_dotted_key(self, folder):
        write_layers(folder)
        composed = compose(["configs/stl10/frossl.yaml"])
        assert composed.get("model.lr") == 0.3
        assert composed.get("model.lr.deeper") is None
        assert composed.get("nothing.here") is None

    def test_anchors_and_merge_keys(self, folder):
        file = folder("a.yaml", "x: &x {lr: 1, name: a}\ny:\n  <<: *x\n  lr: 2\n")
        layer = read_layer(file)
        assert layer.values["y"] == {"lr": 2, "name": "a"}
        assert layer.lines["y", "name"] == 1


class TestPlainWords:
    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("1e-4", 1e-4),
            ("1E5", 1e5),
            ("-1.5e3", -1500.0),
            (".5", 0.5),
            ("3.", 3.0),
            ("-.inf", -math.inf),
            ("12", 12),
            ("-3", -3),
            ("0", 0),
            ("1_000", 1000),
            ("true", True),
            ("False", False),
            ("null", None),
            ("~", None),
            ("", None),
        ],
    )
    def test_numbers_truth_and_nothing(self, text, value):
        assert load_yaml(text) == value
        assert type(load_yaml(text)) is type(value)

    @pytest.mark.parametrize("text", ["on", "off", "yes", "No", "1:30", "2026-01-31", "1e", "e5", "1.2.3", "007"])
    def test_everything_else_is_text(self, text):
        assert load_yaml(text) == text

    def test_quotes_make_text(self):
        assert load_yaml("['1e-4', \"true\"]") == ["1e-4", "true"]


class TestRefused:
    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("model:\n  lr: 1\n  lr: 2\n", r"line 3: lr stands twice, first in line 2"),
            ("a: [{b: 1, b: 2}]\n", r"line 1: b stands twice"),
            ("model.lr: 1\n", r"line 1: write model\.lr as nested keys"),
            ("model:\n  1: 2\n", r"line 2: '1' cannot be a key"),
            ("- a\n", r"line 1: must hold"),
            ("just text\n", r"line 1: must hold"),
            ("a: 1\n b: 2\n", r"line 2, column 3"),
            ("a: [1, 2\nb: 3\n", r"line 2, column"),
            ("a:\n\t- 1\n", r"'\\t'.*line 2, column 1"),
            ("a: *nothing\n", r"undefined alias.*line 1, column 4"),
            ("a: !!python/object:os.system 1\n", r"could not determine a constructor.*line 1"),
            ("a: 1\n---\nb: 2\n", r"line 2"),
        ],
    )
    def test_names_the_file_and_the_line(self, folder, text, message):
        file = folder("bad.yaml", text)
        with pytest.raises(ConfigError, match=rf"(?s)bad\.yaml.*{message}"):
            read_layer(file)

    def test_not_text(self, folder):
        file = folder("bad.yaml", "")
        file.write_bytes(b"\xff\xfe\x00")
        with pytest.raises(ConfigError, match=r"bad\.yaml cannot be read"):
            read_layer(file)

    @pytest.mark.parametrize("text", ["", "# only a comment\n"])
    def test_an_empty_file_gives_nothing(self, folder, text):
        assert read_layer(folder("empty.yaml", text)).values == {}

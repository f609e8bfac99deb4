"""The index: what it may hold, what is refused, and that it comes back as it was written."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from zoo_server import make_entry

import solo_frossl
from solo_frossl.zoo import Entry, ZooError, read_index, remove_entry, shipped_index, write_index
from solo_frossl.zoo.index import changing

CONTENT = b"weights" * 100
PLACES = ("file:weights/frossl-digits.safetensors", "https://host/a.safetensors", "hf:me/zoo/a.safetensors@v1")
ROOT = Path(solo_frossl.__file__).parent.parent


@pytest.fixture
def index(tmp_path):
    path = tmp_path / "zoo" / "index.yaml"
    write_index(path, [make_entry(CONTENT, *PLACES), make_entry(CONTENT, *PLACES, name="byol-digits")])
    return path


def test_what_is_written_comes_back(index):
    read = read_index(index)
    assert list(read.entries) == ["frossl-digits", "byol-digits"]
    entry = read.entries["frossl-digits"]
    assert entry == make_entry(CONTENT, *PLACES)
    assert entry.folder == index.parent
    assert entry.mean == (0.5, 0.5, 0.5)
    assert entry.config["model"]["optimizer"]["lr"] == 1e-5
    before = index.read_bytes()
    write_index(index, read.entries.values())
    assert index.read_bytes() == before
    assert os.listdir(index.parent) == ["index.yaml"]


def test_text_that_looks_like_something_else_comes_back(tmp_path):
    entry = make_entry(
        CONTENT,
        *PLACES,
        method="no",
        dataset="1e-4",
        licence="2026-01-01",
        measured_by="a: b # c 'd' \"e\"\n  é",
        config={"a": None, "b": [True, "true", {"c": []}], "d": {}, "e": 1e-300, "f": "", "g": "x" * 500},
    )
    write_index(tmp_path / "index.yaml", [entry])
    assert read_index(tmp_path / "index.yaml").entries["frossl-digits"] == entry


def test_the_shipped_index_reads_and_explains_every_key():
    shipped = read_index()
    assert shipped.path == shipped_index() == ROOT / "zoo" / "index.yaml"
    comment = "".join(line for line in shipped.path.read_text().splitlines() if line.startswith("#"))
    (content,) = yaml.safe_load(shipped.path.read_text()).values()
    assert [key for entry in content for key in entry if key not in comment] == []


def test_an_index_explains_every_key(tmp_path):
    write_index(tmp_path / "index.yaml", [])
    text = (tmp_path / "index.yaml").read_text()
    assert [key for key in make_entry(CONTENT, *PLACES).to_dict() if f" {key} " not in text.replace(",", " ")] == []


def test_an_encoder_stands_where_it_is_the_target(index):
    assert read_index(index).entries["frossl-digits"].encoder == "backbone"
    assert "encoder:" not in index.read_text()
    target = make_entry(CONTENT, *PLACES, encoder="target")
    write_index(index, [target])
    assert index.read_text().count("encoder: target") == 1
    assert read_index(index).entries["frossl-digits"] == target
    assert [*target.to_dict()][:3] == ["name", "method", "encoder"]
    write_index(index, [replace(target, encoder="backbone")])
    assert read_index(index).entries["frossl-digits"] != target


def test_an_entry_is_made_of_its_keys():
    entry = make_entry(CONTENT, *PLACES)
    assert Entry.from_dict(entry.to_dict()) == entry


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        *(
            ("name", name, "must be a plain name")
            for name in ("../x", "a/b", ".x", "", "a..b", "a\\b", "x" * 101, 3, "é")
        ),
        ("method", "", "must be text"),
        ("dataset", None, "must be text"),
        ("encoder", "teacher", "is 'teacher', must be backbone or target"),
        ("encoder", None, "must be backbone or target"),
        ("licence", 2026, "must be text"),
        ("architecture", "resnet18", "must be a mapping"),
        ("architecture", {"width": 1.0}, "has no backbone"),
        (
            "architecture",
            {"backbone": "resnet18", "channels": 1},
            "mean and std: 3 and 3 numbers, and architecture.channels is 1",
        ),
        ("num_features", 0, "whole number of 1 or more"),
        ("epochs", -1, "whole number of 0 or more"),
        ("epochs", True, "whole number of 0 or more"),
        ("seed", "0", "whole number"),
        ("precision", "bfloat16", "must be float16 or float32"),
        ("mean", [0.5, "0.5", 0.5], "list of numbers"),
        ("mean", 0.5, "list of numbers"),
        ("mean", [float("nan")] * 3, "list of numbers"),
        ("std", [0.5, 0.0, 0.5], "must be above 0"),
        ("std", [0.5, 0.5], "mean and std: 3 and 2 numbers, and architecture.channels is 3"),
        ("config", [], "must be a mapping"),
        ("accuracy", {"linear": 3.0}, "linear is not a known key"),
        ("accuracy", {"linear_top1": 101.0}, "from 0 to 100"),
        ("accuracy", {"linear_top1": float("nan")}, "from 0 to 100"),
        ("file", "../x.safetensors", "must be 'frossl-digits-"),
        ("file", "frossl-digits-00000000.safetensors", "must be 'frossl-digits-"),
        ("size", 0, "whole number of 1 or more"),
        ("sha256", "0" * 63, "64 lower-case hexadecimal digits"),
        ("sha256", "A" * 64, "64 lower-case hexadecimal digits"),
        ("places", [], "must be a list of places"),
        ("places", "https://host/a", "must be a list of places"),
        ("places", ["file:../a"], "without '..'"),
        ("epoch", 3, "is not a known key; did you mean epochs?"),
    ],
)
def test_a_fault_is_named_with_file_entry_and_key(index, key, value, reason):
    content = yaml.safe_load(index.read_text())
    content["checkpoints"][0][key] = value
    index.write_text(yaml.safe_dump(content))
    name = value if key == "name" and value is not None else "frossl-digits"
    with pytest.raises(ZooError) as caught:
        read_index(index)
    assert str(caught.value).startswith(f"{index}: entry {name}: ")
    assert key in str(caught.value)
    assert reason in str(caught.value)


def test_missing_keys_and_entries_of_one_name(index):
    content = yaml.safe_load(index.read_text())
    del content["checkpoints"][1]["sha256"]
    index.write_text(yaml.safe_dump(content))
    with pytest.raises(ZooError, match="entry byol-digits: sha256: is missing"):
        read_index(index)
    content["checkpoints"][1] = content["checkpoints"][0]
    index.write_text(yaml.safe_dump(content))
    with pytest.raises(ZooError, match="entry frossl-digits: name: another entry has this name"):
        read_index(index)
    entry = make_entry(CONTENT, *PLACES)
    with pytest.raises(ZooError, match="two entries are named frossl-digits"):
        write_index(index, [entry, entry])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "must hold one key"),
        ("[]", "must hold one key"),
        ("checkpoints:", "must hold one key"),
        ("checkpoints: []\nmore: 1", "must hold one key"),
        ("checkpoints: [1]", "entry 1: must hold `key: value` lines"),
        ("checkpoints: [{a: 1, a: 2}]", "the key a stands twice"),
        ("checkpoints: [", "is not YAML"),
        ("checkpoints: [!!python/object/apply:os.getcwd []]", "is not YAML"),
    ],
)
def test_what_is_no_index(tmp_path, text, reason):
    (tmp_path / "index.yaml").write_text(text)
    with pytest.raises(ZooError, match=r"index\.yaml") as caught:
        read_index(tmp_path / "index.yaml")
    assert reason in str(caught.value)


def test_no_index_there(tmp_path):
    with pytest.raises(ZooError, match=r"nowhere\.yaml cannot be read as an index.*give the path of one"):
        read_index(tmp_path / "nowhere.yaml")


def test_a_value_that_is_not_plain_leaves_the_old_index(index):
    before = index.read_bytes()
    with pytest.raises(ZooError, match="no plain value"):
        write_index(index, [make_entry(CONTENT, *PLACES, config={"a": object()})])
    assert index.read_bytes() == before


def test_names_that_are_near(index):
    read = read_index(index)
    assert read.find("byol-digits").name == "byol-digits"
    for name, near in {
        "frosl-digits": "frossl-digits",
        "byol": "byol-digits",
        "zzz": "frossl-digits, byol-digits",
    }.items():
        with pytest.raises(ZooError, match=f"no checkpoint '{name}' in .*the nearest are {near}"):
            read.find(name)
    write_index(index, [])
    with pytest.raises(ZooError, match="it holds no checkpoint"):
        read_index(index).find("frossl-digits")


def test_a_link_to_an_index_stays_one(index, tmp_path):
    link = tmp_path / "link.yaml"
    link.symlink_to(index)
    write_index(link, [make_entry(CONTENT, *PLACES)])
    assert link.is_symlink()
    assert list(read_index(index).entries) == ["frossl-digits"]


def test_changes_at_the_same_time_are_all_kept(tmp_path):
    index, names = tmp_path / "index.yaml", [f"a{i}" for i in range(8)]

    def add(name):
        with changing(index) as entries:
            entries[name] = make_entry(CONTENT, *PLACES, name=name)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(add, names))
    assert sorted(read_index(index).entries) == names


def test_a_change_that_fails_leaves_the_index_as_it_was(index):
    before = index.read_bytes()
    with pytest.raises(KeyError), changing(index) as entries:
        del entries["frossl-digits"], entries["nothing"]
    assert index.read_bytes() == before


class TestRemove:
    def test_what_was_added_meanwhile_stays(self, index):
        seen = read_index(index)
        write_index(index, [*seen.entries.values(), make_entry(CONTENT, *PLACES, name="new")])
        remove_entry(seen, "byol-digits")
        assert list(read_index(index).entries) == ["frossl-digits", "new"]

    def test_an_index_that_names_itself_as_weights_is_kept(self, index):
        write_index(index, [make_entry(CONTENT, "file:index.yaml")])
        assert remove_entry(read_index(index), "frossl-digits") == []
        assert read_index(index).entries == {}

    def test_files_that_cannot_be_deleted_are_named(self, index, monkeypatch):
        write_index(index, [make_entry(CONTENT, *PLACES)])
        (index.parent / "cards").mkdir()
        for kind in ("md", "png"):
            (index.parent / "cards" / f"frossl-digits.{kind}").write_text("x")
        unlink = Path.unlink

        def refuse(path, *args, **kwargs):
            if path.suffix == ".md":
                raise PermissionError(13, "Permission denied")
            unlink(path, *args, **kwargs)

        monkeypatch.setattr(Path, "unlink", refuse)
        message = r"frossl-digits was taken out of .*, but not all .*\n  .*/cards/frossl-digits.md: Permission denied$"
        with pytest.raises(ZooError, match=message):
            remove_entry(read_index(index), "frossl-digits")
        assert [file.name for file in (index.parent / "cards").iterdir()] == ["frossl-digits.md"]
        assert read_index(index).entries == {}

    def test_entry_card_and_weights(self, index):
        folder = index.parent
        files = [folder / name for name in ("weights/frossl-digits.safetensors", "cards/frossl-digits.md")]
        other = folder / "cards" / "byol-digits.md"
        for file in (*files, other):
            file.parent.mkdir(exist_ok=True)
            file.write_text("x")
        read = read_index(index)
        only = [replace(read.entries["byol-digits"], places=PLACES[1:]), read.entries["frossl-digits"]]
        write_index(index, only)
        assert remove_entry(read_index(index), "frossl-digits") == files
        assert [file.exists() for file in files] == [False, False]
        assert other.exists()
        assert list(read_index(index).entries) == ["byol-digits"]

    def test_weights_that_another_entry_names_are_kept(self, index):
        (index.parent / "weights").mkdir()
        weights = index.parent / "weights" / "frossl-digits.safetensors"
        weights.write_text("x")
        assert remove_entry(read_index(index), "frossl-digits") == []
        assert weights.exists()
        assert remove_entry(read_index(index), "byol-digits") == [weights]

    def test_what_a_link_has_elsewhere_is_kept(self, index, tmp_path):
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        (elsewhere / "frossl-digits.safetensors").write_text("x")
        (index.parent / "weights").symlink_to(elsewhere)
        write_index(index, [make_entry(CONTENT, *PLACES)])
        assert remove_entry(read_index(index), "frossl-digits") == []
        assert (elsewhere / "frossl-digits.safetensors").exists()


def test_listing_imports_nothing_heavy():
    code = (
        "import sys, solo_frossl.cli.zoo as z; z.zoo(['list']); heavy = 'torch timm lightning numpy requests pooch';"
        "print([name for name in heavy.split() if name in sys.modules])"
    )
    environment = os.environ | {"SOLO_FROSSL_HOME": "/nowhere"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.splitlines()[-1] == "[]"

"""The command that draws the theory."""

import subprocess
import sys

import pytest
import torch
from PIL import Image

from solo_frossl.cli import theory as module
from solo_frossl.cli.theory import theory
from solo_frossl.theory.figures import FIGURES


def test_one_figure_is_a_picture_and_its_numbers(tmp_path, capsys):
    assert theory(["frossl-fig2", "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr()
    assert "the tenth eigenvalue is half-way to its end at t = " in said.out
    assert f"Written to {tmp_path}/out: frossl-fig2.png, frossl-fig2.csv" in said.out
    assert "/2200 [" in said.err
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["frossl-fig2.csv", "frossl-fig2.png"]


def test_all_is_a_page_that_loads_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "FIGURES", {"frossl-fig2": FIGURES["frossl-fig2"]})
    assert theory(["all", "--out", str(tmp_path)]) == 0
    page = (tmp_path / "index.html").read_text()
    assert "half-way to its end" in page
    assert "converges much quicker" in page
    assert "wrong sign" in page
    assert 'src="data:image/png;base64,' in page
    assert '<a href="frossl-fig2.csv">' in page
    assert "http://" not in page
    assert "https://" not in page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["frossl-fig2", "--data", "/nowhere"], "frossl-fig2: no folder /nowhere: give a folder of images with --data"),
        (["all", "--data", "/nowhere"], "frossl-fig2: no folder /nowhere"),
        (
            ["implicit-fig2", "--data", "/tmp"],
            "implicit-fig2 uses no images: leave --data away; those that do are frossl-fig2, dynamics-fig5",
        ),
        (["frossl-fig2", "--seed", "x"], "argument --seed: invalid int value: 'x'"),
        ([], "the following arguments are required: NAME"),
        (["frossl-fig9"], "invalid choice: 'frossl-fig9'"),
        (["frossl-fig2", "--out", "/proc/theory"], "cannot be written"),
    ],
)
def test_what_cannot_be_drawn(arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        theory(arguments)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_a_folder_that_does_not_do_for_one_figure_is_told_before_the_first_is_drawn(tmp_path, capsys, monkeypatch):
    """A thousand images without classes are enough for FroSSL's figure and not for the SVM's."""
    monkeypatch.setattr(module, "FIGURES", {name: FIGURES[name] for name in ("frossl-fig2", "dynamics-fig5")})
    images = tmp_path / "images"
    images.mkdir()
    for number in range(1024):
        Image.new("L", (4, 4), number % 256).save(images / f"{number}.png")
    with pytest.raises(SystemExit) as stop:
        theory(["all", "--data", str(images), "--out", str(tmp_path / "out")])
    assert stop.value.code == 2
    said = capsys.readouterr()
    assert "dynamics-fig5: two classes are to be told apart, with 50 images or more each" in said.err
    assert said.out == ""
    assert not (tmp_path / "out").exists()


def test_threads_are_as_before(tmp_path, monkeypatch):
    """A figure takes one: its matrices are small, and threads that wait for each other take minutes on a busy host."""
    seen = []
    monkeypatch.setattr(module, "_figure", lambda *_: seen.append(torch.get_num_threads()))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert theory(["implicit-fig4", "--out", str(tmp_path)]) == 0
        assert seen == [1]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.slow
def test_it_starts_without_what_takes_seconds_to_load():
    """torchvision and Lightning are for folders of images and for the alignment of predictors."""
    code = "import sys, solo_frossl.cli.theory; print([m for m in ('torchvision', 'lightning') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"

"""The command that draws the theory."""

import pytest

from solo_frossl.cli import theory as module
from solo_frossl.cli.theory import theory
from solo_frossl.theory.figures import FIGURES


def test_one_figure_is_a_picture_and_its_numbers(tmp_path, capsys):
    assert theory(["frossl-fig2", "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr()
    assert "the tenth eigenvalue is half-way to its end at t = " in said.out
    assert f"Written to {tmp_path}/out: frossl-fig2.png, frossl-fig2.csv" in said.out
    assert "/1500 [" in said.err
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["frossl-fig2.csv", "frossl-fig2.png"]


def test_all_is_a_page_that_loads_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "FIGURES", {"frossl-fig2": FIGURES["frossl-fig2"]})
    assert theory(["all", "--out", str(tmp_path)]) == 0
    page = (tmp_path / "index.html").read_text()
    assert "half-way to its end" in page
    assert "converges much quicker" in page
    assert "wrong sign" in page
    assert 'src="data:image/png;base64,' in page
    assert "http://" not in page
    assert "https://" not in page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["frossl-fig2", "--data", "/nowhere"], "no folder /nowhere: give a folder of images with --data"),
        (["frossl-fig9"], "invalid choice: 'frossl-fig9'"),
        (["frossl-fig2", "--out", "/proc/theory"], "cannot be written"),
    ],
)
def test_what_cannot_be_drawn(arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        theory(arguments)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err

"""Files are whole or not there."""

import pytest

from solo_frossl.replacing import replacing


@pytest.mark.parametrize("sync", [False, True])
def test_a_new_file_and_one_that_replaces_it(tmp_path, sync):
    path = tmp_path / "new" / "a.txt"
    for text in ("one", "two"):
        with replacing(path, sync=sync) as part:
            part.write_text(text)
            assert path.read_text() == "one" if text == "two" else not path.exists()
        assert path.read_text() == text
    assert [file.name for file in path.parent.iterdir()] == ["a.txt"]


def test_after_an_error_the_old_one_stays_and_nothing_is_left_of_the_new_one(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError), replacing(path) as part:
        part.write_text("half \udcff", encoding="utf-8")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("a.txt", "old")]


@pytest.mark.parametrize("sync", [False, True])
def test_what_was_not_written_is_an_error(tmp_path, sync):
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "a.txt", sync=sync):
        pass
    assert list(tmp_path.iterdir()) == []

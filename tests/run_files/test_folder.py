import os

import pytest

from solo_frossl.run_files import find_run, new_run


def started(runs_dir, name, when):
    run = new_run(runs_dir, name)
    run.config.write_text("x: 1\n")
    os.utime(run.config, (when, when))
    return run


def test_a_name_used_before_gets_a_number(tmp_path):
    paths = [new_run(tmp_path, "a").path.name for _ in range(3)]
    assert paths == ["a", "a-2", "a-3"]


@pytest.mark.parametrize("name", ["", "..", "a/b", "/tmp"])
def test_a_name_that_would_leave_the_runs_folder_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match="plain folder name"):
        new_run(tmp_path, name)
    assert list(tmp_path.iterdir()) == []


def test_the_newest_run_of_a_name_or_of_all_is_found(tmp_path):
    started(tmp_path, "a", 100)
    newest_a = started(tmp_path, "a", 300)
    started(tmp_path, "a", 200)
    newest = started(tmp_path, "b", 400)
    assert find_run(tmp_path, "a") == newest_a
    assert find_run(tmp_path, "a/") == newest_a  # as shells complete it
    assert find_run(tmp_path) == newest
    assert find_run("elsewhere", str(newest_a.path)) == newest_a


def test_a_longer_name_is_another_name(tmp_path):
    started(tmp_path, "a-long", 100)
    with pytest.raises(FileNotFoundError, match="no run named 'a'"):
        find_run(tmp_path, "a")


def test_a_folder_without_configuration_is_no_run(tmp_path):
    new_run(tmp_path, "a")
    with pytest.raises(FileNotFoundError, match="no run"):
        find_run(tmp_path)

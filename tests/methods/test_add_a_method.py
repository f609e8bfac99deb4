"""docs/add_a_method.md is true: the files it shows, put where it says, are a method."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_page_makes_a_method(tmp_path):
    page = (ROOT / "docs/add_a_method.md").read_text(encoding="utf-8")
    for folder in ("solo_frossl", "configs", "tests"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    found = re.findall(r"`(\S+?)`:\n\n```\w+\n(.*?)```", page, flags=re.DOTALL)
    assert [name for name, _ in found] == ["solo_frossl/methods/mine.py", "configs/methods/mine.yaml"]
    for name, text in found:
        (tmp_path / name).write_text(text, encoding="utf-8")
    wanted = "mine and (learns or gradient or two_processes_are_one or bit_identical or help or out_of_range)"
    tests = ["tests/methods", "tests/cli/test_hyperparameters.py"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", wanted, *tests],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path), "PATH": "", "OMP_NUM_THREADS": "1", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"^(\d+) passed", done.stdout, flags=re.MULTILINE)
    assert int(passed[1]) >= 9, done.stdout  # one each, but two for gradients and three out of range

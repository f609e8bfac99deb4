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
    wanted = "mine and (learns or gradient or two_processes_are_one)"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/methods", "-k", wanted],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path), "PATH": "", "OMP_NUM_THREADS": "1", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^4 passed", done.stdout, flags=re.MULTILINE)  # learns, two for gradients, two processes

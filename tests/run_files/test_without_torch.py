"""Programs that only read runs start without torch, which takes seconds."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["run_files", "cli.compare", "cli.runs"])
def test_reading_runs_needs_no_torch(module):
    torch = "{'torch', 'lightning'} & set(sys.modules)"
    code = f"import solo_frossl.{module}, sys; sys.exit(str({torch}) if {torch} else 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")

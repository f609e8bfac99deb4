"""Run folders to compare."""

import pytest
from made_up_runs import write_run


@pytest.fixture
def runs(tmp_path):
    """Three methods on STL-10, one of them with two seeds."""
    folder = tmp_path / "runs"
    write_run(folder / "frossl-seed0", "frossl", 0, speed=1.4)
    write_run(folder / "frossl-seed1", "frossl", 1, speed=1.3)
    write_run(folder / "barlow_twins-seed0", "barlow_twins", 0, speed=0.8)
    write_run(folder / "simclr-seed0", "simclr", 0, epochs=9, planned=12, spectra=False)
    return folder

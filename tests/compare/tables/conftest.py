"""Methods to make tables of."""

import pytest
from runs_by_hand import run

from solo_frossl.compare.groups import group_runs


@pytest.fixture
def groups():
    """FroSSL, two seeds: mean 30, 50, 60; Barlow Twins: 20, 30, 40."""
    return group_runs(
        [
            run("frossl", 0, [28.0, 48.0, 60.0], 30),
            run("frossl", 1, [32.0, 52.0, 60.0], 30),
            run("barlow_twins", 0, [20.0, 30.0, 40.0], 10),
        ]
    )

import subprocess
import sys

import pytest
import torch

from solo_frossl.seeding import generator, seed_for

BASE = {"seed": 3, "stream": "views", "epoch": 5, "step": 7, "process": 1}


def test_a_seed_is_the_same_in_another_interpreter():
    code = "from solo_frossl.seeding import seed_for; print(seed_for(3, 'views', 5, 7, 1))"
    output = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert int(output) == seed_for(**BASE)


@pytest.mark.parametrize("name", BASE)
def test_every_argument_changes_the_seed(name):
    other = {**BASE, name: BASE[name] + ("2" if name == "stream" else 1)}
    assert seed_for(**other) != seed_for(**BASE)


def test_values_do_not_run_into_each_other():
    assert seed_for(0, "order", 1, 11) != seed_for(0, "order", 11, 1)
    assert seed_for(0, "order", 1, 12) != seed_for(0, "order", 11, 2)


def test_seeds_are_distinct_and_fit_torch():
    seeds = {
        seed_for(0, "views", epoch, step, process) for epoch in range(20) for step in range(50) for process in (0, 1)
    }
    assert len(seeds) == 2000
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert max(seeds).bit_length() == 63  # the whole range is used


def test_generators_start_anew_and_leave_the_global_one_alone():
    state = torch.random.get_rng_state()
    first, again = (torch.rand(4, generator=generator(**BASE)) for _ in range(2))
    assert torch.equal(first, again)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_streams_are_not_correlated():
    draws = torch.stack([torch.randn(1000, generator=generator(0, "views", 0, step)) for step in range(20)])
    correlation = torch.corrcoef(draws) - torch.eye(20)
    assert correlation.abs().max() < 0.15  # 1000 samples: a standard deviation of 0.032

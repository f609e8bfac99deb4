"""The spectrum at the end, and what saturation is."""

from inspect import signature
from pathlib import Path

from made_up_runs import config

from solo_frossl.compare import tables
from solo_frossl.compare.groups import group_runs
from solo_frossl.compare.read import Run
from solo_frossl.spectrum import saturation_step


def test_a_saturation_that_is_gone_at_the_end_is_not_told():
    def saturating(seed, steps):
        rows = {e: {"spectrum/embeddings/l14": 1.0, "spectrum/embeddings/entropy": 2.0} for e in (1, 2)}
        for epoch, step in steps.items():
            rows[epoch]["spectrum/saturation_step"] = step
        return Run(Path(f"a{seed}"), config("frossl", seed, 2), rows)

    def told(*seeds):
        return tables.spectrum_table(group_runs(saturating(i, steps) for i, steps in enumerate(seeds))).rows[0][-1].text

    assert told({1: 40, 2: 80}) == "80"
    assert told({1: 40}) == "not yet"
    assert told({2: 40}, {1: 40}) == "1 of 2 seeds"


def test_the_definition_of_saturation_is_that_of_the_code():
    given = {name: p.default for name, p in signature(saturation_step).parameters.items()}
    assert f"running median of {given['window']} checks" in tables.SATURATION
    assert f"within {100 * given['tolerance']:.0f} %" in tables.SATURATION
    assert f"off by more than {100 * given['away']:.0f} %" in tables.SATURATION
    assert 1 / given["plateau"] == 5
    assert tables.SATURATION.count("fifth of the steps") == 2

"""The configuration files that come with the package: every dataset with every method."""

from pathlib import Path

import pytest
import yaml

from solo_frossl.cli.config import compose, merge
from solo_frossl.cli.parser import build_cli
from solo_frossl.data import DATASETS
from solo_frossl.methods import METHODS

CONFIGS = Path(__file__).parents[2] / "configs"
VARIANTS = {"frossl_no_logs": "frossl"}
"""Configurations of a method that is not the method's own file."""
METHOD_OF = {name: name for name in METHODS} | VARIANTS
FOLDERS = sorted(file.parent.name for file in CONFIGS.glob("*/dataset.yaml"))
PAIRS = [pytest.param(folder, name, id=f"{folder}/{name}") for folder in FOLDERS for name in METHOD_OF]


def build(config: str):
    return build_cli(["--config", config], methods=METHODS, datasets=DATASETS, add_arguments=lambda parser: None)


@pytest.mark.slow
@pytest.mark.parametrize(("folder", "name"), PAIRS)
def test_every_pair_is_a_valid_configuration(folder, name):
    parsed = build(f"configs/{folder}/{name}.yaml")
    assert parsed.composed.get("dataset") == folder
    assert (parsed.method_class, parsed.dataset_class) == (METHODS[METHOD_OF[name]], DATASETS[folder])


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_what_a_method_s_file_says_is_what_is_built(method):
    parsed = build(f"configs/digits/{method}.yaml")
    model, data, _, _ = parsed.instantiate()
    assert type(model) is METHODS[method]
    assert model.optimizer_config.lr == parsed.composed.get("model.optimizer.lr")
    assert [view.recipe for view in data.views] == ["digits"]


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*/*.yaml")), ids=lambda file: f"{file.parent.name}/{file.name}")
def test_every_file_belongs_to_a_known_dataset_and_method(file):
    assert file.parent.name in {*FOLDERS, "methods"}
    assert {*file.stem.split("+")} <= {*METHOD_OF, "dataset"}


@pytest.mark.parametrize(("folder", "name"), PAIRS)
def test_a_pair_s_own_file_changes_something(folder, name):
    method_layer, dataset_layer, *own = compose([f"configs/{folder}/{name}.yaml"]).layers
    below = merge(method_layer.values, dataset_layer.values)
    for layer in own:
        again = [key for key, value in _leaves(layer.values).items() if _leaves(below).get(key) == value]
        assert not again, f"{layer.file} says again what a lower layer says"
        below = merge(below, layer.values)


@pytest.mark.parametrize("folder", FOLDERS)
def test_views_that_a_dataset_has_for_several_methods_stand_once(folder):
    views = [yaml.safe_load(file.read_text()).get("data", {}).get("views") for file in CONFIGS.glob(f"{folder}/*.yaml")]
    given = [yaml.safe_dump(value) for value in views if value]
    assert len(given) == len({*given})


def _leaves(values, prefix: str = "") -> dict[str, str]:
    if not isinstance(values, dict):
        return {prefix: yaml.safe_dump(values)}
    return {k: v for name, value in values.items() for k, v in _leaves(value, f"{prefix}.{name}").items()}

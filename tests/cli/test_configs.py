"""The configuration files that come with the package: every dataset with every method."""

from pathlib import Path

import pytest
import yaml

from solo_frossl.cli.config import compose, merge
from solo_frossl.cli.parser import build_cli
from solo_frossl.data import DATASETS
from solo_frossl.methods import METHODS

CONFIGS = Path(__file__).parents[2] / "configs"
PAIRS = [pytest.param(dataset, method, id=f"{dataset}/{method}") for dataset in DATASETS for method in METHODS]


def build(config: str):
    return build_cli(["--config", config], methods=METHODS, datasets=DATASETS, add_arguments=lambda parser: None)


@pytest.mark.parametrize(("dataset", "method"), PAIRS)
def test_every_pair_is_a_valid_configuration(dataset, method):
    parsed = build(f"configs/{dataset}/{method}.yaml")
    assert (parsed.method_class, parsed.dataset_class) == (METHODS[method], DATASETS[dataset])


@pytest.mark.parametrize("method", METHODS)
def test_what_a_method_s_file_says_is_what_is_built(method):
    parsed = build(f"configs/digits/{method}.yaml")
    model, data, _, _ = parsed.instantiate()
    assert type(model) is METHODS[method]
    assert model.optimizer_config.lr == parsed.composed.get("model.optimizer.lr")
    assert [view.recipe for view in data.views] == ["digits"]


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*/*.yaml")), ids=lambda file: f"{file.parent.name}/{file.name}")
def test_every_file_belongs_to_a_known_dataset_and_method(file):
    assert file.parent.name in {*DATASETS, "methods"}
    assert file.stem in {*METHODS, "dataset"}


@pytest.mark.parametrize(("dataset", "method"), PAIRS)
def test_a_pair_s_own_file_changes_something(dataset, method):
    method_layer, dataset_layer, *own = compose([f"configs/{dataset}/{method}.yaml"]).layers
    below = _leaves(merge(method_layer.values, dataset_layer.values))
    for layer in own:
        again = [key for key, value in _leaves(layer.values).items() if below.get(key) == value]
        assert not again, f"{layer.file} says again what a lower layer says"


def _leaves(values, prefix: str = "") -> dict[str, str]:
    if not isinstance(values, dict):
        return {prefix: yaml.safe_dump(values)}
    return {k: v for name, value in values.items() for k, v in _leaves(value, f"{prefix}.{name}").items()}

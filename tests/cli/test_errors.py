"""One fault, one message: the key, and what would be right."""

import re
import subprocess
import sys
from dataclasses import dataclass
from typing import Literal

import pytest
from jsonargparse import ActionConfigFile, ArgumentParser

from solo_frossl.cli.errors import CLOSED_PIPE, ConfigError, accepts, describe, find_problem, one_message


@dataclass(frozen=True)
class Crop:
    """Crop.

    Args:
        scale: smallest and largest share of the area.
    """

    scale: tuple[float, float]
    flip: float = 0.5


@dataclass(frozen=True)
class View:
    """View.

    Args:
        recipe: name of the recipe.
    """

    recipe: Literal["weak", "symmetric"] = "symmetric"
    size: int | None = None
    crop: Crop | None = None


@dataclass(frozen=True)
class Optimizer:
    """Optimiser.

    Args:
        lr: learning rate.
    """

    lr: float = 0.3
    nesterov: bool = False


class Model:
    """Model."""

    def __init__(
        self,
        width: int = 8,
        stem: Literal["imagenet", "cifar"] | Crop = "imagenet",
        optimizer: Optimizer = Optimizer(),
        views: list[View] | None = None,
        milestones: list[int] = [60, 80],  # noqa: B006
        subset: int | float | None = None,
    ) -> None:
        """Only its signature matters."""


@pytest.fixture
def parser():
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action=ActionConfigFile)
    parser.add_argument("--name", type=str)
    parser.add_argument("--mode", choices=["fast", "slow"], default="fast")
    parser.add_class_arguments(Model, "model")
    return parser


GOOD = [
    {},
    {"name": "a", "mode": "slow"},
    {"model": {"width": 4, "stem": "cifar", "optimizer": {"lr": 1, "nesterov": True}}},
    {"model": {"stem": {"scale": [0.1, 1]}, "subset": 0.1, "milestones": []}},
    {"model": {"subset": 10, "views": [{"recipe": "weak"}, {"size": 96, "crop": {"scale": [0, 1.0]}}]}},
    {"model": {"views": None, "subset": None}},
    {"model": {"optimizer": {"lr": "1e-4", "nesterov": "on"}}},
]


@pytest.mark.parametrize("values", GOOD, ids=str)
def test_nothing_wrong(parser, values):
    assert find_problem(parser, values) is None


BAD = [
    ({"nmae": "a"}, ("nmae",), r"not a known key; did you mean name\?"),
    ({"config": "a.yaml"}, ("config",), "not a known key"),
    ({"model": {"widht": 4}}, ("model", "widht"), r"did you mean model\.width\?"),
    ({"model": {"optimizer": {"lrr": 1}}}, ("model", "optimizer", "lrr"), r"did you mean model\.optimizer\.lr\?"),
    ({"lr": 1}, ("lr",), r"did you mean model\.optimizer\.lr\?"),
    ({"model": {"qqqq": 1}}, ("model", "qqqq"), "the keys here are width, stem, optimizer, views"),
    ({"model": None}, ("model",), "is null, but stands for a group of keys: width"),
    ({"model": 3}, ("model",), "is 3, but stands for a group"),
    ({"model": {"optimizer": "adam"}}, ("model", "optimizer"), "is adam, but stands for a group of keys: lr, nesterov"),
    ({"model": {"width": 1.5}}, ("model", "width"), r"must be a whole number, not 1\.5"),
    ({"model": {"width": "a"}}, ("model", "width"), "must be a whole number, not a"),
    ({"model": {"width": {"a": 1}}}, ("model", "width"), "must be a whole number"),
    ({"model": {"optimizer": {"lr": "fast"}}}, ("model", "optimizer", "lr"), "must be a number, not fast"),
    ({"model": {"optimizer": {"nesterov": 2}}}, ("model", "optimizer", "nesterov"), "must be true or false, not 2"),
    ({"model": {"subset": "x"}}, ("model", "subset"), "must be a whole number or a number or null, not x"),
    ({"mode": "fats"}, ("mode",), r"must be fast or slow, not fats; did you mean fast\?"),
    ({"model": {"stem": "cifra"}}, ("model", "stem"), r"not cifra; did you mean cifar\?"),
    ({"model": {"stem": {"scal": [0, 1]}}}, ("model", "stem", "scal"), r"did you mean model\.stem\.scale\?"),
    ({"model": {"stem": {"flip": 0}}}, ("model", "stem"), "needs scale too"),
    ({"model": {"milestones": [60, "a"]}}, ("model", "milestones", 1), "must be a whole number, not a"),
    ({"model": {"milestones": 60}}, ("model", "milestones"), r"must be a list \(a whole number\), not 60"),
    ({"model": {"views": [{}, {"recip": "weak"}]}}, ("model", "views", 1, "recip"), r"model\.views\[1\]\.recipe\?"),
    ({"model": {"views": [{"recipe": "weka"}]}}, ("model", "views", 0, "recipe"), r"not weka; did you mean weak\?"),
    ({"model": {"views": ["weak"]}}, ("model", "views", 0), "must be a mapping of recipe, size, crop, not weak"),
    ({"model": {"views": [{"crop": {"scale": [1]}}]}}, ("model", "views", 0, "crop", "scale"), "needs 2 items, not 1"),
    (
        {"model": {"views": [{"crop": {"scale": [1, "b"]}}]}},
        ("model", "views", 0, "crop", "scale", 1),
        "must be a number, not b",
    ),
]


@pytest.mark.parametrize(("values", "path", "text"), BAD, ids=str)
def test_the_key_and_what_would_be_right(parser, values, path, text):
    problem = find_problem(parser, values)
    assert problem is not None
    assert problem.path == path
    assert re.search(text, problem.text), problem.text


def test_the_first_fault_in_the_order_of_the_file(parser):
    assert find_problem(parser, {"model": {"width": "a"}, "nmae": 1}).path == ("model", "width")
    assert find_problem(parser, {"nmae": 1, "model": {"width": "a"}}).path == ("nmae",)


def test_long_values_are_cut(parser):
    text = find_problem(parser, {"model": {"width": "x" * 500}}).text
    assert len(text) < 120


def test_types_in_words():
    assert describe(list[int] | None) == "a list (a whole number) or null"
    assert describe(tuple[float, float]) == "a list of 2 (a number, a number)"
    assert describe(Literal[16, 32] | Literal["16", "bf16"] | None) == "16 or 32 or bf16 or null"
    assert describe(Crop) == "a mapping of scale, flip"


def test_accepts_does_not_take_null_for_anything():
    assert not accepts(int, None)
    assert not accepts(View, None)


def test_one_message_exits_with_2(capsys):
    with pytest.raises(SystemExit) as stop, one_message("main.py"):
        raise ConfigError("a is wrong")
    assert stop.value.code == 2
    assert capsys.readouterr().err == "main.py: error: a is wrong\n"


def test_other_errors_pass():
    with pytest.raises(ZeroDivisionError), one_message("main.py"):
        raise ZeroDivisionError


def through_a_closed_pipe(body):
    """Exit code and standard error of a program whose standard output nobody reads."""
    program = f"from solo_frossl.cli.errors import one_message\nwith one_message('p'):\n    {body}"
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    said = process.stderr.read().decode()
    return process.wait(), said


@pytest.mark.parametrize("body", ["print('a line')", "print('text ' * 100_000)", "raise SystemExit(print('help'))"])
def test_a_reader_that_has_enough_ends_the_program_quietly(body):
    assert through_a_closed_pipe(body) == (CLOSED_PIPE, "")


def test_another_pipe_that_is_closed_is_an_error():
    program = (
        "from solo_frossl.cli.errors import one_message\nwith one_message('p'):\n    raise BrokenPipeError('mine')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 1
    assert "BrokenPipeError: mine" in done.stderr

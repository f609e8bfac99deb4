"""The command line of one run: the method and the dataset chosen, then every argument of exactly these two classes."""

import argparse
import dataclasses
import difflib
import importlib
import os
import re
import sys
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import yaml
from jsonargparse import ArgumentParser, Namespace
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from solo_frossl.cli.config import Composed, compose, load_yaml
from solo_frossl.cli.errors import ConfigError, dotted, find_problem

DEFAULT_METHOD = "frossl"
DEFAULT_DATASET = "digits"

LINKS_ON_PARSE = {"model.batch_size": "data.batch_size", "data.seed": "seed_everything"}
"""Keys that follow another key, where the classes have them."""

LINKS_ON_INSTANTIATE = {
    "model.num_classes": "data.num_classes",
    "model.channels": "data.channels",
    "model.image_size": "data.image_size",
}
"""Keys that follow an attribute of the data module, where the method has them."""

FOLLOWED = LINKS_ON_PARSE | LINKS_ON_INSTANTIATE


class Instances(NamedTuple):
    """What a configuration builds.

    Attributes:
        model: the method; None for a program that needs none.
        data: the data module.
        trainer: keyword arguments for ``lightning.Trainer``.
        options: all other values, their classes built.
    """

    model: LightningModule | None
    data: LightningDataModule
    trainer: dict[str, Any]
    options: Namespace


@dataclass(frozen=True)
class Parsed:
    """A checked configuration; nothing is built or read yet.

    Attributes:
        config: every value, by dotted key.
        method_class: class of the method; None for a program that needs none.
        dataset_class: class of the data module.
        resolved: the same as plain values; written to YAML and given to ``--config`` it makes the same run again.
        composed: the configuration files.
        arguments: the command line without ``--config``.
        parser: the parser that knows every key.
    """

    config: Namespace
    method_class: type[LightningModule] | None
    dataset_class: type[LightningDataModule]
    resolved: dict[str, Any]
    composed: Composed
    arguments: tuple[str, ...]
    parser: ArgumentParser

    def instantiate(self) -> Instances:
        """Build data module, method, and what the Trainer's arguments name.

        Raises:
            ConfigError: a constructor refuses a value (``ValueError``) or finds no file (``OSError``).
        """
        try:
            built = self.parser.instantiate(self.config)
        except (ValueError, OSError) as error:
            raise ConfigError(self._refusal(error)) from error
        for target, source in LINKS_ON_INSTANTIATE.items():
            if hasattr(built.data, source.split(".")[1]):
                _check_link(self.composed, target, source, getattr(built.data, source.split(".")[1]))
        options = Namespace({key: built[key] for key in vars(built) if key not in ("model", "data", "trainer")})
        trainer = dict(vars(built.trainer)) if self.method_class else {}
        return Instances(built.get("model"), built.data, trainer, options)

    def where(self, key: str) -> str | None:
        """Where the value of a dotted key was given: a file and line, or the command line; None for a default."""
        if any(argument.split("=")[0] == f"--{key}" for argument in self.arguments):
            return "command line"
        return self.composed.where(tuple(key.split(".")))

    def _refusal(self, error: Exception) -> str:
        """The error with the key of the component that raised it, and the place of the value that it names."""
        components = {g.group_class: g.dest for g in self.parser._action_groups if hasattr(g, "group_class")}
        owners = [frame.f_locals.get("self") for frame, _ in traceback.walk_tb(error.__traceback__)]
        keys = [
            components.get(type(owner)) or owner.dest
            for owner in owners
            if type(owner) in components or isinstance(owner, argparse.Action)
        ]
        if not keys:
            return str(error)
        component, leaves, text = keys[-1], list(self.config.keys()), _tidy(str(error))
        words = re.findall(r"[A-Za-z_][\w.]*\w", text)
        named = [key for word in words for key in leaves if f".{key}".endswith(f".{word}")]
        places = [self.where(key) for key in named if key.startswith(component)]
        place = next((f" ({place})" for place in places if place), "")
        parent, _, name = component.rpartition(".")
        if text.startswith(f"{name}."):
            return f"{parent}{'.' if parent else ''}{text}{place}"
        return f"{component}: {text}{place}"


class _NoMethod(LightningModule):
    """In the place of a method, for programs that take data only."""


class _CLI(LightningCLI):
    """LightningCLI for one method and one dataset, that parses and checks, and leaves building to :class:`Parsed`."""

    def __init__(
        self, arguments: list[str], composed: Composed, choices: Callable, options: Callable, **kwargs
    ) -> None:
        self.arguments, self.composed, self.add_choices, self.add_options = arguments, composed, choices, options
        super().__init__(run=False, auto_configure_optimizers=False, save_config_callback=None, **kwargs)

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        self.add_choices(parser)
        self.add_options(parser)
        parser.add_argument("--seed_everything", type=int, default=0, help="Seed of every random draw of the run.")

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        if self.model_class is _NoMethod:
            parser.add_lightning_class_args(self.datamodule_class, "data")
            return
        parser.add_lightning_class_args(self.model_class, "model")
        parser.add_lightning_class_args(self.datamodule_class, "data")
        parser.add_lightning_class_args(self.trainer_class, "trainer")
        parser.set_defaults({f"trainer.{key}": value for key, value in self.trainer_defaults.items()})

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        keys = {action.dest for action in parser._actions}
        parser.set_defaults({a.dest: _plain(a.default) for a in parser._actions if _plain(a.default) != a.default})
        for target, source in LINKS_ON_PARSE.items():
            if {target, source} <= keys:
                parser.link_arguments(source, target)
        for target, source in LINKS_ON_INSTANTIATE.items():
            if target in keys:
                parser.link_arguments(source, target, apply_on="instantiate")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        if problem := find_problem(parser, self.composed.values):
            place = f"{where}: " if (where := self.composed.where(problem.path)) else ""
            raise ConfigError(f"{place}{dotted(problem.path)} {problem.text}{self._other_method()}")
        values = _without_replaced_lists(self.composed.values, self.arguments)
        files = ["--config", yaml.safe_dump(values, default_style='"')] if values else []
        if not {"-h", "--help"}.isdisjoint(self.arguments):
            keys = parser.get_defaults().keys()
            parser.set_defaults({key: v for key in keys if (v := self.composed.get(key)) is not None})
        printing = [argument for argument in self.arguments if argument.startswith("--print_config")]
        rest = [argument for argument in self.arguments if argument not in printing]
        try:
            self.config = parser.parse_args([*files, *rest])
            for target, source in LINKS_ON_PARSE.items():
                if source in self.config:
                    _check_link(self.composed, target, source, self.config[source])
            if printing:
                parser.parse_args([*files, *rest, *printing])
        except argparse.ArgumentError as error:
            problem = _find_in_arguments(parser, rest)
            raise ConfigError(f"command line: {problem}" if problem else _tidy(str(error))) from error
        self.config.pop("config", None)
        if not 0 <= self.config.seed_everything < 2**32:
            given = any(argument.split("=")[0] == "--seed_everything" for argument in rest)
            place = "command line" if given else self.composed.where(("seed_everything",))
            raise ConfigError(
                f"{place}: seed_everything is {self.config.seed_everything}: it must be from 0 to {2**32 - 1}"
            )

    def _other_method(self) -> str:
        """A remark for files that are another method's than the one chosen."""
        if self.model_class is _NoMethod:
            return ""
        theirs, chosen = self.composed.get("method"), self.arguments[self.arguments.index("--method") + 1]
        if theirs in (None, chosen):
            return ""
        return (
            f". The configuration is for {theirs}, and --method is {chosen}: give the file of {chosen} for the same"
            " dataset or, for a class of your own, only the dataset's dataset.yaml"
        )

    def instantiate_classes(self) -> None:
        """Nothing yet: :meth:`Parsed.instantiate` does it."""


def build_cli(
    argv: Sequence[str],
    *,
    methods: Mapping[str, type[LightningModule]] | None,
    datasets: Mapping[str, type[LightningDataModule]],
    add_arguments: Callable[[LightningArgumentParser], None],
    ignored: Collection[str] = (),
    trainer_defaults: Mapping[str, Any] | None = None,
    description: str = "",
    prog: str | None = None,
) -> Parsed:
    """Read a command line: ``--config`` files, then ``--key value`` for any value, which wins over files and defaults.

    Args:
        argv: the arguments, without the program's name.
        methods: method classes by name; a dotted path to a class works too. None for a program that takes data only:
            it has no options of methods and of the Trainer, and passes over those in files.
        datasets: data module classes by name; a dotted path works too.
        add_arguments: adds the program's own options to the parser.
        ignored: top-level keys of the files that are passed over, because they are another program's options.
        trainer_defaults: defaults of Trainer arguments that differ from Lightning's.
        description: first paragraph of ``--help``.
        prog: name of the program.

    Raises:
        ConfigError: any fault in files or arguments; see :func:`solo_frossl.cli.errors.one_message`.
        SystemExit: ``--help`` or ``--print_config`` did what was asked.
    """
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    finder.add_argument("-c", "--config", action="append", default=[])
    kinds = {"dataset": (DEFAULT_DATASET, datasets, LightningDataModule)}
    if methods is not None:
        kinds = {"method": (DEFAULT_METHOD, methods, LightningModule)} | kinds
    for kind in kinds:
        finder.add_argument(f"--{kind}")
    try:
        found, rest = finder.parse_known_args(list(argv))
    except argparse.ArgumentError as error:
        raise ConfigError(f"command line: {error.argument_name.split('/')[-1]} needs a value") from error
    composed = compose(found.config).without(
        ignored if methods is not None else (*ignored, "method", "model", "trainer")
    )
    names: dict[str, str] = {}
    classes: dict[str, type] = {}
    for kind, (default, known, base) in kinds.items():
        given = getattr(found, kind)
        names[kind] = given or composed.get(kind) or default
        place = "command line" if given else composed.where((kind,))
        classes[kind] = _resolve(f"{place}: {kind}", names[kind], known, base)

    def add_choices(parser: LightningArgumentParser) -> None:
        for kind, (_, known, _) in kinds.items():
            text = f"Name of the {kind}: {', '.join(known)}, or the dotted path of a class of your own."
            parser.add_argument(f"--{kind}", type=str, default=names[kind], help=text)

    cli = _CLI(
        [*rest, *(word for kind, name in names.items() for word in (f"--{kind}", name))],
        composed,
        add_choices,
        add_arguments,
        model_class=classes.get("method", _NoMethod),
        datamodule_class=classes["dataset"],
        trainer_defaults=dict(trainer_defaults or {}),
        parser_kwargs={
            "prog": prog,
            "description": description,
            "usage": " ".join(
                ["%(prog)s [--config FILE]", *(f"[--{kind} NAME]" for kind in kinds), "[--key value ...]"]
            ),
            "exit_on_error": False,
            "allow_abbrev": False,
            "dump_header": None,
        },
    )
    resolved = yaml.safe_load(cli.parser.dump(cli.config, skip_unset=False))
    return Parsed(cli.config, classes.get("method"), classes["dataset"], resolved, composed, tuple(rest), cli.parser)


def build_trainer(**arguments: Any) -> Trainer:
    """The Trainer.

    Raises:
        ConfigError: the Trainer refuses its arguments, such as an accelerator or a number of devices that is not there.
    """
    try:
        return Trainer(**arguments)
    except (ValueError, TypeError, MisconfigurationException) as error:
        raise ConfigError(f"trainer: {_tidy(str(error))}") from error


def _resolve(title: str, name: Any, known: Mapping[str, type], base: type) -> type:
    """The class of a name, or of a dotted path."""
    if isinstance(name, str) and name in known:
        return known[name]
    if not isinstance(name, str) or "." not in name:
        near = difflib.get_close_matches(str(name), known, n=1)
        meant = f"did you mean {near[0]}? There are" if near else ""
        raise ConfigError(
            f"{title} {name} is not known; {meant or 'there are'} {', '.join(known)}, or a class's dotted path"
        )
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    module, _, attribute = name.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ModuleNotFoundError, AttributeError) as error:
        raise ConfigError(f"{title} {name} cannot be imported: {error}") from error
    if not (isinstance(found, type) and issubclass(found, base)):
        raise ConfigError(f"{title} {name} is not a subclass of {base.__name__}")
    return found


def _without_replaced_lists(values: Mapping[str, Any], arguments: Sequence[str], path: str = "--") -> dict[str, Any]:
    """The files' values less the lists that the command line gives anew.

    Else jsonargparse would take what the items of the new list leave open from the old one, where both are as long.
    """
    given = {argument.split("=")[0] for argument in arguments}
    return {
        key: _without_replaced_lists(value, arguments, f"{path}{key}.") if isinstance(value, Mapping) else value
        for key, value in values.items()
        if not (isinstance(value, list) and f"{path}{key}" in given)
    }


def _plain(value: Any) -> Any:
    """A default as plain values, so that it can be written to YAML: dataclasses become mappings."""
    if type(value) in (list, tuple):
        return type(value)(_plain(item) for item in value)
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value


def _check_link(composed: Composed, target: str, source: str, value: Any) -> None:
    """Refuse a file that sets a following key to something else than what it follows."""
    given = composed.get(target)
    if given is not None and given != value:
        place = composed.where(tuple(target.split(".")))
        raise ConfigError(f"{place}: {target} is {given}, but follows {source}, which is {value}; leave it out")


def _find_in_arguments(parser: ArgumentParser, arguments: Sequence[str]) -> str | None:
    """What is wrong with the first faulty argument of a command line, if any."""
    rest = list(arguments)
    while rest:
        option, equals, value = rest.pop(0).partition("=")
        key = option.removeprefix("--").rstrip("+")
        if not option.startswith("--"):
            return f"{option} is neither an option nor the value of one; options are written --key value"
        action = parser._option_string_actions.get(f"--{key}")
        if action is not None and action.nargs == 0:
            if equals:
                return f"{key} takes no value"
            continue
        if key in FOLLOWED:
            return f"{key} cannot be set, it follows {FOLLOWED[key]}"
        if not equals and rest and not rest[0].startswith("--"):
            equals, value = "=", rest.pop(0)
        nested: Any = _value(value) if equals else None
        for name in reversed(key.split(".")):
            nested = {name: nested}
        problem = find_problem(parser, nested)
        if problem and (equals or "known" in problem.text):
            return f"{dotted(problem.path)} {problem.text}"
        if not equals:
            return f"{key} needs a value"
    return None


def _value(text: str) -> Any:
    """A list or mapping written on the command line; any other text is left to the key's type."""
    try:
        value = load_yaml(text)
    except yaml.YAMLError:
        return text
    return value if isinstance(value, (list, dict)) else text


def _tidy(message: str) -> str:
    """A message of the parser in one line, without the alternatives that were not meant."""
    if missing := re.search(r"arguments are required: (.*)", message):
        return f"{missing[1]} has no default: give it in a configuration file or as --key value"
    if "Union subtypes" in message:
        reasons = [reason for reason in re.findall(r"- (.*)", message) if not reason.startswith("Expected")]
        message = "; ".join(reasons) or message
    return re.sub(r"\s+", " ", message)

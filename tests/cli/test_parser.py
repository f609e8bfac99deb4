"""From a command line to a method, a data module and the Trainer's arguments; and every way it can be refused."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
import yaml
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.callbacks import EarlyStopping

from solo_frossl.cli.errors import ConfigError
from solo_frossl.cli.parser import build_cli, build_trainer


@dataclass(frozen=True)
class Optimizer:
    """Optimiser and its learning rate.

    Args:
        lr: learning rate per 256 images.
        nesterov: look ahead.
    """

    lr: float = 0.3
    nesterov: bool = False

    def __post_init__(self):
        if self.lr <= 0:
            raise ValueError(f"optimizer.lr is {self.lr}: it must be positive")


@dataclass(frozen=True)
class View:
    """One view.

    Args:
        recipe: name of the recipe.
        size: side in pixels.
    """

    recipe: Literal["weak", "symmetric"] = "symmetric"
    size: int | None = None

    def __post_init__(self):
        if self.size == 0:
            raise ValueError("views need a size of at least 1")


class Base(LightningModule):
    """Base.

    Args:
        width: neurons of the hidden layer.
        optimizer: the optimiser.
    """

    def __init__(
        self,
        *,
        width: int = 8,
        optimizer: Optimizer = Optimizer(),
        channels: int = 3,
        num_classes: int = 10,
        batch_size: int = 256,
    ):
        super().__init__()
        if width < 1:
            raise ValueError(f"width is {width}: it must be at least 1")
        self.save_hyperparameters()
        self.width, self.optimizer_config, self.batch_size = width, optimizer, batch_size
        self.channels, self.num_classes = channels, num_classes


class Frossl(Base):
    """FroSSL.

    Args:
        weight: weight of the distance between views.
    """

    def __init__(self, *, weight: float = 1.0, **kwargs):
        super().__init__(**kwargs)
        self.weight = weight


class Other(Base):
    """Another method, without parameters of its own."""


class Digits(LightningDataModule):
    """Digits.

    Args:
        root: folder of the files.
        batch_size: images per step.
        views: the views of each image.
        probe_view: the view of the linear probe.
    """

    num_classes, channels = 7, 1

    def __init__(
        self,
        root: str = "data",
        batch_size: int = 128,
        views: list[View] = [View(), View()],  # noqa: B006
        probe_view: Literal["same"] | View | None = None,
        subset: int | float | None = None,
        seed: int = 0,
    ):
        super().__init__()
        self.root, self.batch_size, self.views, self.seed = root, batch_size, views, seed
        self.subset, self.probe_view = subset, probe_view


class Folder(LightningDataModule):
    """A folder, which must be named.

    Args:
        root: folder of the files.
    """

    num_classes, channels = 2, 3

    def __init__(self, root: str):
        super().__init__()
        if not Path(root).is_dir():
            raise FileNotFoundError(f"there is no folder {root}: set data.root")


def add_options(parser):
    parser.add_argument("--name", type=str, default=None, help="Name of the run.")
    parser.add_argument("--wandb", action="store_true", help="Log to W&B.")


def build(*argv, **kwargs):
    return build_cli(
        list(argv),
        methods={"frossl": Frossl, "other": Other},
        datasets={"digits": Digits, "folder": Folder},
        add_arguments=add_options,
        trainer_defaults={"max_epochs": 100},
        description="Train.",
        prog="main.py",
        **kwargs,
    )


def refused(*argv) -> str:
    with pytest.raises(ConfigError) as caught:
        build(*argv).instantiate()
    return str(caught.value)


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(path: str, text: str) -> str:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(text, encoding="utf-8")
        return path

    return write


class TestValues:
    def test_defaults(self):
        parsed = build()
        assert (parsed.method_class, parsed.dataset_class) == (Frossl, Digits)
        model, data, trainer, options = parsed.instantiate()
        assert (type(model), model.weight, model.optimizer_config) == (Frossl, 1.0, Optimizer())
        assert (type(data), data.views) == (Digits, [View(), View()])
        assert trainer["max_epochs"] == 100
        assert (options.name, options.wandb, options.seed_everything) == (None, False, 0)

    def test_a_file_wins_over_defaults_and_the_command_line_over_the_file(self, write):
        write("a.yaml", "model:\n  weight: 1.4\n  width: 5\ntrainer:\n  max_epochs: 7\n")
        for argv in (["--config", "a.yaml", "--model.weight", "2"], ["--model.weight=2", "-c", "a.yaml"]):
            model, _, trainer, options = build(*argv).instantiate()
            assert (model.weight, model.width, trainer["max_epochs"]) == (2.0, 5, 7)
        assert set(vars(options)) == {"method", "dataset", "name", "wandb", "seed_everything"}

    def test_layers(self, write):
        write("configs/methods/other.yaml", "method: other\nmodel:\n  width: 5\n")
        write("configs/folder/dataset.yaml", "dataset: folder\ndata:\n  root: .\n")
        parsed = build("--config", "configs/folder/other.yaml")
        assert (parsed.method_class, parsed.dataset_class) == (Other, Folder)
        assert parsed.instantiate().model.width == 5
        assert parsed.where("model.width") == f"{Path('configs/methods/other.yaml')}, line 3"
        assert parsed.where("model.optimizer.lr") is None

    def test_method_and_dataset_on_the_command_line_win(self, write):
        write("a.yaml", "method: other\ndataset: folder\n")
        parsed = build("--config", "a.yaml", "--method", "frossl", "--dataset=digits")
        assert (parsed.method_class, parsed.dataset_class) == (Frossl, Digits)
        assert (parsed.config.method, parsed.config.dataset) == ("frossl", "digits")

    def test_plain_words_keep_their_meaning(self, write):
        write("a.yaml", "name: off\nwandb: true\nmodel:\n  optimizer: {lr: 1e-4, nesterov: on}\n")
        model, _, _, options = build("--config", "a.yaml").instantiate()
        assert model.optimizer_config == Optimizer(lr=1e-4, nesterov=True)
        assert (options.name, options.wandb) == ("off", True)

    def test_text_that_looks_like_something_else_stays_text(self, write):
        write("a.yaml", "name: '1e-4'\ndata:\n  root: 'null'\n")
        _, data, _, options = build("--config", "a.yaml").instantiate()
        assert (options.name, data.root) == ("1e-4", "null")
        assert build("--name", "2024").config.name == "2024"

    def test_lists_of_dataclasses(self, write):
        write("a.yaml", "data:\n  views:\n  - recipe: weak\n  - size: 96\n")
        assert build("--config", "a.yaml").instantiate().data.views == [View("weak"), View(size=96)]
        assert build("--data.views", '[{"recipe": "weak"}]').instantiate().data.views == [View("weak")]

    @pytest.mark.parametrize(
        "given", [["--data.views", "[{recipe: symmetric}, {}]"], ["--data.views=[{recipe: symmetric}, {}]"]]
    )
    def test_a_list_on_the_command_line_takes_nothing_from_the_one_it_replaces(self, write, given):
        write("a.yaml", "data:\n  views:\n  - recipe: weak\n    size: 96\n  - size: 32\n")
        assert build("--config", "a.yaml", *given).instantiate().data.views == [View(), View()]

    def test_what_follows_the_data_and_the_seed(self):
        model, data, _, _ = build("--data.batch_size", "32", "--seed_everything", "5").instantiate()
        assert (model.batch_size, model.num_classes, model.channels, data.seed) == (32, 7, 1, 5)

    def test_trainer_objects_are_built(self, write):
        callback = "{class_path: EarlyStopping, init_args: {monitor: train/loss}}"
        write("a.yaml", f"trainer:\n  callbacks:\n  - {callback}\n")
        callbacks = build("--config", "a.yaml").instantiate().trainer["callbacks"]
        assert [type(callback) for callback in callbacks] == [EarlyStopping]

    def test_hyperparameters_are_plain_values(self):
        """So that a checkpoint that holds them can be read with ``weights_only=True``."""
        hparams = dict(build("--model.optimizer.lr", "0.1").instantiate().model.hparams)
        assert hparams["optimizer"] == {"lr": 0.1, "nesterov": False}
        assert hparams["num_classes"] == 7


class TestAgain:
    def test_the_resolved_configuration_makes_the_same_run(self, write):
        write("a.yaml", "method: other\nmodel:\n  optimizer: {lr: 1e-5}\ndata:\n  views: [{size: 96}]\n  subset: 0.1\n")
        first = build("--config", "a.yaml", "--model.width", "3", "--seed_everything", "4", "--wandb")
        write("runs/x/config.yaml", yaml.safe_dump(first.resolved))
        again = build("--config", "runs/x/config.yaml")
        assert again.resolved == first.resolved
        assert again.config.as_dict() == first.config.as_dict()
        assert first.resolved["method"] == "other"
        assert first.resolved["data"]["views"] == [{"recipe": "symmetric", "size": 96}]

    def test_print_config_is_that_configuration(self, write, capsys):
        write("a.yaml", "model:\n  weight: 1.4\n")
        with pytest.raises(SystemExit) as stop:
            build("--config", "a.yaml", "--print_config", "--model.width", "3")
        assert stop.value.code == 0
        printed = yaml.safe_load(capsys.readouterr().out)
        assert printed == build("--config", "a.yaml", "--model.width", "3").resolved

    def test_print_config_refuses_what_a_run_would(self, write):
        write("a.yaml", "model:\n  weihgt: 1.4\n")
        assert "model.weihgt is not a known key" in refused("--config", "a.yaml", "--print_config")

        write("a.yaml", "model:\n  batch_size: 3\n")
        assert "model.batch_size is 3, but follows" in refused("--config", "a.yaml", "--print_config")

    def test_default_views_are_plain_values(self):
        assert build().resolved["data"]["views"] == 2 * [{"recipe": "symmetric", "size": None}]

    def test_linked_values_may_stand_in_the_file(self, write):
        write("a.yaml", "model: {batch_size: 32, num_classes: 7}\ndata: {batch_size: 32, seed: 0}\n")
        assert build("--config", "a.yaml").instantiate().model.batch_size == 32


class TestHelp:
    def help(self, capsys, *argv) -> str:
        with pytest.raises(SystemExit) as stop:
            build(*argv, "--help")
        assert stop.value.code == 0
        return " ".join(capsys.readouterr().out.split())

    def test_every_key_with_its_text(self, capsys):
        text = self.help(capsys)
        for expected in (
            "--model.weight WEIGHT weight of the distance between views. (type: float, default: 1.0)",
            "--model.width WIDTH neurons of the hidden layer.",
            "--model.optimizer.lr LR learning rate per 256 images. (type: float, default: 0.3)",
            "--data.root ROOT folder of the files.",
            "--name NAME Name of the run.",
            "--trainer.max_epochs",
        ):
            assert expected in text

    def test_lists_methods_and_datasets(self, capsys):
        text = self.help(capsys)
        assert "frossl, other" in text
        assert "digits, folder" in text

    def test_of_the_method_and_dataset_chosen(self, capsys):
        text = self.help(capsys, "--method", "other", "--dataset", "folder")
        assert "--model.weight" not in text
        assert "--data.batch_size" not in text

    def test_shows_the_values_of_the_files(self, capsys, write):
        write("a.yaml", "model:\n  optimizer:\n    lr: 0.125\n")
        assert "(type: float, default: 0.125)" in self.help(capsys, "--config", "a.yaml")


class TestRefused:
    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("model:\n  weihgt: 2\n", "a.yaml, line 2: model.weihgt is not a known key; did you mean model.weight?"),
            ("model:\n  optimizer:\n    lrr: 2\n", "a.yaml, line 3: model.optimizer.lrr is not a known key"),
            ("data:\n  views:\n  - recip: weak\n", "a.yaml, line 3: data.views[0].recip is not a known key"),
            ("data:\n  views:\n  - {}\n  - size: x\n", "a.yaml, line 4: data.views[1].size must be a whole number"),
            ("trainer:\n  max_epoch: 2\n", "a.yaml, line 2: trainer.max_epoch is not a known key; did you mean"),
            ("modle:\n  width: 2\n", "a.yaml, line 1: modle is not a known key; did you mean model?"),
            ("model:\n", "a.yaml, line 1: model is null, but stands for a group of keys: weight, width"),
            ("model:\n  optimizer:\n    lr: high\n", "a.yaml, line 3: model.optimizer.lr must be a number, not high"),
            ("seed_everything: x\n", "a.yaml, line 1: seed_everything must be a whole number, not x"),
            ("method: frosll\n", "a.yaml, line 1: method frosll is not known; did you mean frossl?"),
            ("method: 3\n", "a.yaml, line 1: method 3 is not known"),
            ("dataset: [a]\n", "a.yaml, line 1: dataset ['a'] is not known"),
            ("model:\n  batch_size: 3\n", "a.yaml, line 2: model.batch_size is 3, but follows data.batch_size"),
            ("data:\n  seed: 3\n", "a.yaml, line 2: data.seed is 3, but follows seed_everything, which is 0"),
            ("model:\n  num_classes: 3\n", "a.yaml, line 2: model.num_classes is 3, but follows data.num_classes"),
            ("model:\n  width: 0\n", "model: width is 0: it must be at least 1 (a.yaml, line 2)"),
            (
                "model:\n  optimizer: {lr: -1}\n",
                "model.optimizer.lr is -1.0: it must be positive (a.yaml, line 2)",
            ),
            ("data:\n  views: [{size: 0}]\n", "data.views: views need a size of at least 1 (a.yaml, line 2)"),
            ("data:\n  probe_view: {size: 0}\n", "data.probe_view: views need a size of at least 1 (a.yaml, line 2)"),
            ("model: {width: 1\n", "a.yaml: expected ',' or '}'"),
        ],
    )
    def test_in_a_file(self, write, text, message):
        assert refused("--config", write("a.yaml", text)).startswith(message)

    @pytest.mark.parametrize(
        ("argv", "message"),
        [
            (["--model.weihgt", "2"], "model.weihgt is not a known key; did you mean model.weight?"),
            (["--model.weihgt=2"], "model.weihgt is not a known key; did you mean model.weight?"),
            (["--model.weihgt"], "model.weihgt is not a known key"),
            (["--model.wei", "2"], "model.wei is not a known key"),
            (["--lr", "2"], "lr is not a known key; did you mean model.optimizer.lr?"),
            (["--model.width", "2", "--data.rot", "a"], "data.rot is not a known key; did you mean data.root?"),
            (["--model.width", "2.5"], "model.width must be a whole number, not 2.5"),
            (["--model.width"], "model.width needs a value"),
            (["--model.width", "--wandb"], "model.width needs a value"),
            (["--wandb=yes"], "wandb takes no value"),
            (["--model", "null"], "model is null, but stands for a group of keys"),
            (["--data.views", '[{"recip": "weak"}]'], "data.views[0].recip is not a known key"),
            (["--data.views", '[{"recipe": "waek"}]'], "data.views[0].recipe must be weak or symmetric, not waek"),
            (["--model.num_classes", "3"], "model.num_classes cannot be set, it follows data.num_classes"),
            (["--data.seed", "3"], "data.seed cannot be set, it follows seed_everything"),
            (["fast"], "fast is neither an option nor the value of one"),
            (["--config"], "--config needs a value"),
            (["--method", "frosll"], "method frosll is not known; did you mean frossl? There are frossl, other"),
            (["--dataset", "numpy.nothing"], "dataset numpy.nothing cannot be imported"),
            (["--dataset", "no.such.Class"], "dataset no.such.Class cannot be imported: No module named 'no'"),
            (["--method", "torch.nn.Linear"], "method torch.nn.Linear is not a subclass of LightningModule"),
        ],
    )
    def test_on_the_command_line(self, argv, message):
        assert refused(*argv).startswith(f"command line: {message}")

    def test_a_value_out_of_range_on_the_command_line_is_not_blamed_on_the_file(self, write):
        write("a.yaml", "model:\n  optimizer: {lr: 1}\n")
        message = refused("--config", "a.yaml", "--model.optimizer.lr=-2")
        assert message == "model.optimizer.lr is -2.0: it must be positive (command line)"

    def test_what_must_be_given(self):
        assert refused("--dataset", "folder").startswith("data.root has no default: give it")

    def test_another_program_s_options_may_be_passed_over(self, write):
        write("a.yaml", "knn:\n  k: 3\nmodel:\n  width: 5\n")
        assert refused("--config", "a.yaml").startswith("a.yaml, line 1: knn is not a known key")
        assert build("--config", "a.yaml", ignored=["knn"]).config.model.width == 5

    def test_a_missing_folder(self, write):
        message = refused("--dataset", "folder", "--data.root", "nowhere")
        assert message == "data: there is no folder nowhere: set data.root (command line)"

    @pytest.mark.parametrize("wrong", [{"accelerator": "abacus"}, {"accelerator": "cpu", "devices": "x"}], ids=str)
    def test_what_the_trainer_refuses(self, wrong):
        with pytest.raises(ConfigError, match=r"^trainer: .*(abacus|devices)"):
            build_trainer(logger=False, **wrong)

    def test_other_errors_keep_their_traceback(self, monkeypatch):
        monkeypatch.setattr(Frossl, "__init__", lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            build().instantiate()


OWN_METHOD = """
from lightning.pytorch import LightningModule
class Mine(LightningModule):
    def __init__(self, depth: int = 2):
        super().__init__()
        self.depth = depth
"""


def test_a_class_of_ones_own(write, monkeypatch):
    write("mine/net.py", OWN_METHOD)
    monkeypatch.setattr(sys, "path", [*sys.path])
    parsed = build("--method", "mine.net.Mine", "--model.depth", "4")
    assert parsed.instantiate().model.depth == 4
    assert parsed.resolved["method"] == "mine.net.Mine"


def test_a_program_that_takes_data_only(write, capsys):
    """Options of methods and of the Trainer are not known to it, and those in files are passed over."""
    only_data = {"methods": None, "datasets": {"digits": Digits, "folder": Folder}, "add_arguments": add_options}
    file = write("a.yaml", "method: other\nmodel: {width: 3}\ntrainer: {max_epochs: 5}\nname: a\n")
    parsed = build_cli(["--config", file], prog="probe.py", **only_data)
    built = parsed.instantiate()
    assert (built.model, built.trainer, built.options.name) == (None, {}, "a")
    assert isinstance(built.data, Digits)
    assert parsed.resolved.keys() == {"dataset", "data", "name", "wandb", "seed_everything"}
    for argument in ("--method=other", "--model.width=3", "--trainer.max_epochs=5"):
        with pytest.raises(ConfigError, match="is not a known key"):
            build_cli([argument], **only_data)
    with pytest.raises(SystemExit):
        build_cli(["--help"], prog="probe.py", **only_data)
    usage = capsys.readouterr().out
    assert "usage: probe.py [--config FILE] [--dataset NAME] [--key value ...]" in usage
    assert "--trainer" not in usage

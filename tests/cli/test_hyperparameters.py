"""The hyperparameters of the papers' tables, cell by cell, and the ranges that a method refuses to leave."""

import inspect
import math
from functools import cache

import pytest

from solo_frossl.augment import View
from solo_frossl.cli.config import compose, merge
from solo_frossl.cli.parser import build_cli
from solo_frossl.cli.pretrain import TRAINER_DEFAULTS, pretrain
from solo_frossl.data import DATASETS
from solo_frossl.methods import METHODS, Method
from solo_frossl.methods.heads import ProjectorConfig
from solo_frossl.probe.linear import LinearConfig

COLUMNS = {"C": "cifar10", "C-100": "cifar100", "S": "stl10", "I": "imagenet100"}
"""Columns of the table: CIFAR-10, CIFAR-100, STL-10, ImageNet-100."""

# Cells: one value for all columns, or a value a column, where C stands for both CIFARs unless C-100 is there too.
COMMON = {
    "data.batch_size": 256,
    "data.image_size": {"C": None, "S": None, "I": 224},  # None is the dataset's own: 32 and 96
    "model.backbone": "resnet18",
    "model.channels_last": True,
    "model.optimizer.classifier_lr": 0.1,
    "model.optimizer.classifier_weight_decay": 0.0,
    "model.optimizer.clip_lr": True,
    "model.optimizer.eta": 0.02,
    "model.optimizer.exclude_bias_and_norm": True,
    "model.optimizer.momentum": 0.9,
    "model.optimizer.name": "lars",
    "model.optimizer.nesterov": False,
    "model.schedule.final_lr": 0.0,
    "model.schedule.name": "warmup_cosine",
    "model.schedule.warmup_epochs": 10,
    "model.schedule.warmup_start_lr": 3e-5,
    "model.stem": {"C": "cifar", "S": "imagenet", "I": "imagenet"},
    "trainer.max_epochs": {"C": 1000, "S": 500, "I": 400},
    "trainer.sync_batchnorm": True,
}
"""What every row has that does not say otherwise."""


def projector(hidden, output, layers, batch_norm=True, output_batch_norm=False, activation="relu"):
    names = ("hidden", "output", "layers", "batch_norm", "output_batch_norm", "activation")
    values = (hidden, output, layers, batch_norm, output_batch_norm, activation)
    return {f"model.projector.{name}": value for name, value in zip(names, values, strict=True)}


def trained(lr, weight_decay, **optimizer):
    return {
        "model.optimizer.lr": lr,
        "model.optimizer.weight_decay": weight_decay,
        **{f"model.optimizer.{name}": value for name, value in optimizer.items()},
    }


def tau(base, final):
    return {"model.momentum.base_tau": base, "model.momentum.final_tau": final}


FROSSL = {
    **projector(2048, 1024, 3),
    # The paper's text (Sec. 6.1) has lr 0.3 and weight decay 1e-6; its authors' files 0.1 on STL-10, and 1e-4.
    **trained(0.3, 1e-6),
    "model.variance_weight": 1.0,
    "model.normalization": "dimension",
    "views": {"C": "sym", "S": "weak", "I": "sym"},
}
CLOSED_FORM = {
    **projector(4096, 256, 2),
    **trained(1.0, 4e-4),
    **tau(0.99, 1.0),
    "model.similarity": "cosine",
    "model.correlation_momentum": 0.998,
    "model.normalize_predictor": True,
    "model.scale": 2.0,
    "model.stop_gradient": True,
    "model.use_predictor": True,
    "views": {"C": "asym", "S": "asym blurred", "I": "asym blurred"},  # S: Halvagal et al. 2023, Table 4
}
ASYM = {"C": "asym", "S": "asym", "I": "asym blurred"}

TABLE = {
    "frossl": FROSSL | {"model.log_variance": True, "model.invariance_weight": {"C": 1.0, "S": 1.4, "I": 2.0}},
    # No tradeoff between the two terms: the paper's Sec. 6.3.
    "frossl_no_logs": FROSSL | {"model.log_variance": False, "model.invariance_weight": 1.0},
    "simclr": {
        **projector({"C": 2048, "S": 2048, "I": 4096}, {"C": 256, "S": 512, "I": 512}, 2, batch_norm=False),
        **trained({"C": 0.4, "S": 0.3, "I": 0.3}, 1e-4),
        "model.temperature": {"C": 0.2, "S": 0.5, "I": 0.2},
        "views": "sym",
    },
    "swav": {
        **projector(2048, 128, 2),
        **trained(0.6, 1e-6),
        "model.num_prototypes": 3000,
        "model.global_views": 2,
        "model.queue_size": 3840,
        "model.queue_from_epoch": 50,
        "model.freeze_prototypes_epochs": 2,
        "model.temperature": 0.1,
        "model.epsilon": 0.05,
        "model.sinkhorn_iterations": 3,
        "views": "sym",
    },
    "moco_v2": {
        **projector(2048, 256, 2, batch_norm=False),
        **trained(0.3, 1e-4, name="sgd", classifier_lr=0.3),
        **tau(0.99, 0.999),
        "model.queue_size": {"C": 32768, "S": 32768, "I": 65536},
        "model.temperature": 0.2,
        "trainer.sync_batchnorm": False,  # images are shuffled over processes instead
        "views": "weak",
    },
    "simsiam": {
        **projector(2048, 2048, 3, output_batch_norm=True),
        **trained(0.5, 1e-5, name="sgd"),
        "model.predictor.hidden": 512,
        "model.predictor.batch_norm": True,
        "views": {"C": "weak", "S": "weak", "I": "asym blurred"},
    },
    "byol": {
        **projector(4096, 256, 2),
        **trained({"C": 1.0, "S": 1.0, "I": 0.5}, {"C": 1e-5, "S": 1e-5, "I": 1e-6}),
        **tau(0.99, 1.0),
        "model.predictor.hidden": {"C": 4096, "S": 4096, "I": 8192},
        "model.predictor.batch_norm": True,
        "views": ASYM,
    },
    "dino": {
        **projector(2048, 256, 3, batch_norm=False, activation="gelu"),
        **trained(0.3, 1e-6),
        **tau(0.9995, 1.0),
        "model.num_prototypes": 4096,
        "model.global_views": 2,
        "model.student_temperature": 0.1,
        # The code behind the CIFAR tables warms up by default; docs/methods.md.
        "model.warmup_teacher_temperature": 0.04,
        "model.teacher_temperature": 0.07,
        "model.warmup_teacher_temperature_epochs": 50,
        "model.centre_momentum": 0.9,
        "model.freeze_prototypes_epochs": 1,
        "views": ASYM,
    },
    "vicreg": {
        **projector(2048, {"C": 2048, "S": 1024, "I": 2048}, 3),
        **trained(0.3, 1e-4),
        "model.invariance_weight": 25.0,
        "model.variance_weight": 25.0,
        "model.covariance_weight": 1.0,
        "views": {"C": "vic", "S": "vic", "I": "vic blurred"},
    },
    "barlow_twins": {
        **projector(2048, 2048, 3),
        **trained(0.3, 1e-4),
        "model.scale": 0.1,
        "model.off_diagonal_weight": 0.0051,
        "views": {"C": "asym", "S": "sym", "I": "asym blurred"},
    },
    "wmse": {
        **projector(1024, {"C": 64, "S": 128, "I": 64}, 2),
        **trained(
            {"C": 2e-3, "S": 0.1, "I": 2e-3},
            {"C": 1e-6, "S": 1e-4, "I": 1e-6},
            name={"C": "adam", "S": "lars", "I": "adam"},
            classifier_lr={"C": 3e-3, "S": 0.1, "I": 3e-3},
        ),
        "model.schedule.warmup_epochs": {"C": 10, "S": 0, "I": 10},
        "model.whitening_size": {"C": 128, "S": 256, "I": 128},
        "model.whitening_iterations": {"C": 1, "S": 4, "I": 1},
        "model.whitening_eps": 0.0,
        "views": {"C": "wmse", "S": "wmse", "I": "wmse blurred"},
    },
    "corinfomax": {
        **projector({"C": 2048, "C-100": 4096, "S": 4096, "I": 4096}, {"C": 64, "C-100": 128, "S": 256, "I": 256}, 3),
        **trained({"C": 0.3, "S": 0.5, "I": 0.5}, 1e-4),
        "model.invariance_weight": {"C": 250.0, "C-100": 1000.0, "S": 500.0, "I": 500.0},
        "model.forgetting_factor": 0.01,
        "model.eps": 1e-6,
        "model.normalize": False,
        "views": {"C": "asym", "S": "sym", "I": "sym"},
    },
    "directpred": CLOSED_FORM | {"model.alpha": 0.5, "model.predictor_eps": 0.0},
    "directcopy": CLOSED_FORM | {"model.alpha": 1.0, "model.predictor_eps": 0.25},
    "isoloss": CLOSED_FORM | {"model.alpha": 0.5, "model.predictor_eps": 0.0},
}
"""The rows; ``views`` names an entry of :data:`VIEWS`."""


def view(crop_least, jitter, blur=0.0, solarize=0.0, size=None):
    names = ("brightness", "contrast", "saturation", "hue")
    return {
        "size": size,
        "crop_scale": (crop_least, 1.0),
        **dict(zip(names, jitter, strict=True)),
        "jitter_probability": 0.8,
        "flip_probability": 0.5,
        "grayscale_probability": 0.2,
        "blur_probability": blur,
        "blur_sigma": (0.1, 2.0),
        "solarize_probability": solarize,
        "interpolation": "bicubic",
    }


STRONG, MILD, BYOL_JITTER = (0.8, 0.8, 0.8, 0.2), (0.4, 0.4, 0.4, 0.1), (0.4, 0.4, 0.2, 0.1)
VIEWS = {
    "sym": 2 * [view(0.08, STRONG, 0.5)],
    "weak": 2 * [view(0.08, MILD, 0.5)],
    "asym": [view(0.08, BYOL_JITTER), view(0.08, BYOL_JITTER, solarize=0.2)],
    "asym blurred": [view(0.08, BYOL_JITTER, 1.0), view(0.08, BYOL_JITTER, 0.1, solarize=0.2)],
    "vic": 2 * [view(0.2, BYOL_JITTER, solarize=0.1)],
    "vic blurred": 2 * [view(0.2, BYOL_JITTER, 0.5, solarize=0.1)],
    "wmse": 2 * [view(0.2, STRONG)],
    "wmse blurred": 2 * [view(0.2, STRONG, 0.2)] + 6 * [view(0.2, STRONG, 0.2, size=96)],
}
"""The table of augmentations: the views of each set."""


@cache
def defaults(method: str) -> dict:
    """What a run has of a method without any file."""
    return build_cli(
        ["--method", method],
        methods=METHODS,
        datasets=DATASETS,
        add_arguments=lambda parser: None,
        trainer_defaults=TRAINER_DEFAULTS,
    ).resolved


def configuration(dataset: str, name: str):
    """A function from a dotted key to the value of a pair, and its views."""
    composed = compose([f"configs/{dataset}/{name}.yaml"])
    values = merge(defaults(composed.get("method")), composed.values)

    def get(key):
        value = values
        for part in key.split("."):
            value = value[part]
        return value

    return get, made_views(get("data.views"))


def made_views(entries: list[dict]) -> list[dict]:
    made = []
    for entry in entries:
        one = View(**{k: tuple(v) if isinstance(v, list) else v for k, v in entry.items()})
        recipe = one.resolve()
        values = {key: one.size if key == "size" else getattr(recipe, key) for key in VIEWS["sym"][0]}
        made += one.count * [values]
    return made


def cell(value, column):
    if not isinstance(value, dict):
        return value
    return value[column] if column in value else value[column.partition("-")[0]]


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("name", TABLE)
def test_every_cell_of_the_table(name, column):
    row = COMMON | TABLE[name]
    expected = {key: cell(value, column) for key, value in row.items()}
    get, views = configuration(COLUMNS[column], name)
    views_expected = VIEWS[expected.pop("views")]
    assert {key: get(key) for key in expected} == expected
    assert views == views_expected


@pytest.mark.parametrize("name", TABLE)
def test_the_rows_name_every_hyperparameter_of_their_method(name):
    method = METHODS[name.removesuffix("_no_logs")]
    assert {f"model.{p}" for p in own_parameters(method)} <= TABLE[name].keys()


IMAGENET = {
    "data.batch_size": 224,
    "data.image_size": 224,
    "model.optimizer.name": "sgd",
    "model.optimizer.lr": 1e-2,
    "model.optimizer.weight_decay": 5e-4,
    "model.optimizer.classifier_lr": 0.1,
    "model.schedule.name": "warm_restarts",
    "model.schedule.restart_epochs": 15,
    "model.schedule.warmup_epochs": 0,
    "model.stem": "imagenet",
    "trainer.max_epochs": 100,
}
IMAGENET_OWN = {
    "frossl": {"model.invariance_weight": 2.0},
    "frossl_no_logs": {"model.invariance_weight": 1.0},
    "barlow_twins": {"model.off_diagonal_weight": 0.005},
    "moco_v2": {"model.queue_size": 65536, "model.optimizer.classifier_lr": 0.3},  # chosen for SGD
    "wmse": {"model.whitening_size": 224},
}


@pytest.mark.parametrize("name", TABLE)
def test_imagenet_is_set_up_as_the_paper_s_figure_4(name):
    expected = IMAGENET | IMAGENET_OWN.get(name, {})
    get, views = configuration("imagenet", name)
    assert {key: get(key) for key in expected} == expected
    assert views == VIEWS["sym"]


@pytest.mark.parametrize("name", ["directpred", "directcopy", "isoloss", "byol"])
def test_tinyimagenet_is_set_up_as_the_table_4_of_the_implicit_paper(name):
    get, views = configuration("tinyimagenet", name)
    assert get("model.stem") == {"kernel_size": 3, "stride": 1, "max_pool": True}
    assert views == VIEWS["asym"]
    assert DATASETS["tinyimagenet"].native_size == 64


def test_the_linear_probe_of_the_small_sets():
    config = LinearConfig()
    assert (config.optimizer, config.learning_rate, config.weight_decay) == ("sgd", 0.3, 0.0)
    assert [share * config.epochs for share in config.decay_at] == [60, 80]


# --------------------------------------------------------------------------------------------------------- their ranges


def own_parameters(method: type[Method]) -> dict[str, type]:
    """Names and types of a method's own numbers: what its classes below ``Method`` take."""
    signatures = [
        inspect.signature(cls.__init__) for cls in method.__mro__ if issubclass(cls, Method) and cls != Method
    ]
    return {p.name: p.annotation for s in signatures for p in s.parameters.values() if p.annotation in (int, float)}


NUMBERS = [
    pytest.param(method, parameter, value, id=f"{name}-{parameter}-{value}")
    for name, method in METHODS.items()
    for parameter, kind in own_parameters(method).items()
    for value in ([-1] if kind is int else [-1.0, math.nan, math.inf])
]
LIMITS = {
    "barlow_twins": {"scale": [0.0]},
    "corinfomax": {"forgetting_factor": [1.0]},
    "dino": {
        "num_prototypes": [0, 1],
        "global_views": [0],
        "student_temperature": [0.0],
        "teacher_temperature": [0.0],
        "warmup_teacher_temperature": [0.0],
        "centre_momentum": [1.1],
    },
    "directcopy": {"alpha": [0.0]},
    "directpred": {"alpha": [0.0], "correlation_momentum": [1.0], "scale": [0.0]},
    "isoloss": {"alpha": [0.0], "correlation_momentum": [1.0], "scale": [0.0]},
    "moco_v2": {"temperature": [0.0], "queue_size": [0]},
    "simclr": {"temperature": [0.0, -0.1]},
    "swav": {
        "num_prototypes": [0, 1],
        "global_views": [0],
        "temperature": [0.0],
        "epsilon": [0.0],
        "sinkhorn_iterations": [0],
    },
    "wmse": {"whitening_size": [0], "whitening_iterations": [0], "whitening_eps": [1.0]},
}
"""Further values that are out of range: those at the limit."""
AT_THE_LIMIT = [
    pytest.param(METHODS[name], parameter, value, id=f"{name}-{parameter}-{value}")
    for name, parameters in LIMITS.items()
    for parameter, values in parameters.items()
    for value in values
]


@pytest.mark.parametrize(("method", "parameter", "value"), [*NUMBERS, *AT_THE_LIMIT])
def test_a_number_out_of_range_is_refused_by_its_key(method, parameter, value):
    with pytest.raises(ValueError, match=rf"^model\.{parameter} is {value}: it must be \S"):
        method(**{parameter: value})


@pytest.mark.parametrize(
    ("whitening_size", "message"),
    [
        (100, r"model\.whitening_size is 100: it must divide data\.batch_size, 256"),
        (64, r"model\.whitening_size is 64: it must be at least twice model\.projector\.output, 40"),
    ],
)
def test_a_whitening_size_that_fits_neither_batch_nor_embeddings(whitening_size, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        METHODS["wmse"](whitening_size=whitening_size, backbone="test_resnet", projector=ProjectorConfig(8, 40))


@pytest.mark.parametrize(
    ("method", "arguments", "message"),
    [
        ("simclr", ["temperature=-0.1"], "model.temperature is -0.1: it must be above 0, and finite (command line)"),
        ("wmse", ["whitening_size=100", "projector.output=8"], "model.whitening_size is 100: it must divide"),
        ("swav", ["global_views=3"], "model.global_views is 3: it must be from 1 to 2"),
        ("dino", ["global_views=3"], "model.global_views is 3: it must be from 1 to 2"),
        ("byol", ["momentum.base_tau=2"], "model.momentum.base_tau is 2"),
    ],
)
def test_a_run_is_refused_before_it_begins(tmp_path, capsys, method, arguments, message):
    given = [f"--model.{argument}" for argument in arguments]
    with pytest.raises(SystemExit) as stop:
        pretrain(["--config", f"configs/digits/{method}.yaml", f"--runs_dir={tmp_path / 'runs'}", *given])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_batch_of_one_is_refused():
    with pytest.raises(ValueError, match=r"^data\.batch_size is 1: it must be at least 2"):
        METHODS["frossl"](batch_size=1)

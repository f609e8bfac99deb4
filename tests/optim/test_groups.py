import pytest
import torch
from torch import nn

from solo_frossl.optim import (
    LARS,
    OptimizerConfig,
    build_optimizer,
    exclude_bias_and_norm,
    named_groups,
    parameter_groups,
)


@pytest.fixture
def modules():
    backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    return {"backbone": backbone, "projector": nn.Linear(4, 2)}


def by_name(groups):
    return {group["name"]: group for group in groups}


class TestGroups:
    def test_biases_and_norms_stand_apart(self, modules):
        conv, norm = modules["backbone"]
        projector, classifier = modules["projector"], nn.Linear(4, 3)
        groups = parameter_groups(modules, OptimizerConfig(), 256, classifier=classifier)
        assert [group["name"] for group in groups] == ["main", "main excluded", "classifier", "classifier excluded"]
        expected = [
            [conv.weight, projector.weight],
            [conv.bias, norm.weight, norm.bias, projector.bias],
            [classifier.weight],
            [classifier.bias],
        ]
        for group, parameters in zip(groups, expected, strict=True):
            assert [id(p) for p in group["params"]] == [id(p) for p in parameters]
        assert [(group["adapt"], group["weight_decay"]) for group in groups] == [
            (True, 1e-4),
            (False, 0.0),
            (True, 0.0),
            (False, 0.0),
        ]

    def test_can_be_left_together(self, modules):
        groups = parameter_groups(modules, OptimizerConfig(exclude_bias_and_norm=False), 256)
        assert [(group["name"], len(group["params"])) for group in groups] == [("main", 6)]
        assert groups[0]["weight_decay"] == 1e-4

    def test_learning_rates_grow_with_the_batch(self, modules):
        config = OptimizerConfig(lr=0.4, classifier_lr=0.2, classifier_weight_decay=0.01)
        groups = by_name(parameter_groups(modules, config, 512, classifier=nn.Linear(4, 3)))
        assert {name: group["peak_lr"] for name, group in groups.items()} == {
            "main": 0.8,
            "main excluded": 0.8,
            "classifier": 0.4,
            "classifier excluded": 0.4,
        }
        assert all(group["lr"] == group["peak_lr"] for group in groups.values())
        assert all(group["scheduled"] for group in groups.values())
        assert groups["classifier"]["weight_decay"] == 0.01

    def test_frozen_parameters_are_left_out_and_shared_ones_come_once(self, modules):
        modules["backbone"].requires_grad_(False)
        modules["again"] = modules["projector"]
        groups = parameter_groups(modules, OptimizerConfig(), 256)
        assert [len(group["params"]) for group in groups] == [1, 1]
        build_optimizer(OptimizerConfig(), groups)

    def test_a_method_adds_its_own(self):
        predictor = nn.Linear(2, 2)
        groups = named_groups(
            "predictor",
            predictor.named_parameters(),
            OptimizerConfig(),
            peak_lr=0.5,
            weight_decay=1e-5,
            scheduled=False,
        )
        assert [(g["name"], g["scheduled"], g["peak_lr"]) for g in groups] == [
            ("predictor", False, 0.5),
            ("predictor excluded", False, 0.5),
        ]

    @pytest.mark.parametrize(
        ("module", "excluded"),
        [
            (nn.Linear(2, 2), ["bias"]),
            (nn.LayerNorm(2), ["weight", "bias"]),
            (nn.GroupNorm(1, 2), ["weight", "bias"]),
            (nn.PReLU(), ["weight"]),
        ],
    )
    def test_what_is_excluded(self, module, excluded):
        assert [name for name, p in module.named_parameters() if exclude_bias_and_norm(name, p)] == excluded


class TestOptimizers:
    @pytest.mark.parametrize(
        ("name", "kind"),
        [("lars", LARS), ("sgd", torch.optim.SGD), ("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)],
    )
    def test_carry_their_options(self, modules, name, kind):
        config = OptimizerConfig(
            name=name, momentum=0.8, nesterov=True, eta=0.5, clip_lr=False, betas=(0.8, 0.9), weight_decay=0.2
        )
        optimizer = build_optimizer(config, parameter_groups(modules, config, 128))
        assert type(optimizer) is kind
        main, excluded = optimizer.param_groups
        assert (main["weight_decay"], excluded["weight_decay"]) == (0.2, 0.0)
        assert main["lr"] == 0.15
        if name in ("lars", "sgd"):
            assert (main["momentum"], main["nesterov"]) == (0.8, True)
        else:
            assert main["betas"] == (0.8, 0.9)
        if name == "lars":
            assert (main["eta"], main["clip_lr"], main["adapt"], excluded["adapt"]) == (0.5, False, True, False)

    @pytest.mark.parametrize("name", ["lars", "sgd", "adam", "adamw"])
    def test_state_survives_a_file(self, modules, name, tmp_path):
        config = OptimizerConfig(name=name)
        optimizer = build_optimizer(config, parameter_groups(modules, config, 128))
        modules["projector"](torch.ones(3, 4)).sum().backward()
        optimizer.step()
        torch.save(optimizer.state_dict(), tmp_path / "optimizer.pt")
        state = torch.load(tmp_path / "optimizer.pt", weights_only=True)
        other = build_optimizer(config, parameter_groups(modules, config, 512))
        other.load_state_dict(state)
        assert [group["peak_lr"] for group in other.param_groups] == [0.15, 0.15]

    def test_nothing_to_train_is_refused(self, modules):
        for module in modules.values():
            module.requires_grad_(False)
        with pytest.raises(ValueError, match="nothing to train"):
            build_optimizer(OptimizerConfig(), parameter_groups(modules, OptimizerConfig(), 256))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "lamb"}, "optimizer.name is 'lamb'"),
        ({"lr": -0.1}, "optimizer.lr is -0.1"),
        ({"classifier_lr": float("nan")}, "optimizer.classifier_lr is nan"),
        ({"weight_decay": float("inf")}, "optimizer.weight_decay is inf"),
        ({"momentum": 1.0}, "optimizer.momentum is 1.0"),
        ({"betas": (0.9, 1.0)}, "optimizer.betas is"),
        ({"eta": 0.0}, "optimizer.eta is 0.0"),
        ({"nesterov": True, "momentum": 0.0}, "nesterov needs a momentum"),
    ],
)
def test_values_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        OptimizerConfig(**options)

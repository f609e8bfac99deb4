"""What the shapes of tensors tell of the network that they are from, and what they do not."""

import json

import pytest
import torch

from solo_frossl.methods.backbones import Stem, build_backbone
from solo_frossl.weights import Architecture, WeightsError, infer_architecture
from solo_frossl.weights.architecture import _RESNETS, usual_shapes


def tensors_of(architecture: Architecture) -> dict[str, torch.Tensor]:
    """Its tensors without any numbers in them."""
    with torch.device("meta"):
        return architecture.build().state_dict()


RESNETS = [
    *(Architecture(name) for name in ("resnet18", "resnet50", "wide_resnet50_2", "resnext50_32x4d")),
    Architecture("resnet34", "cifar", channels=1),
    Architecture("resnet26", Stem(5, 1, False)),
    *(Architecture("resnet18", "cifar", width=width) for width in (0.125, 0.25, 0.5, 2.0)),
    Architecture("resnet50", width=0.5),
    Architecture("wide_resnet50_2", width=0.25),
    Architecture("resnext50_32x4d", width=0.5),
]


@pytest.mark.parametrize("architecture", RESNETS, ids=str)
def test_a_resnet_is_told_by_its_blocks(architecture):
    assert infer_architecture(tensors_of(architecture)) == architecture
    assert infer_architecture(tensors_of(architecture), architecture.backbone) == architecture


@pytest.mark.slow
@pytest.mark.parametrize("name", _RESNETS.values())
def test_every_resnet_of_the_table(name):
    assert infer_architecture(tensors_of(Architecture(name))) == Architecture(name)


@pytest.mark.parametrize("name", ["vit_small_patch16_224", "vit_base_patch32_224", "convnext_tiny", "convnextv2_atto"])
def test_vit_and_convnext_are_told_by_their_shapes(name):
    found = infer_architecture(tensors_of(Architecture(name, channels=4)))
    assert (found.backbone, found.channels, found.stem) == (name, 4, "imagenet")
    assert found.image_size == (224 if "vit" in name else None)


@pytest.mark.parametrize(
    "name",
    [
        "pit_ti_224",  # whose first tensor of four dimensions are its positions
        "volo_d1_224",
        "samvit_base_patch16",
        "tresnet_m",  # whose first convolution sees 16 pixels as one
        "naflexvit_base_patch16_gap",  # which sees patches as vectors
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_the_channels_of_any_network(name, channels):
    with torch.device("meta"):
        tensors = build_backbone(name, channels=channels).state_dict()
    assert infer_architecture(tensors, name).channels == channels


def test_a_plain_resnet_without_a_tensor_or_with_a_wrong_one_is_told():
    tensors = tensors_of(Architecture("resnet18", channels=1))
    whole = dict(tensors)
    del tensors["layer3.0.conv2.weight"]
    with pytest.raises(WeightsError, match=r"like resnet18, but not the same:\n  missing: 1 tensor, layer3.0.conv2.we"):
        infer_architecture(tensors)
    whole["layer3.0.conv2.weight"] = torch.empty(7, 256, 3, 3, device="meta")
    with pytest.raises(WeightsError, match=r"layer3.0.conv2.weight is \(7, 256, 3, 3\), must be \(256, 256, 3, 3\)"):
        infer_architecture(whole)


@pytest.mark.parametrize("size", [32, 64, 224])
def test_the_positions_of_a_vit_tell_its_image_size(size):
    built = Architecture("vit_tiny_patch16_224", image_size=size)
    assert infer_architecture(tensors_of(built)) == built


@pytest.mark.parametrize(
    "name", ["resnet50d", "test_resnet", "vit_small_r26_s32_224", "deit_tiny_distilled_patch16_224"]
)
def test_relatives_that_are_not_the_usual_ones_must_be_named(name):
    tensors = tensors_of(Architecture(name))
    with pytest.raises(WeightsError, match="timm name as architecture"):
        infer_architecture(tensors)
    assert infer_architecture(tensors, name).backbone == name


def test_what_is_known_of_the_stem_besides_its_kernel():
    tensors = tensors_of(Architecture("resnet18", "cifar"))
    assert infer_architecture(tensors, padding=2).stem == Stem(3, 1, False, 2)
    assert infer_architecture(tensors, max_pool=True).stem == Stem(3, 1, True)
    assert infer_architecture(tensors, relu=False).stem == Stem(3, 1, False, relu=False)
    assert infer_architecture(tensors_of(Architecture("resnet18")), max_pool=False).stem == Stem(7, 2, False)


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(WeightsError, match=r"did you mean.*resnet18"):
        infer_architecture({}, "resnet_18")


def test_shapes_do_not_depend_on_what_was_asked_before():
    assert usual_shapes("resnet18")["conv1.weight"] == (64, 3, 7, 7)


# --------------------------------------------------------------------------------------------------- as plain values


@pytest.mark.parametrize(
    "architecture",
    [
        Architecture("resnet18"),
        Architecture("resnet50", "cifar", 0.25, 1, 32),
        Architecture("resnet18", Stem(3, 1, False, padding=2)),
        Architecture("resnet18", Stem(3, 1, False, relu=False)),
    ],
    ids=str,
)
def test_architectures_are_written_and_read_as_plain_values(architecture):
    values = json.loads(json.dumps(architecture.to_dict()))
    assert Architecture.from_dict(values) == architecture


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "missing"),
        ({"backbone": "resnet18", "depth": 3}, "no depth"),
        ({"backbone": "resnet18", "stem": "small"}, "stem is 'small'"),
        ({"backbone": "resnet18", "stem": {"kernel_size": 4}}, "must be odd"),
        ({"backbone": "resnet18", "stem": {"side": 4}}, "side"),
    ],
)
def test_what_is_no_architecture(values, message):
    with pytest.raises(WeightsError, match=message):
        Architecture.from_dict(values)


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        (Architecture("resnet_18"), "did you mean"),
        (Architecture("vit_tiny_patch16_224", width=0.5), "width is for ResNets"),
        (Architecture("convnext_atto", "cifar"), "no single-convolution ResNet stem"),
    ],
    ids=str,
)
def test_what_cannot_be_built(architecture, message):
    with pytest.raises(WeightsError, match=message):
        architecture.build()


def test_words():
    assert str(Architecture("resnet18")) == "resnet18"
    assert str(Architecture("resnet18", Stem(3, 1, False, 2), 0.25, 1, 32)) == (
        "resnet18 with a 3x3 stem of stride 1 and padding 2 without max-pool, width 0.25, 1 channel, 32 pixels"
    )
    assert str(Architecture("resnet18", Stem(3, 1, True, relu=False))) == (
        "resnet18 with a 3x3 stem of stride 1 with max-pool and without ReLU"
    )

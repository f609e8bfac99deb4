"""Checkpoints in the layouts of other libraries: the features are those of the network that was saved."""

import argparse
import re
from functools import partial
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from foreign_files import (
    CreatesAFile,
    features_of,
    foreign_class,
    generator_backbone,
    lightning_checkpoint,
    mlp,
    module,
    randomised,
    resnet,
    sequential,
    tensor_names,
)
from safetensors.torch import save_file
from torch import nn

from solo_frossl.methods.backbones import Stem
from solo_frossl.weights import Architecture, WeightsError, infer_architecture, load_backbone, recognise
from solo_frossl.weights.architecture import usual_shapes

CIFAR = {"small": True, "padding": 2}
"""The stem that solo-learn has for CIFAR."""
F = features_of()


@pytest.fixture
def saved(tmp_path):
    """A function that saves a file and gives its path; the files are deleted, for some are large."""
    paths = []

    def save(content, name="checkpoint.ckpt", **options):
        path = tmp_path / name
        paths.append(path)
        if name.endswith(".safetensors"):
            save_file({key: value.contiguous() for key, value in content.items()}, path)
        else:
            torch.save(content, path, **options)
        return path

    yield save
    for path in paths:
        path.unlink(missing_ok=True)


def images(size=32, channels=3):
    return torch.randn(4, channels, size, size, generator=torch.Generator().manual_seed(1))


def check(loaded, network, content=None, size=32, channels=3, tolerance=1e-6):
    """The same features, in eval mode; every tensor of the file in one place of the accounting."""
    assert not loaded.training
    batch = images(size, channels)
    with torch.no_grad():
        expected = network(batch).flatten(1)
        assert expected.std() > 1e-3
        torch.testing.assert_close(loaded(batch), expected, rtol=tolerance, atol=tolerance)
    assert loaded.num_features == expected.shape[1]
    if content is not None:
        accounting = loaded.accounting
        places = [accounting.loaded, accounting.unexpected, *accounting.left_out.values()]
        assert sum(map(len, places)) == len({name for place in places for name in place})
        assert {name for place in places for name in place} == tensor_names(content)
        assert not accounting.unexpected
        assert str(accounting).startswith(loaded.name)


# ---------------------------------------------------------------------------------------------------------- solo-learn


def solo_learn(encoder_name, encoder, momentum=None):
    """Its LightningModule: encoder, classifier, projector, and those of the target network."""
    parts = {encoder_name: encoder, "classifier": nn.Linear(F, 10), "projector": mlp(F)}
    if momentum is not None:
        parts |= {
            f"momentum_{encoder_name}": momentum,
            "momentum_projector": mlp(F, seed=2),
            "momentum_classifier": nn.Linear(F, 10),
            "predictor": mlp(8),
            "prototypes": nn.utils.parametrizations.weight_norm(nn.Linear(8, 5, bias=False)),
            "queue": torch.randn(2, 8, 16),
            "queue_ptr": torch.zeros(1, dtype=torch.long),
        }
    return module(**parts)


@pytest.mark.parametrize("name", ["encoder", "backbone"])
@pytest.mark.parametrize("stem", [{}, CIFAR], ids=["imagenet", "cifar"])
@pytest.mark.parametrize("role", ["backbone", "target"])
def test_solo_learn(saved, tmp_path, name, stem, role):
    networks = {"backbone": resnet(0, **stem), "target": resnet(1, **stem)}
    with foreign_class() as config:
        content = lightning_checkpoint(solo_learn(name, *networks.values()))
        extra = {"cfg": config(method="byol"), "args": argparse.Namespace(arch="resnet18")}
        path = saved({**content, "hyper_parameters": {**extra, "evil": CreatesAFile(tmp_path / "made")}})
    loaded = load_backbone(path, encoder=role)
    check(loaded, networks[role], content)
    assert loaded.accounting.layout == "solo-learn"
    assert not (tmp_path / "made").exists()
    text = str(loaded.accounting)
    assert "omegaconf_stand_in.dictconfig.DictConfig" in text
    assert "argparse.Namespace" in text
    other = "target" if role == "backbone" else "backbone"
    assert len(loaded.accounting.left_out[f"other encoder ({other})"]) == len(networks[other].state_dict())
    assert {*loaded.accounting.left_out} == {
        f"other encoder ({other})",
        "optimiser, schedule and callbacks",
        "classifier",
        "projector",
        "predictor",
        "prototypes",
        "loss and what it remembers",
    }
    assert loaded.architecture.backbone == "resnet18"
    assert loaded.architecture.width == 1 / 8
    assert loaded.architecture.stem == (Stem(3, 1, False, padding=2) if stem else "imagenet")
    assert ("padding 2" in text) == bool(stem)


def test_another_stem_than_the_one_supposed_can_be_given(saved):
    """Neither stride nor max-pool leaves a trace in the weights."""
    network = resnet(0, small=True, padding=1, max_pool=True)
    path = saved(lightning_checkpoint(solo_learn("backbone", network)))
    check(load_backbone(path, stem=Stem(3, 1, True)), network)
    with pytest.raises(AssertionError):
        check(load_backbone(path), network)


# ------------------------------------------------------------------------------------------------------------- lightly


def lightly(**networks):
    return module(**networks, projection_head=mlp(F), prediction_head=mlp(8), criterion=module(bank=torch.ones(3, 4)))


@pytest.mark.parametrize("role", ["backbone", "target"])
def test_lightly_tutorials_with_a_momentum_encoder(saved, role):
    networks = {"backbone": sequential(resnet(0)), "target": sequential(resnet(1))}
    parts = {"backbone": networks["backbone"], "backbone_momentum": networks["target"]}
    content = lightning_checkpoint(lightly(**parts, projection_head_momentum=mlp(F, seed=3)))
    loaded = load_backbone(saved(content), encoder=role)
    check(loaded, networks[role], content)
    assert loaded.accounting.layout == "lightly"
    assert loaded.architecture.stem == "imagenet"


@pytest.mark.parametrize("role", ["backbone", "target"])
def test_lightly_s_tutorial_of_dino(saved, role):
    networks = {"backbone": sequential(resnet(0)), "target": sequential(resnet(1))}
    names = {"student_backbone": networks["backbone"], "teacher_backbone": networks["target"]}
    model = module(**names, student_head=mlp(F), teacher_head=mlp(F), criterion=module(center=torch.ones(1, 8)))
    content = lightning_checkpoint(model)
    check(load_backbone(saved(content), encoder=role), networks[role], content)


@pytest.mark.parametrize("container", ["resnet18_parameters", None])
def test_lightly_s_backbone_alone(saved, container):
    """As its tutorials save it for later use."""
    network = sequential(resnet(0))
    content = {container: network.state_dict()} if container else network.state_dict()
    loaded = load_backbone(saved(content, "model.pth"))
    check(loaded, network, content)
    assert loaded.accounting.layout == "lightly"


def test_lightly_with_max_pool_replaced_by_an_identity(saved):
    network = sequential(resnet(0, small=True))
    content = lightning_checkpoint(lightly(backbone=network))
    assert any(name.endswith("backbone.4.0.conv1.weight") for name in tensor_names(content))
    check(load_backbone(saved(content)), network, content)


@pytest.mark.parametrize("small", [True, False])
def test_lightly_without_the_module_of_the_max_pool(saved, small):
    """The numbers of the layers tell that there is none, even behind a 7x7 kernel."""
    network = sequential(resnet(0, small=small, max_pool=False), leave_out=["maxpool"])
    content = lightning_checkpoint(lightly(backbone=network))
    assert any(name.endswith("backbone.3.0.conv1.weight") for name in tensor_names(content))
    loaded = load_backbone(saved(content))
    check(loaded, network, content)
    assert loaded.architecture.stem == ("cifar" if small else Stem(7, 2, False))
    assert "by the numbers of the layers" in str(loaded.accounting)


@pytest.mark.parametrize("copies", [False, True])
def test_lightly_s_own_resnet(saved, copies):
    """Also where the module of the method holds the backbone a second time."""
    network = generator_backbone()
    parts = {"backbone": network, "resnet_simclr": module(backbone=network, projection_head=mlp(F))}
    content = lightning_checkpoint(module(**parts) if copies else lightly(backbone=network))
    assert any("backbone.3.0.shortcut.0.weight" in name for name in tensor_names(content))
    path = saved(content)
    loaded = load_backbone(path)
    check(loaded, network, content)
    assert loaded.architecture.stem == Stem(3, 1, False, relu=False)
    assert "no max-pool and no ReLU, both by the numbers of the layers" in str(loaded.accounting)
    check(load_backbone(path, stem="cifar"), with_its_relu(network), content)
    assert loaded.accounting.layout == "lightly"
    assert ("the same weights a second time" in loaded.accounting.left_out) == copies


def with_its_relu(children):
    """The generator's own ``forward``, of its children."""
    return lambda x: children[2:](children[1](children[0](x)).relu())


def test_lightly_s_own_resnet_whole(saved):
    """By its own names, not as a sequence of its children; so its ReLU is there."""
    children = generator_backbone()
    names = ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4")
    network = module(**dict(zip(names, children, strict=False)), linear=nn.Linear(F, 10))
    content = network.state_dict()
    loaded = load_backbone(saved(content))
    check(loaded, with_its_relu(children), content)
    assert loaded.architecture.stem == "cifar"
    assert loaded.accounting.layout == "lightly"


def test_lightly_s_split_batch_norm(saved):
    """Statistics of eight parts of the batch, which it averages in eval mode."""
    network = generator_backbone()
    content = {"state_dict": lightly(backbone=network).state_dict()}
    for name, value in content["state_dict"].items():
        if name.endswith(("running_mean", "running_var")):
            parts = value.repeat(8, 1) + torch.arange(-3.5, 4).unsqueeze(1) * 0.01
            content["state_dict"][name] = parts.flatten()
    loaded = load_backbone(saved(content))
    check(loaded, network, content)
    assert "averaged: 42 tensors" in str(loaded.accounting)


@pytest.mark.parametrize("role", ["backbone", "target"])
@pytest.mark.parametrize(
    ("trained", "target"),
    [("backbone", "teacher_backbone"), ("student_backbone", "backbone"), ("query_backbone", "backbone")],
    ids=["byol", "dino", "moco"],
)
def test_lightly_s_benchmarks(saved, trained, target, role):
    """In those of DINO and MoCo ``backbone`` is the target network."""
    networks = {"backbone": resnet(0, bottleneck=True), "target": resnet(1, bottleneck=True)}
    width = features_of(bottleneck=True)
    parts = {trained: networks["backbone"], target: networks["target"], "projection_head": mlp(width)}
    content = lightning_checkpoint(module(**parts, online_classifier=module(linear=nn.Linear(width, 10))))
    loaded = load_backbone(saved(content), encoder=role)
    check(loaded, networks[role], content)
    assert loaded.architecture.backbone == "resnet50"
    assert loaded.accounting.layout == "lightly"


# -------------------------------------------------------------------------------------------- torchvision, timm, others


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
@pytest.mark.parametrize("bottleneck", [False, True])
def test_torchvision(saved, name, bottleneck):
    width = features_of(bottleneck)
    network = resnet(0, bottleneck=bottleneck, head=nn.Linear(width, 10))
    content = dict(network.state_dict())
    loaded = load_backbone(saved(content, name))
    network.fc = nn.Identity()
    check(loaded, network, content)
    assert loaded.accounting.layout == "torchvision or timm"
    assert {*loaded.accounting.left_out} == {"classifier or other head"}
    assert {*loaded.accounting.left_out["classifier or other head"]} == {"fc.weight", "fc.bias"}


def torchvision_vit(seed=0, layers=12):
    """Of the shapes of a ViT-Ti/16, for images of 32 pixels."""
    torch.manual_seed(seed)
    return shaken(torchvision.models.VisionTransformer(32, 16, layers, 3, 192, 768))


def shaken(network):
    """In eval mode, without a weight that is 0, 1 or 1e-6 only because it was initialised so."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return network.eval()


def without_classifier(network):
    name = "heads" if isinstance(network, torchvision.models.VisionTransformer) else "classifier.2"
    network.set_submodule(name, nn.Identity())
    return network


WRAPPED = {
    "plain": lambda network: network.state_dict(),
    "training": lambda network: {"model": module(module=network).state_dict(), "epoch": 3},
    "Lightning": lambda network: {"state_dict": module(backbone=network, projection_head=mlp(8)).state_dict()},
    "encoder": lambda network: module(encoder=network, classifier=nn.Linear(8, 3)).state_dict(),
}


@pytest.mark.parametrize("wrapped", WRAPPED)
def test_torchvision_s_vit(saved, wrapped):
    network = torchvision_vit()
    content = WRAPPED[wrapped](network)
    loaded = load_backbone(saved(content))
    check(loaded, without_classifier(network), content, tolerance=1e-5)
    assert loaded.architecture == Architecture("vit_tiny_patch16_224", image_size=32)
    heads = loaded.accounting.left_out["classifier or other head"]
    assert {name.partition("heads.")[2] for name in heads} >= {"head.weight", "head.bias"}
    assert "supposed: 3 heads" in str(loaded.accounting)


def test_torchvision_s_first_files_of_vits(saved):
    """Those that it still has for download are of before 0.13, when the layers of the MLP had names."""
    network = torchvision_vit()
    content = {
        re.sub(r"mlp\.([03])\.", lambda found: f"mlp.linear_{int(found[1]) // 3 + 1}.", name): value
        for name, value in network.state_dict().items()
    }
    assert "encoder.layers.encoder_layer_11.mlp.linear_2.weight" in content
    check(load_backbone(saved(content, "vit.safetensors")), without_classifier(network), content, tolerance=1e-5)


@pytest.mark.parametrize("wrapped", ["plain", "Lightning"])
def test_torchvision_s_convnext(saved, wrapped):
    """Its layer scale has two axes more than timm's, and the norm behind its pooling stands in the classifier."""
    torch.manual_seed(0)
    network = shaken(torchvision.models.convnext_tiny())
    content = WRAPPED[wrapped](network)
    loaded = load_backbone(saved(content))
    check(loaded, without_classifier(network), content, size=64, tolerance=1e-5)
    assert loaded.architecture == Architecture("convnext_tiny")
    root = loaded.accounting.root
    assert loaded.accounting.left_out["classifier"] == (f"{root}classifier.2.weight", f"{root}classifier.2.bias")


@pytest.mark.parametrize("role", ["backbone", "target"])
@pytest.mark.parametrize("make", ["torchvision", "timm"])
def test_lightly_s_masked_vit(saved, make, role):
    """Of its MSN: in ``backbone`` lies the target network; beside each ViT is a mask token."""
    networks = {"backbone": torchvision_vit(0), "target": torchvision_vit(1)}
    if make == "timm":
        vit = partial(timm.create_model, "vit_tiny_patch16_224", num_classes=10, img_size=32)
        networks = {name: shaken(vit()) for name in networks}
    masked = {name: module(vit=network, mask_token=torch.ones(1, 1, 192)) for name, network in networks.items()}
    parts = {"anchor_backbone": masked["backbone"], "backbone": masked["target"]}
    content = {"state_dict": module(**parts, prototypes=torch.ones(3, 8), decoder=nn.Linear(192, 8)).state_dict()}
    loaded = load_backbone(saved(content), encoder=role)
    network = networks[role]
    if make == "timm":
        network.reset_classifier(0)
    else:
        without_classifier(network)
    check(loaded, network, content, tolerance=1e-5)
    assert loaded.accounting.layout == "lightly"
    assert len(loaded.accounting.left_out["decoder and mask token"]) == 4


def test_a_vit_of_torchvision_that_is_not_whole(saved):
    content = torchvision_vit().state_dict()
    del content["encoder.layers.encoder_layer_3.ln_1.bias"]
    content["encoder.more"] = torch.ones(2)
    path = saved(content)
    missing = r"missing: 1 tensor, blocks\.3\.norm1\.bias\n  unexpected: 1 tensor, encoder\.more\n"
    with pytest.raises(WeightsError, match=rf"like vit_tiny_patch16_224, but not the same:\n  {missing}If it is"):
        load_backbone(path)
    with pytest.raises(WeightsError, match=r"missing: 1 tensor, blocks\.3\.norm1\.bias\n  unexpected: 1 tensor, enc"):
        load_backbone(path, architecture="vit_tiny_patch16_224")
    with pytest.raises(WeightsError, match=r"missing: 120 tensors, blocks\.2\..* and 108 more"):
        load_backbone(saved(torchvision_vit(layers=2).state_dict()))


ANCHORS = {
    "torchvision ViT": ("vit_tiny_patch16_224", "encoder.layers.encoder_layer_0.self_attention.in_proj_weight"),
    "torchvision ConvNeXt": ("convnext_tiny", "features.1.0.layer_scale"),
    "ViT": ("vit_tiny_patch16_224", "patch_embed.proj.weight"),
    "ViT's attention": ("vit_tiny_patch16_224", "blocks.0.attn.qkv.weight"),
    "ConvNeXt": ("convnext_atto", "stages.0.blocks.0.conv_dw.weight"),
    "ConvNeXt's stem": ("convnext_atto", "stem.0.weight"),
    "ConvNeXt's third stage": ("convnext_atto", "stages.2.blocks.5.conv_dw.weight"),
    "ConvNeXt V2": ("convnextv2_atto", "stages.0.blocks.0.mlp.grn.weight"),
    "ResNet": ("resnet18", "layer1.0.conv1.weight"),
}
"""Names of networks, each with a tensor that recognition could hang on."""


@pytest.mark.parametrize("kind", ANCHORS)
def test_no_single_tensor_is_needed_to_recognise_a_network(kind):
    """So that the one which is missing is named, by timm's name for it."""
    name, gone = ANCHORS[kind]
    with torch.device("meta"):
        if kind == "torchvision ViT":
            network = torchvision_vit()
        elif kind == "torchvision ConvNeXt":
            network = torchvision.models.convnext_tiny()
        else:
            network = timm.create_model(name, num_classes=0)
    content = {f"state_dict.{key}": value for key, value in network.state_dict().items() if key != gone}
    usual = usual_shapes(name)
    for names in ((), usual):
        encoder = recognise(content, names).encoder()
        assert encoder.root == "state_dict."
        (missing,) = usual.keys() - encoder.names.keys()
    if kind == "ResNet":
        assert infer_architecture(encoder.tensors(content)).backbone == name
        return
    with pytest.raises(WeightsError, match=rf"like {name}, .*\n  missing: 1 tensor, {re.escape(missing)}\n"):
        infer_architecture(encoder.tensors(content))


@pytest.mark.parametrize("architecture", ["vit_tiny_patch16_224", "convnext_atto"])
def test_what_a_network_lacks_has_besides_or_has_otherwise_is_said(saved, architecture):
    content = timm.create_model(architecture, num_classes=0).state_dict()
    names = [name for name in content if name.endswith(("norm.weight", "norm1.weight"))]
    lacking, other, length = names[-1], names[0], len(content[names[0]])
    del content[lacking]
    content |= {"blocks.0.gadget": torch.ones(2), other: torch.ones(7)}
    for given in (None, architecture):
        with pytest.raises(WeightsError) as error:
            load_backbone(saved(content), architecture=given)
        message = str(error.value)
        assert f"missing: 1 tensor, {lacking}\n" in message
        (unexpected,) = re.findall("unexpected: 2 tensors, (.*)", message)
        assert {*unexpected.split(", ")} == {other, "blocks.0.gadget"}
        assert f"\n  {other} is (7,), must be ({length},)\n" in message


def test_the_format_of_before_torch_1_6_and_files_without_counters(saved):
    """num_batches_tracked came with torch 0.4.1, and torchvision's first files have none."""
    network = resnet(0)
    content = {k: v for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}
    loaded = load_backbone(saved(content, "old.pth", _use_new_zipfile_serialization=False))
    check(loaded, network, content)
    assert len(loaded.accounting.missing) == 21
    assert "num_batches_tracked, which eval mode does not use" in str(loaded.accounting)


def test_full_size_in_half_precision(saved):
    network = randomised(timm.create_model("resnet18", num_classes=0, in_chans=1))
    content = {name: value.half() for name, value in network.state_dict().items()}
    loaded = load_backbone(saved(content, "weights.pth"))
    network.load_state_dict(content)
    check(loaded, network, content, channels=1)
    assert loaded.architecture == Architecture("resnet18", channels=1)


@pytest.mark.parametrize(
    ("architecture", "channels", "size"),
    [("vit_tiny_patch16_224", 1, 64), ("convnext_atto", 3, 64)],
)
def test_vit_and_convnext_are_told_by_their_shapes(saved, architecture, channels, size):
    sized = {"img_size": size} if "vit" in architecture else {}
    network = timm.create_model(architecture, num_classes=10, in_chans=channels, **sized).eval()
    content = dict(network.state_dict())
    loaded = load_backbone(saved(content, "weights.safetensors"))
    network.reset_classifier(0)
    check(loaded, network, content, size, channels)
    assert loaded.architecture.backbone == architecture
    assert loaded.architecture.channels == channels
    assert loaded.architecture.image_size == (size if sized else None)
    assert loaded.image_size == loaded.architecture.image_size
    assert ("supposed: 3 heads of 64 channels" in str(loaded.accounting)) == bool(sized)


@pytest.mark.parametrize("architecture", ["test_resnet", "test_efficientnet", "test_vit"])
def test_any_other_network_is_loaded_by_its_name(saved, architecture):
    network = randomised(timm.create_model(architecture, num_classes=0))
    others = {"projector": mlp(network.num_features), "momentum_backbone": timm.create_model(architecture)}
    content = lightning_checkpoint(module(backbone=network, **others))
    path = saved(content)
    size = 160  # a ViT has positions, so it is built for its own size
    check(load_backbone(path, architecture=architecture), network, content, size)
    with pytest.raises(WeightsError, match=r"give its (timm )?name as architecture") as error:
        load_backbone(path)
    assert str(tuple(next(iter(network.state_dict().values())).shape)) in str(error.value)


@pytest.mark.parametrize("role", ["backbone", "target"])
def test_moco(saved, role):
    """Facebook's: two encoders with an MLP in place of the classifier, wrapped by DistributedDataParallel."""
    networks = {"backbone": resnet(0, bottleneck=True), "target": resnet(1, bottleneck=True)}
    width = features_of(bottleneck=True)
    for network in networks.values():
        network.fc = mlp(width)
    queue = {"queue": torch.randn(8, 32), "queue_ptr": torch.zeros(1, dtype=torch.long)}
    model = module(module=module(encoder_q=networks["backbone"], encoder_k=networks["target"], **queue))
    content = {"epoch": 1, "arch": "resnet50", "state_dict": model.state_dict(), "optimizer": {"state": {}}}
    loaded = load_backbone(saved(content, "checkpoint_0199.pth.tar"), encoder=role)
    networks[role].fc = nn.Identity()
    check(loaded, networks[role], content)
    assert loaded.accounting.layout == "MoCo"


def test_moco_v3(saved):
    network, momentum = resnet(0), resnet(1)
    network.fc, momentum.fc = mlp(F), mlp(F)
    model = module(module=module(base_encoder=network, momentum_encoder=momentum, predictor=mlp(8)))
    content = {"arch": "resnet50", "state_dict": model.state_dict()}
    loaded = load_backbone(saved(content, "r.pth.tar"))
    network.fc = nn.Identity()
    check(loaded, network, content)
    assert loaded.accounting.layout == "MoCo v3"


@pytest.mark.parametrize(("role", "vit"), [("backbone", False), ("target", False), ("target", True)])
def test_dino(saved, role, vit):
    """Facebook's: student and teacher side by side, the one wrapped by DistributedDataParallel, and the arguments."""
    networks = {"backbone": resnet(0), "target": resnet(1)}
    if vit:
        networks = {role: timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=32) for role in networks}
    wrapped = {key: module(backbone=network, head=mlp(F)) for key, network in networks.items()}
    content = {
        "student": module(module=wrapped["backbone"]).state_dict(),
        "teacher": wrapped["target"].state_dict(),
        "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": []},
        "epoch": 100,
        "dino_loss": {"center": torch.ones(1, 8)},
    }
    path = saved({**content, "args": argparse.Namespace(arch="resnet18", patch_size=16)}, "checkpoint.pth")
    loaded = load_backbone(path, encoder=role)
    check(loaded, networks[role].eval(), content)
    assert loaded.accounting.layout == "DINO"


def test_the_vit_of_moco_v3_has_other_heads_than_its_shapes_tell(saved):
    network = with_fixed_positions(timm.create_model("vit_small_patch32_224", num_classes=0, img_size=32))
    content = {"state_dict": module(module=module(base_encoder=network)).state_dict()}
    with pytest.raises(WeightsError, match=r"MoCo v3's ViT of 384 channels .* has 12 heads, and timm's has 6"):
        load_backbone(saved(content, "vit-s-300ep.pth.tar"))


def with_fixed_positions(network):
    """MoCo v3 and MAE have sines and cosines for the patches, and zeros for the class token."""
    network.pos_embed.data[:, 0] = 0
    return network.eval()


@pytest.mark.parametrize("fixed", [False, True])
def test_solo_learn_s_vit(saved, fixed):
    """Its ViTs for MoCo v3 and MAE have other heads than timm's; those for the other methods learn their positions."""
    network = timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=32).eval()
    content = module(backbone=with_fixed_positions(network) if fixed else network, classifier=nn.Linear(192, 3))
    path = saved({"state_dict": content.state_dict()})
    if fixed:
        with pytest.raises(WeightsError, match=r"solo-learn's ViT of 192 channels .* 12 heads, and timm's has 3"):
            load_backbone(path)
    else:
        check(load_backbone(path), network)


@pytest.mark.parametrize("role", ["backbone", "target"])
@pytest.mark.parametrize("names", [("state_dict", "state_dict_ema"), ("model", "model_ema")])
def test_training_checkpoints_of_timm_and_torchvision(saved, names, role):
    networks = {"backbone": resnet(0, head=nn.Linear(F, 10)), "target": resnet(1, head=nn.Linear(F, 10))}
    own, ema = networks.values()
    content = {names[0]: own.state_dict(), names[1]: module(module=ema).state_dict(), "optimizer": {"state": {}}}
    loaded = load_backbone(saved({**content, "args": argparse.Namespace(lr=1.0)}, "last.pth.tar"), encoder=role)
    networks[role].fc = nn.Identity()
    check(loaded, networks[role], content)


@pytest.mark.parametrize("role", ["backbone", "target"])
def test_an_average_beside_a_plain_network(saved, role):
    networks = {"backbone": resnet(0), "target": resnet(1)}
    own, ema = (network.state_dict() for network in networks.values())
    content = {**own, **{f"ema.{name}": value for name, value in ema.items()}}
    check(load_backbone(saved(content, "both.pth"), encoder=role), networks[role], content)


@pytest.mark.parametrize("role", ["backbone", "target"])
def test_a_target_network_that_has_not_moved_yet(saved, role):
    """Its weights are the trained encoder's, and it is another network all the same."""
    network = resnet(0)
    content = module(backbone=network, momentum_backbone=resnet(0), classifier=nn.Linear(F, 3)).state_dict()
    loaded = load_backbone(saved(content), encoder=role)
    check(loaded, network, content)
    assert "the same weights a second time" not in loaded.accounting.left_out


def test_swav_keeps_its_head_beside_the_network(saved):
    network = resnet(0)
    wrapped = resnet(0)
    del wrapped.fc
    wrapped.projection_head, wrapped.prototypes = mlp(F), nn.Linear(8, 5)
    content = module(module=wrapped).state_dict()
    loaded = load_backbone(saved(content, "swav.pth.tar"))
    check(loaded, network, content)
    assert {*loaded.accounting.left_out} == {"projector", "prototypes"}


@pytest.mark.parametrize("kind", ["numbered", "shortcut", "named"])
def test_the_name_of_the_architecture_may_be_given_where_it_is_not_needed(saved, kind):
    """solo-learn's stem is known all the same."""
    network = {"numbered": sequential(resnet(0)), "shortcut": generator_backbone(), "named": resnet(0, **CIFAR)}[kind]
    parts = {"backbone": network, "momentum_backbone": resnet(1), "classifier": nn.Linear(F, 3)}
    content = module(**parts).state_dict()
    check(load_backbone(saved(content), architecture="resnet18"), network, content)


def test_a_wrapper_of_one_s_own(saved):
    """Its name is no known one; what else it holds is said to be outside."""
    network = resnet(0)
    content = {"model_state_dict": module(my_net=network, gadget=nn.Linear(2, 2)).state_dict()}
    loaded = load_backbone(saved(content))
    check(loaded, network, content)
    assert loaded.accounting.layout == "a network named my_net"
    assert "outside the backbone (gadget)" in loaded.accounting.left_out


# ------------------------------------------------------------------------------------------------ what cannot be loaded


def test_missing_unexpected_and_other_shapes_are_all_named(saved):
    content = dict(resnet(0).state_dict())
    del content["layer2.0.bn1.bias"]
    content["layer3.0.conv9.weight"] = torch.ones(2)
    content["bn1.weight"] = torch.ones(7)
    with pytest.raises(WeightsError) as error:
        load_backbone(saved(content, "weights.pth"))
    message = str(error.value)
    assert "weights.pth (layout: torchvision or timm)" in message
    assert "missing: 1 tensor, layer2.0.bn1.bias" in message
    assert "unexpected: 2 tensors, bn1.weight, layer3.0.conv9.weight" in message
    assert "bn1.weight is (7,), must be (64,)" in message
    assert "stem" in message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.pop("layer2.0.bn1.bias"), "missing: 1 tensor, layer2.0.bn1.bias"),
        (lambda content: content.update({"layer5.weight": torch.ones(2)}), "unexpected: 1 tensor, layer5.weight"),
        (lambda content: content.update({"bn1.weight": torch.ones(7)}), "bn1.weight is (7,), must be (64,)"),
    ],
    ids=["missing", "unexpected", "shape"],
)
def test_one_tensor_that_is_not_right_is_enough(saved, change, message):
    content = dict(resnet(0).state_dict())
    change(content)
    with pytest.raises(WeightsError, match=re.escape(message)):
        load_backbone(saved(content, "weights.pth"))


def test_a_network_that_is_unlike_any_shows_what_it_holds(saved):
    content = {"state_dict": {"my.first.weight": torch.ones(3, 4), "my.second.weight": torch.ones(5)}}
    with pytest.raises(WeightsError, match=r"state_dict\.my\.first\.weight \(3, 4\)") as error:
        load_backbone(saved(content))
    assert "checkpoint.ckpt: no backbone is recognised among its 2 tensors" in str(error.value)


def test_a_resnet_that_timm_does_not_have_is_described(saved):
    network = resnet(0)
    network.layer3 = network.layer3[:1]
    with pytest.raises(WeightsError, match=r"ResNet of 2\+2\+1\+2 basic blocks with 8, 16, 32, 64 channels"):
        load_backbone(saved(network.state_dict(), "weights.pth"))


def test_a_wide_stem_is_said_to_be_the_reason(saved):
    network = resnet(0)
    network.conv1, network.bn1 = nn.Conv2d(3, 128, 7), nn.BatchNorm2d(128)
    with pytest.raises(WeightsError, match="its stem has 128 channels"):
        load_backbone(saved(network.state_dict(), "weights.pth"))


def test_two_networks_that_cannot_be_told_apart(saved):
    content = module(left=resnet(0), right=resnet(1)).state_dict()
    with pytest.raises(WeightsError, match=r"2 networks that could be the backbone, below 'left\.', 'right\.'"):
        load_backbone(saved(content))


def test_an_encoder_that_is_not_there(saved):
    path = saved({"teacher": {"backbone." + k: v for k, v in resnet(0).state_dict().items()}})
    with pytest.raises(WeightsError, match=r"no backbone in it, only the target below .* ask for encoder 'target'"):
        load_backbone(path)
    path = saved(resnet(0).state_dict())
    with pytest.raises(WeightsError, match="ask for encoder 'backbone'"):
        load_backbone(path, encoder="target")
    with pytest.raises(WeightsError, match="encoder is 'student'"):
        load_backbone(path, encoder="student")


@pytest.mark.parametrize("architecture", ["resnet50", "vit_tiny_patch16_224"])
def test_a_wrong_name_of_the_architecture(saved, architecture):
    with pytest.raises(WeightsError, match=r"do not fit this ResNet|missing|no backbone is recognised"):
        load_backbone(saved(resnet(0).state_dict()), architecture=architecture)
    with pytest.raises(WeightsError, match="did you mean"):
        load_backbone(saved(resnet(0).state_dict()), architecture="resnet_18")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(saved, value):
    content = dict(resnet(0).state_dict())
    content["layer1.0.bn1.weight"][2] = value
    with pytest.raises(WeightsError, match=r"not finite, in 1 tensor: layer1\.0\.bn1\.weight"):
        load_backbone(saved(content))


def test_recognise_without_a_file():
    layout = recognise({f"backbone.{k}": v for k, v in resnet(0).state_dict().items()} | {"projector.0.weight": 0})
    assert layout.encoder().root == "backbone."
    assert layout.left_out == {"projector": ("projector.0.weight",)}
    assert Path(layout.encoder().names["layer1.0.conv1.weight"]).name == "backbone.layer1.0.conv1.weight"

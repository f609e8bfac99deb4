"""Backbones by name: runs, files of this library, the zoo, timm, and random weights."""

import hashlib
import logging
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import yaml
from foreign_files import randomised, resnet, tensor_names
from PIL import Image
from safetensors.torch import save_file
from small_methods import build
from timm.models import register_model
from timm.models._registry import generate_default_cfgs
from torch import nn

import solo_frossl
from solo_frossl import zoo
from solo_frossl.data.sources import read_image
from solo_frossl.weights import Architecture, Pretrained, WeightsError, load_backbone, pretrained


def images(size=8, channels=1):
    return torch.randn(4, channels, size, size, generator=torch.Generator().manual_seed(1))


def same_features(loaded, network, batch):
    with torch.no_grad():
        torch.testing.assert_close(loaded(batch), network.eval()(batch), rtol=1e-6, atol=1e-6)


def config_of(method, **data):
    """The part of a run's configuration that says what its backbone is."""
    model = {"backbone": "test_resnet", "stem": "imagenet", "width": 1.0}
    return {"method": method, "dataset": "digits", "seed_everything": 3, "model": model, "data": data}


def checkpoint(model, config):
    """What a run writes: weights, configuration, and the state of its training."""
    for network in (getattr(model, name, None) for name in ("backbone", "target_backbone")):
        if network is not None:
            randomised(network)
    training = {"optimizer_states": [{"state": {0: {"momentum_buffer": torch.ones(2)}}}]}
    return {"state_dict": model.state_dict(), "config": config, "epoch": 1, **training}


# --------------------------------------------------------------------------------------------------------------- runs


@pytest.mark.parametrize("name", ["frossl", "byol", "moco_v2", "dino", "swav", "corinfomax", "directpred"])
def test_every_tensor_of_a_checkpoint_of_this_library(name, tmp_path):
    """Of methods that have target networks, predictors, prototypes, queues and running statistics."""
    model, _ = build(name)
    content = checkpoint(model, config_of(name, image_size=16, mean=[0.3], std=[0.4], eval_crop=0.5))
    torch.save(content, tmp_path / "last.ckpt")
    for role in ("backbone", "target"):
        network = model.backbone if role == "backbone" else getattr(model, "target_backbone", None)
        if network is None:
            with pytest.raises(WeightsError, match="ask for encoder 'backbone'"):
                load_backbone(tmp_path / "last.ckpt", encoder=role)
            continue
        loaded = load_backbone(tmp_path / "last.ckpt", encoder=role)
        same_features(loaded, network, images())
        accounting = loaded.accounting
        places = [accounting.loaded, *accounting.left_out.values()]
        assert sorted(name for place in places for name in place) == sorted(tensor_names(content))
        assert not any(reason.startswith("outside the backbone") for reason in accounting.left_out)
        assert accounting.layout == "solo_frossl"
        assert loaded.architecture == Architecture("test_resnet", channels=1, image_size=16)
        assert (loaded.mean, loaded.std, loaded.eval_crop) == ((0.3,), (0.4,), 0.5)
        assert loaded.config == content["config"]


def make_run(folder, content):
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(content["config"]), encoding="utf-8")
    torch.save(content, folder / "checkpoints" / "last.ckpt")
    return folder


def test_a_run_by_folder_and_by_name(tmp_path, monkeypatch):
    model, _ = build("frossl")
    run = make_run(tmp_path / "runs" / "mine", checkpoint(model, config_of("frossl")))
    newer = checkpoint(build("frossl")[0], config_of("frossl"))
    make_run(tmp_path / "runs" / "mine-2", newer)
    same_features(load_backbone(run), model.backbone, images())
    by_name = load_backbone("mine", runs_dir=tmp_path / "runs")
    assert by_name.name == str(tmp_path / "runs" / "mine-2" / "checkpoints" / "last.ckpt")
    monkeypatch.chdir(tmp_path)
    assert solo_frossl.load("mine").name == str(Path("runs/mine-2/checkpoints/last.ckpt"))
    with pytest.raises(WeightsError, match=r"no run named 'other'.*timm:NAME"):
        load_backbone("other")
    with pytest.raises(WeightsError, match=r"a folder without config\.yaml"):
        load_backbone(tmp_path)


def test_a_damaged_checkpoint_of_a_run_leaves_the_one_before(tmp_path):
    model, _ = build("frossl")
    run = make_run(tmp_path / "mine", checkpoint(model, config_of("frossl")))
    (run / "checkpoints" / "last.ckpt").rename(run / "checkpoints" / "previous.ckpt")
    (run / "checkpoints" / "last.ckpt").write_bytes(b"PK\x03\x04 cut off")
    with pytest.warns(UserWarning, match="trying the one before"):
        loaded = load_backbone(run)
    same_features(loaded, model.backbone, images())
    (run / "checkpoints" / "previous.ckpt").unlink()
    with (
        pytest.warns(UserWarning, match="before"),
        pytest.raises(WeightsError, match="no checkpoint of the run can be read"),
    ):
        load_backbone(run)
    (run / "checkpoints" / "last.ckpt").unlink()
    with pytest.raises(WeightsError, match="has no checkpoint yet"):
        load_backbone(run)


def test_a_run_tells_stem_and_width_that_weights_do_not(tmp_path):
    """No rule is needed, nor spoken of."""
    model, _ = build("frossl", "--model.backbone=resnet18", "--model.width=0.125", "--data.image_size=16",
                     "--model.stem={kernel_size: 3, stride: 2, max_pool: true, padding: 0}")  # fmt: skip
    config = config_of("frossl", image_size=16)
    stem = {"kernel_size": 3, "stride": 2, "max_pool": True, "padding": 0}
    config["model"] = {"backbone": "resnet18", "width": 0.125, "stem": stem}
    torch.save(checkpoint(model, config), tmp_path / "last.ckpt")
    loaded = load_backbone(tmp_path / "last.ckpt")
    same_features(loaded, model.backbone, images(16))
    assert loaded.architecture.width == 0.125
    assert "supposed" not in str(loaded.accounting)
    other = load_backbone(tmp_path / "last.ckpt", stem="cifar")
    assert other.architecture.stem == "cifar"
    assert not torch.allclose(other(images(16)), loaded(images(16)))


def test_published_statistics_of_the_dataset(tmp_path):
    model, _ = build("frossl")
    config = config_of("frossl") | {"dataset": "cifar10"}
    config["model"]["backbone"] = "test_resnet"
    network = randomised(timm.create_model("test_resnet", num_classes=0))
    model.backbone = network
    torch.save(checkpoint(model, config), tmp_path / "last.ckpt")
    loaded = load_backbone(tmp_path / "last.ckpt")
    assert loaded.mean == (0.4914, 0.4822, 0.4465)
    assert loaded.std == (0.2470, 0.2435, 0.2616)
    assert loaded.image_size == 32
    assert load_backbone(tmp_path / "last.ckpt", mean=[0, 0, 0], image_size=64).mean == (0, 0, 0)
    assert load_backbone(tmp_path / "last.ckpt", mean=[0, 0, 0], image_size=64).image_size == 64


# ---------------------------------------------------------------------------------------------------------------- zoo


def about(**more):
    architecture = Architecture("resnet18", "cifar", 0.125, image_size=32).to_dict()
    known = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "config": {"method": "frossl"}}
    return {"name": "tiny", "architecture": architecture, **known, **more}


def in_the_zoo(folder, network):
    """An index with one entry, and its file in half precision."""
    tensors = {key: value.half() for key, value in network.state_dict().items()}
    zoo.write_weights(folder / "tiny.safetensors", tensors, about())
    content = (folder / "tiny.safetensors").read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    name = f"tiny-{digest[:8]}.safetensors"
    (folder / "tiny.safetensors").rename(folder / name)
    more = {"method": "frossl", "dataset": "cifar10", "num_features": 64, "epochs": 1, "seed": 0, "licence": "MIT"}
    files = {"precision": "float16", "file": name, "size": len(content), "sha256": digest, "places": (f"file:{name}",)}
    entry = zoo.Entry(**about(**more, **files, accuracy={"knn_top1": 50.0}, measured_by="solo-frossl zoo add"))
    zoo.write_index(folder / "index.yaml", [entry])
    return folder / "index.yaml"


def test_a_checkpoint_of_the_zoo(tmp_path):
    network = resnet(0, small=True)
    index = in_the_zoo(tmp_path, network)
    loaded = solo_frossl.load("zoo:tiny", index=index, cache=tmp_path / "cache")
    network.load_state_dict({key: value.half() for key, value in network.state_dict().items()})
    same_features(loaded, network, images(32, 3))
    assert loaded.name == "zoo:tiny"
    assert loaded.accounting.layout == "solo_frossl"
    assert len(loaded.accounting.loaded) == len(network.state_dict())
    assert (loaded.mean, loaded.std, loaded.image_size) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6), 32)
    picture = Image.new("RGB", (50, 40), (10, 20, 30))
    assert loaded(loaded.transform(picture)[None]).shape == (1, 64)
    with pytest.raises(zoo.ZooError, match="no checkpoint 'tinier'"):
        solo_frossl.load("zoo:tinier")


@pytest.mark.parametrize("metadata", ["no json", "{}", '{"architecture": {"backbone": "resnet18", "legs": 4}}', "[1]"])
def test_metadata_that_says_nothing(tmp_path, metadata):
    path = tmp_path / "weights.safetensors"
    save_file(dict(resnet(0).state_dict()), path, {"solo_frossl": metadata})
    with pytest.raises(WeightsError, match=r"metadata 'solo_frossl'.*cannot be read") as error:
        load_backbone(path)
    assert str(path) in str(error.value)


FOREIGN = [
    {"model": {"name": "resnet"}},
    {"method": "a", "dataset": "b", "model": {"name": "resnet"}},
    {"method": "a", "dataset": "b", "model": {"backbone": {"name": "resnet18"}}},
    {"method": "a", "dataset": "b", "model": {"backbone": "ResNet"}},
    {"method": "a", "dataset": "b", "model": {"backbone": "resnet18", "width": "a"}},
    {"method": "a", "dataset": "b", "model": {"backbone": "resnet18"}, "data": [1]},
    {"method": "a", "dataset": "b", "model": {"backbone": "resnet18"}, "data": {"mean": 5}},
]


@pytest.mark.parametrize("config", FOREIGN, ids=str)
def test_a_configuration_that_is_none_of_ours(tmp_path, config):
    """Others put one into their checkpoints too; then the weights tell."""
    network = resnet(0)
    torch.save({"state_dict": network.state_dict(), "config": config}, tmp_path / "a.pth")
    loaded = load_backbone(tmp_path / "a.pth")
    same_features(loaded, network, images(64, 3))
    assert (loaded.config, loaded.mean) == (None, None)


# --------------------------------------------------------------------------------------------------------------- timm


@register_model
def tiny_hub_resnet(pretrained=False, **kwargs):
    """A model whose pretrained weights the test puts in a file, or nowhere."""
    from timm.models.resnet import BasicBlock, _create_resnet

    arguments = {"block": BasicBlock, "layers": (1, 1, 1, 1), "channels": (8, 8, 8, 16)}
    return _create_resnet("tiny_hub_resnet", pretrained, **{**arguments, **kwargs})


HUB = {"mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6), "crop_pct": 0.5, "interpolation": "bilinear", "num_classes": 10}
HUB |= {"input_size": (3, 64, 64), "pool_size": (2, 2), "first_conv": "conv1", "classifier": "fc"}


@pytest.fixture
def hub(monkeypatch):
    """A function that says where the weights of ``tiny_hub_resnet`` are to be had."""
    from timm.models import _registry

    def put(**place):
        made = generate_default_cfgs({"tiny_hub_resnet.mine": {**HUB, **place}})
        monkeypatch.setitem(_registry._model_default_cfgs, "tiny_hub_resnet", made["tiny_hub_resnet"])
        for tagged, cfg in made["tiny_hub_resnet"].cfgs.items():
            name = f"tiny_hub_resnet.{tagged}"
            monkeypatch.setitem(_registry._model_pretrained_cfgs, name, cfg)
            monkeypatch.setitem(_registry._model_pretrained_cfgs, "tiny_hub_resnet", cfg)

    return put


def test_timm_loads_its_own_weights(hub, tmp_path):
    network = randomised(timm.create_model("tiny_hub_resnet", num_classes=10))
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    hub(file=str(tmp_path / "weights.pth"))
    loaded = load_backbone("timm:tiny_hub_resnet")
    network.reset_classifier(0)
    same_features(loaded, network, images(64, 3))
    assert loaded.name == "timm:tiny_hub_resnet"
    assert (loaded.mean, loaded.std, loaded.image_size) == (HUB["mean"], HUB["std"], 64)
    assert {*loaded.accounting.loaded} == network.state_dict().keys()
    picture = torch.randint(0, 256, (3, 200, 160), dtype=torch.uint8)
    expected = timm.data.create_transform((3, 64, 64), crop_pct=0.5, interpolation="bilinear", mean=HUB["mean"],
                                          std=HUB["std"])  # fmt: skip
    as_picture = Image.fromarray(picture.permute(1, 2, 0).numpy())
    torch.testing.assert_close(loaded.transform(as_picture), expected(as_picture), rtol=0, atol=0.03)
    assert load_backbone("timm:tiny_hub_resnet", mean=[0, 0, 0], image_size=32).mean == (0, 0, 0)
    assert load_backbone("timm:tiny_hub_resnet", channels=1).mean is None


def test_weights_of_timm_that_are_not_whole(hub, tmp_path):
    """timm itself takes what there is."""
    tensors = randomised(timm.create_model("tiny_hub_resnet", num_classes=10)).state_dict()
    torch.save(tensors | {"more.weight": torch.ones(1)}, tmp_path / "more.pth")
    hub(file=str(tmp_path / "more.pth"))
    accounting = load_backbone("timm:tiny_hub_resnet").accounting
    assert (accounting.missing, "more.weight" in accounting.unexpected) == ((), True)
    torch.save({key: value for key, value in tensors.items() if "layer4" not in key}, tmp_path / "less.pth")
    hub(file=str(tmp_path / "less.pth"))
    with pytest.raises(WeightsError, match="not whole") as error:
        load_backbone("timm:tiny_hub_resnet")
    assert re.search(r"missing: \d+ tensors, layer4", str(error.value))
    assert "layer4.0.conv1.weight" in str(error.value)


def test_a_hub_that_cannot_be_reached(hub, monkeypatch, tmp_path):
    """Neither of Hugging Face, which is told to be offline, nor of a server, which is not there."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for place in ({"hf_hub_id": "nobody/nothing"}, {"url": "http://127.0.0.1:9/weights.pth"}, {}):
        hub(**place)
        with pytest.raises(WeightsError, match="could not load pretrained weights of tiny_hub_resnet") as error:
            load_backbone("timm:tiny_hub_resnet")
        assert "check the network" in str(error.value)


def test_the_hub_s_own_words_are_left_out(monkeypatch, caplog):
    """It logs every one of its tries."""

    def create(*_, **__):
        logging.getLogger("huggingface_hub.utils").warning("Retrying in 1s")
        raise OSError("no network")

    monkeypatch.setattr(pretrained, "create_timm", create)
    with pytest.raises(WeightsError, match="no network"):
        load_backbone("timm:resnet18")
    assert "Retrying" not in caplog.text
    logging.getLogger("huggingface_hub.utils").warning("afterwards")
    assert "afterwards" in caplog.text


def test_a_timm_name_that_is_none():
    with pytest.raises(WeightsError, match=r"did you mean.*resnet18"):
        load_backbone("timm:resnet_18")
    with pytest.raises(WeightsError, match="give no other"):
        load_backbone("timm:resnet18", stem="cifar")


# ----------------------------------------------------------------------------------------------------------- untrained


def test_untrained_weights_are_those_that_a_run_of_the_seed_begins_with():
    model, _ = build("frossl")  # of seed 0
    loaded = load_backbone("untrained:test_resnet", channels=1)
    torch.testing.assert_close(loaded.backbone.state_dict(), model.backbone.state_dict(), rtol=0, atol=0)
    assert loaded.accounting is None
    other = load_backbone("untrained:test_resnet", channels=1, seed=1)
    assert not torch.equal(other.backbone.conv1[0].weight, loaded.backbone.conv1[0].weight)


def test_untrained_weights_leave_the_generator_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    load_backbone("untrained:resnet18", stem="cifar", width=0.25)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"spec": "untrained:resnet_18"}, "did you mean"),
        ({"spec": "untrained:resnet18", "stem": "tiny"}, "stem is 'tiny'"),
        ({"spec": "untrained:resnet18", "width": 0}, "width is 0"),
        ({"spec": "untrained:resnet18", "mean": [0.5]}, "mean has 1 values"),
        ({"spec": "untrained:resnet18", "mean": 0.5}, "mean is 0.5: it must be a list of numbers"),
        ({"spec": "untrained:resnet18", "mean": [0.5, 0.5, float("nan")]}, "must be finite"),
        ({"spec": "untrained:resnet18", "std": [0.5, 0.5, 0]}, "must be above 0"),
        ({"spec": "untrained:resnet18", "image_size": -3}, "image_size is -3: it must be"),
        ({"spec": "nothing.ckpt"}, "no file"),
        ({"spec": "timm:"}, "timm: has no name behind the colon: write timm:NAME"),
        ({"spec": "zoo:"}, "zoo: has no name behind the colon: write zoo:NAME"),
    ],
)
def test_what_cannot_be_loaded(arguments, message):
    with pytest.raises(WeightsError, match=message):
        load_backbone(**arguments)


# ------------------------------------------------------------------------------------------------------- what is given


@pytest.mark.parametrize("crop", [1.0, 0.875])
def test_the_transform_is_what_evaluation_does(crop):
    """Of the digits, of which the statistics are not published, and of any picture."""
    _, data = build("frossl", "--data.image_size=16", f"--data.eval_crop={crop}")
    data.setup()
    network = load_backbone("untrained:test_resnet", channels=1).backbone
    options = {"architecture": Architecture("test_resnet", channels=1), "image_size": 16, "eval_crop": crop}
    loaded = Pretrained(network, name="x", mean=data.mean, std=data.std, **options)
    batch = next(iter(data.val_dataloader()))
    torch.testing.assert_close(loaded.transform(batch.image), data.clean(batch).image, rtol=0, atol=1e-6)
    assert type(loaded.transform(batch.image[0])) is torch.Tensor
    picture = Image.new("RGB", (60, 40), (255, 0, 0))
    assert loaded.transform(picture).shape == (1, 16, 16)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "P with a transparent colour", "RGB", "RGBA", "CMYK", "I;16"])
def test_the_transform_reads_a_picture_as_the_datasets_do(tmp_path, mode, channels):
    draw = np.random.default_rng(0)
    if mode == "I;16":
        picture = Image.fromarray(draw.integers(0, 65536, (12, 12)).astype(np.uint16))
    else:
        picture = Image.fromarray(draw.integers(0, 256, (12, 12, 3), dtype=np.uint8)).convert(mode.split()[0])
    file = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    picture.save(file, **({"transparency": 3} if "transparent" in mode else {}))
    loaded = load_backbone(
        "untrained:test_resnet", channels=channels, image_size=12, mean=[0.5] * channels, std=[1] * channels
    )
    with Image.open(file) as opened:
        found = loaded.transform(opened)
    expected = loaded.transform(read_image(file))
    torch.testing.assert_close(found, expected, rtol=0, atol=1.01 / 255)  # the grey of three equal colours is rounded


def test_a_transform_says_what_it_lacks():
    loaded = load_backbone("untrained:test_resnet", image_size=32)
    with pytest.raises(WeightsError, match=r"does not say its mean, std, .* give them as mean=\.\.\., std=\.\.\."):
        _ = loaded.transform
    loaded = load_backbone("untrained:test_resnet", mean=[0.5] * 3, std=[0.5] * 3)
    with pytest.raises(WeightsError, match="does not say its image_size"):
        _ = loaded.transform


def test_it_is_in_eval_mode_and_can_be_trained():
    loaded = load_backbone("untrained:test_resnet")
    assert not any(module.training for module in loaded.modules())
    assert all(parameter.requires_grad for parameter in loaded.parameters())
    assert isinstance(loaded, nn.Module)
    assert loaded.num_features == loaded(images(32, 3)).shape[1]


@pytest.mark.parametrize("known", [True, False])
def test_grey_images_for_a_network_of_colours(known):
    statistics = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4]} if known else {}
    loaded = load_backbone("untrained:test_resnet", **statistics)
    grey = torch.rand(4, 1, 32, 32)
    mean, std = (torch.tensor(statistics.get(k, [v])).view(1, -1, 1, 1) for k, v in (("mean", 0.3), ("std", 0.7)))
    expected = loaded((grey.expand(-1, 3, -1, -1) - mean) / std)
    with pytest.raises(RuntimeError):
        loaded(grey)
    loaded.accept_grey([0.3], [0.7])
    torch.testing.assert_close(loaded((grey - 0.3) / 0.7), expected, rtol=1e-5, atol=1e-5)
    colours = images(32, 3)
    assert torch.equal(loaded(colours), loaded.backbone(colours))
    with pytest.raises(WeightsError, match="one mean and one std"):
        loaded.accept_grey([0.1, 0.2], [0.3])


def test_what_a_file_of_it_says(tmp_path):
    loaded = load_backbone(
        "untrained:resnet18", stem="cifar", width=0.125, mean=[0.5] * 3, std=[0.25] * 3, image_size=32
    )
    zoo.write_weights(tmp_path / "x.safetensors", loaded.backbone.state_dict(), loaded.about())
    again = load_backbone(tmp_path / "x.safetensors")
    same_features(again, loaded, images(32, 3))
    assert (again.architecture, again.mean, again.std) == (loaded.architecture, loaded.mean, loaded.std)
    assert again.image_size == 32


def test_the_package_is_imported_without_torch():
    code = "import sys, solo_frossl; assert 'torch' not in sys.modules; assert callable(solo_frossl.load)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_what_a_file_of_a_run_says_and_what_it_does_not(tmp_path):
    """After how many epochs it was saved, which encoder it is; and not where its author's files lay."""
    model, _ = build("byol")
    config = config_of("byol", root="/home/me/photos", mean=[0.3], std=[0.4]) | {"runs_dir": "/home/me/runs"}
    config["trainer"] = {"max_epochs": 100}
    loops = {"fit_loop": {"epoch_progress": {"current": {"processed": 2}}}}
    torch.save(checkpoint(model, config) | {"epoch": 1, "loops": loops}, tmp_path / "last.ckpt")
    about = load_backbone(tmp_path / "last.ckpt", encoder="target").about()
    assert (about["epochs"], about["encoder"], about["seed"]) == (2, "target", 3)
    assert "/" not in str(about)
    assert about["config"]["data"]["root"] == "photos"
    zoo.write_weights(tmp_path / "x.safetensors", model.target_backbone.state_dict(), about)
    again = load_backbone(tmp_path / "x.safetensors")
    assert (again.epochs, again.encoder) == (2, "target")
    assert "encoder" not in load_backbone(tmp_path / "last.ckpt").about()

"""The programs that probe any backbone, from the command line to the files: linear, knn, features, export, zoo add."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import solo_frossl
from solo_frossl.cli import main
from solo_frossl.cli.export import export
from solo_frossl.cli.features import features
from solo_frossl.cli.knn import knn
from solo_frossl.cli.linear import linear
from solo_frossl.cli.pretrain import pretrain
from solo_frossl.cli.zoo import zoo
from solo_frossl.probe import linear_and_knn, read_features
from solo_frossl.run_files import read_metrics
from solo_frossl.weights import WeightsError, load_backbone
from solo_frossl.weights.export import export_backbone
from solo_frossl.zoo import cached_path, check_file, read_about, read_index

ROOT = Path(__file__).parents[2]
NETWORK = ["--model.backbone=resnet18", "--model.width=0.125"]
TINY = ["--data.subset=256", "--data.batch_size=64", "--trainer.max_epochs=1", "--trainer.accelerator=cpu", *NETWORK]
QUICK = ["--device=cpu", "--linear.epochs=3"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with two runs on digits: ``frossl``, and ``byol`` with its target network."""
    folder = tmp_path_factory.mktemp("runs")
    for method in ("frossl", "byol"):
        config = ["--config", str(ROOT / f"configs/digits/{method}.yaml"), f"--name={method}", f"--runs_dir={folder}"]
        assert pretrain([*config, *TINY]) == 0
    return folder


@pytest.fixture
def colour(tmp_path):
    """A file with a network for colour images, of random weights."""
    backbone = load_backbone(
        "untrained:resnet18", stem="cifar", width=0.125, image_size=8, mean=[0.4] * 3, std=[0.2] * 3
    )
    export_backbone(backbone, tmp_path / "colour.safetensors", "safetensors")
    return tmp_path / "colour.safetensors"


@pytest.fixture
def photos(tmp_path):
    """Colour images of two classes, told apart by their hue."""
    draw = np.random.default_rng(0)
    for split, number in (("train", 24), ("val", 8)):
        for name, channel in (("red", 0), ("blue", 2)):
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for i in range(number):
                pixels = draw.integers(0, 80, (16, 16, 3), dtype=np.uint8)
                pixels[..., channel] += 150
                Image.fromarray(pixels).save(folder / f"{i}.png")
    return tmp_path / "photos"


def result(folder, name="linear.json"):
    return json.loads((folder / name).read_text(encoding="utf-8"))


def refused(program, *argv):
    with pytest.raises(SystemExit) as stop:
        program(list(argv))
    assert stop.value.code == 2


# ----------------------------------------------------------------------------------------------------- the linear probe


def test_a_run_by_name_by_folder_and_by_file_is_one_thing(runs, tmp_path, capsys):
    tops = []
    for spec in ("frossl", str(runs / "frossl"), str(runs / "frossl/checkpoints/last.ckpt")):
        assert linear([f"--backbone={spec}", f"--runs_dir={runs}", f"--out={tmp_path}", *QUICK]) == 0
        found = result(tmp_path)
        tops.append(found["top1"])
        assert (found["dataset"], found["num_train"], found["num_features"]) == ("digits", 256, 64)
    assert tops[0] == tops[1] == tops[2] > 30
    assert (found["protocol"], found["linear"]["epochs"], found["subset"]) == ("sgd", 3, 256)
    printed = capsys.readouterr().out
    assert "left out: 16 tensors, projector" in printed  # every key is accounted for
    assert (tmp_path / "confusion.png").stat().st_size > 5000


def test_results_go_to_the_runs_folder_by_the_console_script(runs, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["solo-frossl", "linear", f"--backbone={runs}/frossl", *QUICK])
    assert main() == 0
    assert result(runs / "frossl/linear")["top1"] > 30


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["sgd", "lbfgs", "ridge"])
def test_baselines_are_measured_in_the_same_way(runs, tmp_path, capsys, protocol):
    epochs = ["--linear.epochs=20"] if protocol == "sgd" else []
    options = [f"--protocol={protocol}", f"--out={tmp_path}", "--device=cpu", *epochs]
    assert linear([f"--backbone={runs}/frossl", "--baselines", *options]) == 0
    found = result(tmp_path, "linear.json" if protocol == "sgd" else f"{protocol}.json")
    rows = {row["name"]: row for row in found["baselines"]}
    assert list(rows) == ["trained", "untrained", "raw pixels"]
    assert rows["trained"]["linear_top1"] == found["top1"]
    assert (rows["untrained"]["dimension"], rows["raw pixels"]["dimension"]) == (64, 64)
    assert rows["raw pixels"]["linear_top1"] > 85
    assert "raw pixels" in capsys.readouterr().out
    # The untrained network is the one that the run started with.
    assert linear(["--backbone=untrained:resnet18", "--stem=cifar", *options]) == 0
    assert result(tmp_path, "linear.json" if protocol == "sgd" else f"{protocol}.json")["num_train"] == 1438


def test_the_target_network_is_another(runs, tmp_path):
    for encoder in ("backbone", "target"):
        options = [f"--encoder={encoder}", f"--out={tmp_path / encoder}", "--protocol=ridge", "--device=cpu"]
        assert linear([f"--backbone={runs}/byol", *options]) == 0
    backbone, target = (result(tmp_path / encoder, "ridge.json") for encoder in ("backbone", "target"))
    assert backbone["confusion"] != target["confusion"]


@pytest.mark.slow
def test_no_result_takes_the_place_of_another(tmp_path, runs, colour, photos, monkeypatch):
    """Of another encoder, checkpoint, dataset or file; and each says of what it is."""
    monkeypatch.chdir(tmp_path)
    quick = ["--protocol=ridge", "--fast.penalty=1", "--device=cpu"]
    run, photographs = runs / "byol", ["--dataset=folder", f"--data.root={photos}"]
    best = run / "checkpoints/best.ckpt"
    for given in (
        [f"--backbone={run}", *quick],
        [f"--backbone={run}", "--encoder=target", *quick],
        [f"--backbone={best}", "--encoder=target", *quick],
        [f"--backbone={run}", "--augment", *QUICK],
        [f"--backbone={colour}", *quick],
        [f"--backbone={colour}", *photographs, *quick],
        ["--backbone=untrained:resnet18", *quick],
    ):
        assert linear(given) == 0
    places = [path.relative_to(folder) for folder in (run, tmp_path) for path in folder.rglob("linear*/*.json")]
    assert sorted(map(str, places)) == [
        "colour.safetensors-probes/linear-digits/ridge.json",
        "colour.safetensors-probes/linear-folder-photos/ridge.json",
        "linear-best-target/ridge.json",
        "linear-target/ridge.json",
        "linear/linear-augment.json",
        "linear/ridge.json",
        "runs/untrained-resnet18/linear-digits/ridge.json",
    ]
    found = result(run / "linear-target", "ridge.json")
    assert (found["encoder"], found["architecture"]["width"]) == ("target", 0.125)


@pytest.mark.slow
def test_options_in_a_file_are_those_of_the_command_line(runs, tmp_path, capsys):
    def probed(file, *given, name="ridge.json"):
        (tmp_path / "probe.yaml").write_text(yaml.safe_dump(file), encoding="utf-8")
        assert linear([f"--config={tmp_path}/probe.yaml", *given, "--device=cpu", f"--out={tmp_path}"]) == 0
        return result(tmp_path, name)

    run, ridge = str(runs / "byol"), {"protocol": "ridge", "fast": {"penalty": 1.0}}
    by_file = probed({"backbone": run, "encoder": "target", **ridge})
    assert by_file == probed(ridge, f"--backbone={run}", "--encoder=target")
    assert by_file["confusion"] != probed(ridge, f"--backbone={run}")["confusion"]

    tuned = {"finetune": {"epochs": 1}, "labels": 64}
    options = {"name": "finetune-labels-64.json"}
    by_file = probed({"backbone": run, "protocol": "finetune", **tuned}, **options)
    by_line = probed(tuned, f"--backbone={run}", "--protocol=finetune", **options)
    assert by_file["epochs"][0]["loss"] == by_line["epochs"][0]["loss"]  # so the views are the same

    (tmp_path / "probe.yaml").write_text("\nbackbone: nowhere\n", encoding="utf-8")
    refused(linear, f"--config={tmp_path}/probe.yaml")
    assert "probe.yaml, line 2: --backbone nowhere: " in capsys.readouterr().err


def test_few_labels(runs, tmp_path, capsys):
    options = ["--protocol=lbfgs", "--labels=0.2", "--device=cpu", f"--out={tmp_path}"]
    assert linear([f"--backbone={runs}/frossl", *options]) == 0
    found = result(tmp_path, "lbfgs-labels-0.2.json")
    assert (found["labels"], found["num_train"]) == (0.2, 51)
    assert "with 51 labels" in capsys.readouterr().out
    assert (
        knn([f"--backbone={runs}/frossl", "--labels=0.2", "--k", "1", "500", "--device=cpu", f"--out={tmp_path}"]) == 0
    )
    found = result(tmp_path, "knn-labels-0.2.json")
    assert [row["k"] for row in found["results"]] == [1, 51]  # no more vote than there are
    refused(linear, f"--backbone={runs}/frossl", "--labels=0.01", "--device=cpu")
    assert "leaves no labelled image of" in capsys.readouterr().err


def test_augmented_training_of_the_classifier(runs, tmp_path):
    assert linear([f"--backbone={runs}/frossl", "--augment", f"--out={tmp_path}", *QUICK]) == 0
    found = result(tmp_path, "linear-augment.json")
    assert (found["augment"], found["linear"]["batch_size"]) == (True, 64)
    assert linear([f"--backbone={runs}/frossl", f"--out={tmp_path / 'plain'}", *QUICK]) == 0
    assert found["train_top1"] != result(tmp_path / "plain")["train_top1"]


def test_fine_tuning(runs, tmp_path, capsys):
    options = ["--protocol=finetune", "--finetune.epochs=2", "--labels=64", "--device=cpu", f"--out={tmp_path}"]
    assert linear([f"--backbone={runs}/frossl", *options]) == 0
    found = result(tmp_path, "finetune-labels-64.json")
    assert (found["protocol"], len(found["epochs"]), found["num_train"]) == ("finetune", 2, 64)
    assert found["finetune"]["epochs"] == 2
    assert "fine-tuning of" in capsys.readouterr().out


@pytest.mark.slow
def test_fine_tuning_in_two_processes_is_told_once(runs, tmp_path):
    """The Trainer starts the second process by the same command line."""
    options = ["--protocol=finetune", "--finetune.epochs=1", "--device=cpu", "--devices=2", f"--out={tmp_path}"]
    command = [sys.executable, str(ROOT / "main_linear.py"), f"--backbone={runs}/frossl", *options]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("layout: solo_frossl") == run.stdout.count("fine-tuning of") == 1
    assert result(tmp_path, "finetune.json")["num_train"] == 256


# ------------------------------------------------------------------------------------------------------------- transfer


def test_transfer_takes_the_backbones_size_and_normalisation(colour, photos, tmp_path):
    options = ["--dataset=folder", f"--data.root={photos}", "--protocol=ridge", "--device=cpu", f"--out={tmp_path}"]
    assert linear([f"--backbone={colour}", *options]) == 0
    found = result(tmp_path, "ridge.json")
    assert (found["image_size"], found["mean"], found["std"]) == (8, [0.4] * 3, [0.2] * 3)
    assert found["top1"] == 100
    assert linear([f"--backbone={colour}", *options, "--data.image_size=16", "--data.mean=[0.5, 0.5, 0.5]"]) == 0
    found = result(tmp_path, "ridge.json")
    assert (found["image_size"], found["mean"], found["std"]) == (16, [0.5] * 3, [0.2] * 3)


def test_a_run_says_how_its_images_are_prepared(runs, photos, tmp_path):
    """Digits publish no mean: it is measured on the training images, and nowhere in the configuration."""
    backbone = load_backbone(runs / "frossl/checkpoints/last.ckpt")
    assert (backbone.image_size, backbone.mean) == (8, (pytest.approx(0.3057, abs=1e-4),))
    assert backbone.std == (pytest.approx(0.3759, abs=1e-4),)
    assert solo_frossl.load("frossl", runs_dir=runs).transform(Image.new("RGB", (8, 8))).shape == (1, 8, 8)
    options = ["--dataset=folder", f"--data.root={photos}", "--device=cpu", "--picture=none"]
    assert features([f"--backbone={runs}/frossl", *options, f"--out={tmp_path}/a.npz"]) == 0
    export_backbone(backbone, tmp_path / "backbone.safetensors", "safetensors")
    assert features([f"--backbone={tmp_path}/backbone.safetensors", *options, f"--out={tmp_path}/b.npz"]) == 0
    (run, *_), (file, *_) = read_features(tmp_path / "a.npz"), read_features(tmp_path / "b.npz")
    torch.testing.assert_close(run.features, file.features)


def grey(folder, **statistics):
    """A file with a network of one channel, of random weights."""
    backbone = load_backbone("untrained:resnet18", stem="cifar", width=0.125, image_size=8, channels=1, **statistics)
    export_backbone(backbone, folder / "grey.safetensors", "safetensors")
    return folder / "grey.safetensors"


def test_images_that_cannot_be_probed(colour, photos, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    options = [f"--backbone={colour}", "--dataset=folder", "--device=cpu"]
    refused(knn, *options, f"--data.root={tmp_path}/empty")
    assert f"no images in {tmp_path}/empty" in capsys.readouterr().err
    options[0] = "--backbone=untrained:convnext_atto"  # whose smallest image has 32 pixels
    refused(knn, *options, f"--data.root={photos}", "--data.image_size=24")
    assert "cannot take images of 24 x 24 pixels" in capsys.readouterr().err


def test_a_network_for_grey_sees_the_luma_of_colours(photos, tmp_path, capsys):
    """As torchvision has it; and the same as by the backbone's own transform."""
    file = grey(tmp_path, mean=[0.4], std=[0.2])
    options = ["--dataset=folder", f"--data.root={photos}", "--device=cpu", f"--out={tmp_path}/f.npz"]
    assert features([f"--backbone={file}", *options, "--picture=none"]) == 0
    assert capsys.readouterr().out.count("are in colour and") == 1
    found = read_features(tmp_path / "f.npz")
    assert (found.about["mean"], found.about["std"], found.about["image_size"]) == ([0.4], [0.2], 8)
    backbone = load_backbone(file)
    with torch.no_grad():
        paths = [path for name in found.class_names for path in sorted((photos / "val" / name).iterdir())]
        own = backbone(torch.stack([backbone.transform(Image.open(path)) for path in paths]))
    error = (found.validation.features - own).norm(dim=1) / own.norm(dim=1)
    assert error.max() < 1e-4
    red, blue = (own[found.validation.label == found.class_names.index(name)] for name in ("red", "blue"))
    assert (red.mean(0) - blue.mean(0)).norm() / own.norm(dim=1).mean() > 0.1  # so that the line above can fail


@pytest.mark.parametrize("known", [True, False])
def test_the_normalisation_of_colours_in_grey(photos, tmp_path, known):
    """The network's, unless one is given; where neither is, the luma of the dataset's."""
    file = grey(tmp_path, **({"mean": [0.4], "std": [0.2]} if known else {}))
    options = [f"--backbone={file}", "--dataset=folder", f"--data.root={photos}", "--device=cpu", f"--out={tmp_path}"]
    for given, mean, std in (
        ([], *((0.4, 0.2) if known else (0.4588, 0.2255))),
        (["--data.mean=[0.5, 0.5, 0.5]"], 0.5, 0.2 if known else 0.2255),
    ):
        assert knn([*options, *given, "--k", "1"]) == 0
        found = result(tmp_path, "knn.json")
        assert found["mean"] == pytest.approx([mean], abs=2e-4)
        assert found["std"] == pytest.approx([std], abs=2e-4)


@pytest.mark.parametrize("sizes", [[(16, 16)], [(16, 16), (12, 20)]])
def test_colours_in_grey_by_every_protocol(runs, photos, tmp_path, sizes):
    """Also where images of different sizes are streamed; and baselines see the same grey images."""
    for i, path in enumerate(sorted(photos.rglob("*.png"))):
        with Image.open(path) as picture:
            picture.resize(sizes[i % len(sizes)]).save(path)
    images = ["--dataset=folder", f"--data.root={photos}", "--data.image_size=8", "--data.workers=0"]
    options = [f"--backbone={runs}/frossl", *images, "--device=cpu", f"--out={tmp_path}"]
    assert linear([*options, "--augment", "--baselines", "--linear.epochs=2", "--linear.batch_size=16"]) == 0
    found = result(tmp_path, "linear-augment.json")
    assert {row["name"]: row["dimension"] for row in found["baselines"]}["raw pixels"] == 64  # of one channel
    assert linear([*options, "--protocol=finetune", "--finetune.epochs=1"]) == 0
    assert result(tmp_path, "finetune.json")["num_train"] == 48


def test_transfer_of_a_run_goes_to_a_folder_of_its_own(runs, photos, tmp_path, capsys):
    options = ["--dataset=folder", f"--data.root={photos}", "--protocol=ridge", "--device=cpu"]
    assert linear([f"--backbone={runs}/frossl", *options]) == 0
    assert result(runs / "frossl/linear-folder-photos", "ridge.json")["num_validation"] == 16
    two = load_backbone("untrained:resnet18", channels=2, width=0.125, stem="cifar", image_size=8)
    export_backbone(two, tmp_path / "two.safetensors", "safetensors")
    refused(linear, f"--backbone={tmp_path}/two.safetensors", *options)
    assert "the images of folder have 3 channels and" in capsys.readouterr().err


def test_a_network_for_colour_sees_grey_images(colour, tmp_path):
    assert (
        linear([f"--backbone={colour}", "--dataset=digits", "--protocol=ridge", "--device=cpu", f"--out={tmp_path}"])
        == 0
    )
    found = result(tmp_path, "ridge.json")
    assert found["num_validation"] == 359
    assert found["top1"] > 60  # of random weights; far above chance


# ----------------------------------------------------------------------------------------------- what is said of faults


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "--backbone is needed: a run folder"),
        (["--backbone=nowhere"], "nowhere is no file, and no run named 'nowhere'"),
        (["--checkpoint=a"], "--checkpoint is now --backbone"),
        (["--backbone=untrained", "--trainer.max_epochs=3"], "--trainer.max_epochs=3 is an option of pretraining"),
        (["--backbone=untrained", "--model.width=3"], "--model.width=3 is an option of pretraining"),
        (["--backbone=untrained", "--device=cuda:99"], "--device cuda:99 is not here"),
        (["--backbone=untrained:resnet81"], "backbone is 'resnet81', which timm does not have; did you mean"),
        (["--backbone=untrained", "--stem={kernel: 3}"], "--stem {kernel: 3}: "),
        (["--backbone=untrained", "--stem=large"], "stem is 'large': it must be imagenet or cifar"),
        (["--backbone=zoo:nothing"], "there is no checkpoint 'nothing' in"),
        (["--backbone=untrained", "--linear.epochs=0"], "linear.epochs is 0"),
        (["--backbone=untrained", "--protocol=ridge", "--linear.epochs=3"], "--linear.epochs is for --protocol sgd"),
        (["--backbone=untrained", "--fast.penalty=3"], "--fast.penalty is for --protocol lbfgs or ridge"),
        (["--backbone=untrained", "--protocol=ridge", "--augment"], "--augment is for --protocol sgd"),
        (["--backbone=untrained", "--protocol=finetune", "--baselines"], "--baselines are of frozen features"),
        (["--backbone=untrained", "--devices=2"], "--devices is for --protocol finetune"),
        (["--backbone=untrained", "--encoder=teacher"], "encoder"),
        (["--backbone"], "--backbone"),
        (["--backbone="], "the backbone's name is empty"),
        (["--backbone=untrained", "--seed_everything=-1"], "command line: seed_everything is -1: it must be from 0"),
        (["--backbone=untrained", "--seed_everything=x"], "seed_everything must be a whole number, not x"),
        (["--backbone=untrained", "--stem=[1"], "--stem [1: expected ',' or ']'"),
        (["--backbone=untrained", "--dataset=digit"], "dataset digit is not known; did you mean digits"),
        (["--backbone=untrained", "--epochs=3"], "epochs is not a known key"),
    ],
)
def test_what_cannot_be_probed(tmp_path, monkeypatch, capsys, given, message):
    monkeypatch.chdir(tmp_path)
    refused(linear, *given)
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not list(tmp_path.iterdir())


def test_the_help_of_each_program(capsys):
    for program in (linear, knn, features):
        with pytest.raises(SystemExit) as stop:
            program(["--help"])
        assert stop.value.code == 0
        text = capsys.readouterr().out
        assert "zoo:NAME, timm:NAME" in " ".join(text.split())
        assert "--model." not in text
        assert "--trainer." not in text


# ----------------------------------------------------------------------------------------------- k-NN, features, export


def test_knn_for_several_k(runs, tmp_path, capsys):
    assert knn([f"--backbone={runs}/frossl", "--k", "20", "1", "--device=cpu", f"--out={tmp_path}"]) == 0
    found = result(tmp_path, "knn.json")
    assert [row["k"] for row in found["results"]] == [1, 20]
    by_run = float((runs / "frossl/metrics.csv").read_text().splitlines()[1].split(",")[1])
    assert found["results"][1]["top1"] == pytest.approx(by_run, abs=0.3)  # what the run measured, at most an image off
    assert found["results"][0]["top5"] is None  # of one neighbour, the other four places would be drawn by lot
    assert found["results"][1]["top5"] > found["results"][1]["top1"]
    assert "top-5 %" in capsys.readouterr().out
    for given in (["--k", "5", "0"], ["--temperature=0"]):
        refused(knn, f"--backbone={runs}/frossl", *given, "--device=cpu", f"--out={tmp_path / 'none'}")
        assert "neighbours must be 1 or more, the temperature above 0" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_a_warning_is_a_line(tmp_path, capsys):
    """Of a damaged file in the cache."""
    entry = read_index().find("frossl-resnet18w0.25-digits")
    cached_path(entry, tmp_path).write_bytes(b"x")
    assert knn([f"--backbone=zoo:{entry.name}", f"--cache={tmp_path}", "--device=cpu", f"--out={tmp_path / 'a'}"]) == 0
    (line,) = (line for line in capsys.readouterr().err.splitlines() if "it was deleted" in line)
    assert line.startswith(f"warning: {tmp_path}")


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_features_as_a_file_and_a_picture(runs, tmp_path, suffix):
    assert features([f"--backbone={runs}/frossl", f"--out={tmp_path}/a{suffix}", "--device=cpu"]) == 0
    found = read_features(tmp_path / f"a{suffix}")
    assert found.train.features.shape == (256, 64)
    assert found.validation.features.shape == (359, 64)
    assert found.about["backbone"].endswith("last.ckpt")
    with Image.open(tmp_path / "a-pca.png") as picture:
        assert min(picture.size) > 500
    assert torch.isfinite(found.train.features).all()


def test_features_of_a_folder_without_classes(colour, tmp_path, capsys):
    draw = np.random.default_rng(0)
    (tmp_path / "plain").mkdir()
    for i in range(40):
        pixels = draw.integers(0, 256, (10, 14, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"plain/{i}.png")
    images = ["--dataset=folder", f"--data.root={tmp_path}/plain", "--device=cpu"]
    assert features([f"--backbone={colour}", *images, f"--out={tmp_path}/a.npz"]) == 0
    found = read_features(tmp_path / "a.npz")
    assert (len(found.train.label), len(found.validation.label), found.class_names) == (36, 4, [])
    assert {*found.train.label.tolist(), *found.validation.label.tolist()} == {-1}
    printed = capsys.readouterr().out
    assert "without a label, -1 in the file: 36 training and 4 validation images" in printed
    assert (tmp_path / "a-pca.png").stat().st_size > 5000

    (tmp_path / "plain/3.png").write_bytes(b"no image")
    skip = ["--data.on_error=skip", "--data.residency=stream", "--data.workers=0", "--data.image_size=8"]
    with pytest.warns(UserWarning, match="skipped the unreadable image"):
        assert features([f"--backbone={colour}", *images, *skip, f"--out={tmp_path}/b.npz"]) == 0
    found = read_features(tmp_path / "b.npz")
    assert len(found.train.label) + len(found.validation.label) == 39
    assert "left out: 1 image file(s) that cannot be read" in capsys.readouterr().out

    for program in (knn, linear):
        refused(program, f"--backbone={colour}", *images)
        assert "a probe needs labels" in capsys.readouterr().err


@pytest.mark.parametrize("most", [10_000, 2])
def test_features_of_labelled_and_unlabelled_images(colour, tmp_path, capsys, monkeypatch, most):
    """Of STL-10: those with a label as k-NN has them, then those without; the picture counts what it draws."""
    from solo_frossl.cli import features as program

    drawn = {}
    monkeypatch.setattr(program, "draw_features", lambda x, y, *_, **options: drawn.update(x=x, y=y, **options))
    monkeypatch.setattr(program, "MOST_UNLABELLED", most)
    draw, options = np.random.default_rng(0), ["--dataset=stl10", f"--data.root={tmp_path}", "--device=cpu"]
    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    for name, count in (("train", 4), ("unlabeled", 6), ("test", 3)):
        (folder / f"{name}_X.bin").write_bytes(draw.integers(0, 256, (count, 3, 96, 96), dtype=np.uint8).tobytes())
    (folder / "train_y.bin").write_bytes(bytes([1, 10, 3, 4]))
    (folder / "test_y.bin").write_bytes(bytes([1, 6, 4]))
    (folder / "class_names.txt").write_text("\n".join(f"class {i}" for i in range(10)))
    monkeypatch.setattr("torchvision.datasets.STL10._check_integrity", lambda _: True)

    assert features([f"--backbone={colour}", *options, f"--out={tmp_path}/a.npz"]) == 0
    found, printed = read_features(tmp_path / "a.npz"), capsys.readouterr().out
    assert found.train.label.tolist() == [0, 9, 2, 3] + [-1] * 6
    assert found.train.index.tolist() == list(range(10))
    assert found.validation.label.tolist() == [0, 5, 3]
    assert "10 training and 3 validation images, dimension 64" in printed
    assert "without a label, -1 in the file: 6 training and 0 validation images" in printed
    assert ("the picture has 2 of the 6 images without a label" in printed) == (most == 2)
    assert (drawn["y"].tolist(), drawn["unlabelled"]) == ([0, 5, 3] + [-1] * min(6, most), 6)
    assert drawn["name"].endswith("on stl10, k-NN")
    distances = np.abs(drawn["x"][:, None] - torch.cat([found.validation.features, found.train.features]).numpy())
    rows = distances.sum(2).argmin(1)
    assert rows[:3].tolist() == [0, 1, 2]
    assert {*rows[3:].tolist()} <= {7, 8, 9, 10, 11, 12}
    assert len({*rows.tolist()}) == len(rows)


def test_features_that_cannot_be_written(runs, tmp_path, capsys):
    refused(features, f"--backbone={runs}/frossl", f"--out={tmp_path}/a.csv", "--device=cpu")
    assert ".npz" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    refused(features, f"--backbone={runs}/frossl", f"--out={tmp_path}/file/a.npz", "--device=cpu")
    assert "choose another place with --out" in capsys.readouterr().err


def test_export(runs, tmp_path, capsys):
    path = tmp_path / "new/digits.pth"
    assert export([f"--backbone={runs}/frossl", "--format=timm", f"--out={path}"]) == 0
    printed = capsys.readouterr().out
    lines = printed.split("To read it without this package:\n\n")[1].splitlines()
    names: dict = {}
    exec("\n".join(line.strip() for line in lines), names)
    images = torch.randn(2, 1, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(names["features"](images), load_backbone(runs / "frossl")(images))
    for given, message in {
        ("--format=torchvision",): "width 0.125, and torchvision's has width 1 only",
        ("--format=timm", f"--out={tmp_path}/a.onnx"): "files of the format timm end in .pth",
        ("--format=timm", "--image_size=-4"): "image_size is -4: it must be at least 1 pixel",
        ("--format=timm", "--image_size=0"): "image_size is 0: it must be at least 1 pixel",
    }.items():
        refused(export, f"--backbone={runs}/frossl", *given)
        assert message in capsys.readouterr().err


def test_export_leaves_its_source_alone(colour, tmp_path, monkeypatch, capsys):
    before = colour.read_bytes()
    same = colour.parent / ".." / colour.parent.name / colour.name
    refused(export, f"--backbone={colour}", "--format=safetensors", f"--out={same}")
    assert "the file that is read, which may hold more" in capsys.readouterr().err
    assert colour.read_bytes() == before
    monkeypatch.chdir(tmp_path)
    for format in ("timm", "safetensors"):
        assert export([f"--backbone={colour}", f"--format={format}", "--image_size=8"]) == 0
    names = {path.name for path in tmp_path.iterdir()} - {colour.name}
    assert names == {"colour.safetensors-timm.pth", "colour.safetensors-safetensors.safetensors"}


# ----------------------------------------------------------------------------------------------------- where results go


def test_each_image_folder_has_results_of_its_own(colour, photos, tmp_path):
    """The JSON says which images they were."""
    shutil.copytree(photos, tmp_path / "others")
    for folder in (photos, tmp_path / "others"):
        options = ["--dataset=folder", f"--data.root={folder}", "--device=cpu", "--k=1"]
        assert knn([f"--backbone={colour}", *options]) == 0
        found = result(tmp_path / "colour.safetensors-probes" / f"knn-folder-{folder.name}", "knn.json")
        assert found["root"] == str(folder)


def test_a_place_that_cannot_be_written_to_is_refused_before_the_work(runs, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("solo_frossl.cli.probing.extract_features", None)
    (tmp_path / "file").touch()
    for program, out in ((linear, "file/x"), (knn, "file/x"), (features, "file/x/f.npz"), (linear, "file")):
        refused(program, f"--backbone={runs}/frossl", f"--out={tmp_path}/{out}", "--device=cpu")
        error = capsys.readouterr().err
        assert "cannot be written to" in error, error
        assert "--out" in error
    monkeypatch.setattr("tempfile.TemporaryFile", lambda **_: os.open("/proc/nothing", os.O_RDONLY))
    refused(knn, f"--backbone={runs}/frossl", f"--out={tmp_path}/there", "--device=cpu")
    assert f"{tmp_path}/there cannot be written to (No such file or directory)" in capsys.readouterr().err
    refused(features, f"--backbone={runs}/frossl", f"--out={tmp_path}/f.csv", "--device=cpu")
    assert "files that end in .npz or .safetensors" in capsys.readouterr().err


def test_data_that_has_moved_is_told_as_the_run_s(photos, tmp_path, capsys):
    config = ["--config", str(ROOT / "configs/folder/frossl.yaml"), "--name=r", f"--runs_dir={tmp_path}"]
    small = ["--data.image_size=16", "--data.batch_size=16", "--model.projector.hidden=32", "--model.stem=cifar"]
    assert pretrain([*config, f"--data.root={photos}", *TINY[2:], *small]) == 0
    photos.rename(tmp_path / "elsewhere")
    refused(knn, f"--backbone={tmp_path}/r", "--device=cpu")
    error = capsys.readouterr().err
    assert f"no folder {photos}" in error
    assert f"as the configuration of {tmp_path}/r/checkpoints/last.ckpt has it" in error
    assert "yaml" not in error
    assert knn([f"--backbone={tmp_path}/r/", "--device=cpu", "--k=1", f"--data.root={tmp_path}/elsewhere"]) == 0
    assert result(tmp_path / "r/knn-folder-elsewhere", "knn.json")["root"].endswith("elsewhere")


# -------------------------------------------------------------------------------------------------------------- zoo add


def test_an_entry_from_a_run(runs, tmp_path, capsys):
    """From the run to a file, an index and a card; from these alone to the same accuracy."""
    index = tmp_path / "ours/index.yaml"
    assert zoo(["add", str(runs / "frossl"), f"--index={index}", "--name=a"]) == 0
    entry = read_index(index).find("a")
    assert (entry.method, entry.dataset, entry.epochs, entry.precision) == ("frossl", "digits", 1, "float16")
    assert (entry.architecture["width"], entry.architecture["image_size"], entry.num_features) == (0.125, 8, 64)
    assert set(entry.accuracy) == {"online_top1", "linear_top1", "knn_top1"}
    files = {str(path.relative_to(index.parent)) for path in index.parent.rglob("*.*")}
    assert files - {"index.yaml.lock"} == {"cards/a.md", "cards/a.png", "index.yaml", f"weights/{entry.file}"}
    card = (index.parent / "cards/a.md").read_text(encoding="utf-8")
    for words in (entry.sha256, f"| linear probe | {entry.accuracy['linear_top1']:.2f} |", "width: 0.125"):
        assert words in card
    assert str(runs) not in card + index.read_text(
        encoding="utf-8"
    )  # where its author's files lay is nobody's business

    capsys.readouterr()
    options = ["--backbone=zoo:a", f"--index={index}", "--device=cpu", f"--out={tmp_path}"]
    assert linear(options) == 0
    assert result(tmp_path)["top1"] == pytest.approx(entry.accuracy["linear_top1"], abs=0.01)
    assert knn([*options, "--k", "20"]) == 0
    assert result(tmp_path, "knn.json")["results"][0]["top1"] == pytest.approx(entry.accuracy["knn_top1"], abs=0.01)

    backbone = solo_frossl.load("zoo:a", index=index)
    digit = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))
    assert backbone(backbone.transform(digit)[None]).shape == (1, 64)
    assert not backbone.training

    # The online classifier learned on the trained encoder, so its accuracy is none of the target network's.
    assert zoo(["add", str(runs / "byol"), f"--index={index}", "--encoder=target"]) == 0
    target = read_index(index).find("byol-target-resnet18w0.125-digits")
    assert set(target.accuracy) == {"linear_top1", "knn_top1"}
    assert (entry.encoder, target.encoder) == ("backbone", "target")
    assert read_about(index.parent / "weights" / target.file)["encoder"] == "target"
    assert "encoder" not in read_about(index.parent / "weights" / entry.file)
    assert "| encoder | `backbone`, the one" in card
    assert entry.measured_by.endswith("solo-frossl knn --backbone zoo:a --index index.yaml")
    assert f'solo_frossl.load("zoo:a", index="{index.name}")' in card
    assert "| encoder | `target`, the" in (index.parent / f"cards/{target.name}.md").read_text(encoding="utf-8")
    for role in ("backbone", "target"):  # it is all that the file holds
        assert load_backbone(f"zoo:{target.name}", index=index, encoder=role).num_features == 64
    with pytest.raises(WeightsError, match="there is no target in it"):
        load_backbone(f"zoo:{entry.name}", index=index, encoder="target")
    assert f"--backbone zoo:{target.name} --index {index}" in capsys.readouterr().out
    assert zoo(["remove", target.name, f"--index={index}", "--from_index"]) == 0

    refused(zoo, "add", str(runs / "byol"), f"--index={index}", "--name=a")
    assert "has an entry a already" in capsys.readouterr().err
    assert len(list((index.parent / "weights").iterdir())) == 1


def test_an_entry_of_ones_own_images_says_which_they_are(photos, tmp_path):
    """By the name of their folder, unless another is given; and its commands say where to name the folder."""
    config = ["--config", str(ROOT / "configs/folder/frossl.yaml"), "--name=r", f"--runs_dir={tmp_path}"]
    small = ["--data.image_size=16", "--data.batch_size=16", "--model.projector.hidden=32", "--model.stem=cifar"]
    assert pretrain([*config, f"--data.root={photos}", *TINY[2:], *small]) == 0
    index = tmp_path / "index.yaml"
    for more in ([], ["--trained_on=flowers"]):
        assert zoo(["add", str(tmp_path / "r"), f"--index={index}", "--device=cpu", *more]) == 0
    entries = read_index(index).entries
    assert {name: entry.dataset for name, entry in entries.items()} == {
        "frossl-resnet18w0.125-photos": "photos",
        "frossl-resnet18w0.125-flowers": "flowers",
    }
    for entry in entries.values():
        assert entry.measured_by.endswith(f"knn --backbone zoo:{entry.name} --index index.yaml --data.root photos")
        assert read_about(index.parent / "weights" / entry.file)["dataset"] == entry.dataset
        assert f"## Accuracy on {entry.dataset}" in (index.parent / f"cards/{entry.name}.md").read_text("utf-8")
        options = [f"--backbone=zoo:{entry.name}", f"--index={index}", f"--data.root={photos}", f"--out={tmp_path}"]
        assert knn([*options, "--device=cpu", "--k=20"]) == 0
        assert result(tmp_path, "knn.json")["results"][0]["top1"] == entry.accuracy["knn_top1"]


def test_an_entry_says_after_how_many_epochs_its_weights_were_saved(runs, tmp_path, capsys):
    """Not how many the run has had by now; and not of weights that were saved within an epoch."""
    folder = tmp_path / "r"
    shutil.copytree(runs / "frossl", folder)
    given = [f"--runs_dir={tmp_path}", "--resume=r", "--trainer.max_epochs=2"]
    assert pretrain([*given, "--checkpoint.every_n_steps=3"]) == 0
    assert [int(row) for row in read_metrics(folder / "metrics.csv")] == [0, 1]
    last, previous = (folder / f"checkpoints/{name}.ckpt" for name in ("last", "previous"))
    os.replace(previous, last)  # of the seventh step of eight
    index = tmp_path / "index.yaml"
    refused(zoo, "add", str(folder), f"--index={index}", "--device=cpu")
    assert "was saved within an epoch" in capsys.readouterr().err
    assert not index.exists()
    shutil.copy(runs / "frossl/checkpoints/last.ckpt", previous)
    last.write_bytes(last.read_bytes()[:-1000])
    assert zoo(["add", str(folder), f"--index={index}", "--device=cpu"]) == 0
    assert "trying the one before" in capsys.readouterr().err
    (entry,) = read_index(index).entries.values()
    first, second = (row["online/top1"] for row in read_metrics(folder / "metrics.csv").values())
    assert (entry.epochs, entry.accuracy["online_top1"]) == (1, round(first, 2))
    assert first != second


OTHER_IMAGES = ("--data.mean=[0.0]", "--data.subset=64", "--data={}", "--dataset=cifar10", "--seed_everything=3")


@pytest.mark.parametrize("option", [*OTHER_IMAGES, "--bf16"])
def test_an_entry_is_measured_as_its_commands_will(runs, tmp_path, capsys, option):
    refused(zoo, "add", str(runs / "frossl"), f"--index={tmp_path}/index.yaml", option)
    assert f"{option.split('=')[0]} is not for solo-frossl zoo add" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_one_that_is_added_twice_at_the_same_time_stays_whole(runs, tmp_path, capsys, monkeypatch):
    index, arguments = tmp_path / "index.yaml", ["add", str(runs / "frossl"), "--name=a", "--device=cpu"]

    def meanwhile(*args, **kwargs):
        monkeypatch.undo()
        assert zoo([*arguments, f"--index={index}"]) == 0
        return linear_and_knn(*args, **kwargs)

    monkeypatch.setattr("solo_frossl.cli.zoo_add.linear_and_knn", meanwhile)
    refused(zoo, *arguments, f"--index={index}")
    assert "has an entry a already" in capsys.readouterr().err
    entry = read_index(index).find("a")
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert files - {"index.yaml.lock"} == {"cards/a.md", "cards/a.png", "index.yaml", f"weights/{entry.file}"}
    assert check_file(tmp_path / "weights" / entry.file, entry) is None


def test_an_index_that_cannot_be_written_leaves_no_file(runs, tmp_path, capsys, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("solo_frossl.zoo.index.write_index", full)
    refused(zoo, "add", str(runs / "frossl"), f"--index={tmp_path}/index.yaml", "--name=a", "--device=cpu")
    assert "the entry cannot be written: [Errno 28] No space left on device" in capsys.readouterr().err
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {"index.yaml.lock"}


def test_what_cannot_be_an_entry(runs, tmp_path, colour, capsys):
    index = tmp_path / "index.yaml"
    for given, message in {
        (): "needs a run first",
        (str(colour), "--dataset=digits"): "--dataset is not for",
        (str(colour),): "give the run's folder",
        ("untrained:resnet18",): "is no run with its own data",
        (str(runs / "frossl/checkpoints/best.ckpt"),): "give the run's folder",
        (str(runs / "frossl"), "--name=../a"): "must be a plain name",
        (str(runs / "frossl"), "--precision=int8"): "precision is 'int8'",
    }.items():
        refused(zoo, "add", *given, f"--index={index}", "--device=cpu")
        assert message in capsys.readouterr().err
        assert not index.exists()
        assert not (tmp_path / "weights").exists()


def test_a_weight_that_half_precision_cannot_hold_leaves_nothing(runs, tmp_path, capsys):
    broken = tmp_path / "runs/frossl"
    (broken / "checkpoints").mkdir(parents=True)
    for name in ("config.yaml", "metrics.csv"):
        (broken / name).write_bytes((runs / "frossl" / name).read_bytes())
    content = torch.load(runs / "frossl/checkpoints/last.ckpt", weights_only=True)
    content["state_dict"]["backbone.bn1.running_var"][0] = 1e6
    torch.save(content, broken / "checkpoints/last.ckpt")
    refused(zoo, "add", str(broken), f"--index={tmp_path}/zoo/index.yaml", "--device=cpu")
    assert "bn1.running_var does not fit float16 (its largest magnitude is 1e+06)" in capsys.readouterr().err
    assert not list((tmp_path / "zoo").rglob("*.*"))
    assert yaml.safe_load((broken / "config.yaml").read_text())["method"] == "frossl"

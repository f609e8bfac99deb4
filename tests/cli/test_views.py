"""``solo-frossl views``: the picture shows what a training step gets."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, Trainer
from PIL import Image
from small_methods import ROOT, build

from solo_frossl.augment import View
from solo_frossl.augment.parameters import Parameters
from solo_frossl.batch import Batch
from solo_frossl.cli.views import about_view, training_batch, view_tiles, view_titles, views

DIGITS = str(ROOT / "configs/digits/frossl.yaml")


class Keep(Callback):
    """The views and places of one training step."""

    def __init__(self, epoch, step):
        self.wanted = (epoch, step)

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if (trainer.current_epoch, batch_idx) == self.wanted:
            self.batch = batch


@pytest.mark.parametrize("residency", ["memory", "stream"])
def test_they_are_exactly_those_of_the_training_step(residency):
    model, data = build("frossl", "--seed_everything=3")
    keep = Keep(1, 2)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = Trainer(max_epochs=2, accelerator="cpu", logger=False, callbacks=[keep], limit_val_batches=0, **quiet)
    trainer.fit(model, data)

    _, fresh = build("frossl", "--seed_everything=3", f"--data.residency={residency}", "--data.workers=0")
    fresh.prepare_data()
    fresh.setup("fit")
    batch = training_batch(fresh, epoch=1, step=2)
    assert torch.equal(batch.index, keep.batch.index)
    rows = view_tiles(fresh, batch, 5)
    assert len(rows) == 5
    for i, (image, *shown) in enumerate(rows):
        assert np.array_equal(image.image, batch.image[i].numpy().astype(np.float32) / 255)
        for tile, view in zip(shown, keep.batch.views, strict=True):
            expected = view[i] * torch.tensor(fresh.std).view(-1, 1, 1) + torch.tensor(fresh.mean).view(-1, 1, 1)
            assert np.allclose(tile.image, expected.clamp(0, 1), atol=1e-6)
    other = view_tiles(fresh, training_batch(fresh, epoch=1, step=1), 1)
    assert not np.array_equal(other[0][1].image, rows[0][1].image)


def test_images_of_several_sizes_and_views_of_several_sizes():
    _, data = build(
        "frossl", "--data.views=[{recipe: digits}, {recipe: digits, count: 2, size: 5, crop_scale: [0.2, 0.3]}]"
    )
    data.setup("fit")
    images = [torch.randint(0, 256, (1, 8 + i, 12 - i), dtype=torch.uint8) for i in range(3)]
    batch = Batch(images, torch.tensor([3, -1, 0]), torch.tensor([7, 8, 9]), epoch=0, step=0)
    rows = view_tiles(data, batch, 3)
    assert [tile.image.shape for tile in rows[2]] == [(1, 10, 10), (1, 8, 8), (1, 5, 5), (1, 5, 5)]
    assert [row[0].caption for row in rows[:2]] == ["number 7, 3\n12 x 8 px", "number 8, unlabelled\n11 x 9 px"]
    for i, row in enumerate(rows):
        assert len(row[0].boxes) == 3
        for top, left, height, width in row[0].boxes:
            assert 0 <= top < top + height <= 8 + i
            assert 0 <= left < left + width <= 12 - i


def test_titles_say_what_a_view_changes():
    data = SimpleNamespace(views=[View("vicreg", count=2), View("weak", size=96, hue=0.2)], image_size=224)
    titles = ["view 1: vicreg\n224 px", "view 2: vicreg\n224 px", "view 3: weak\n96 px\nhue 0.2"]
    assert view_titles(data) == titles


def parameters(**changes):
    values = dict.fromkeys(("top", "left"), torch.tensor([0])) | {
        "height": torch.tensor([4]),
        "width": torch.tensor([6]),
    }
    values |= dict.fromkeys(("flip", "jitter", "grayscale", "blur", "solarize"), torch.tensor([False]))
    values |= {"brightness": torch.tensor([1.5]), "contrast": torch.tensor([0.5]), "saturation": torch.tensor([0.25])}
    values |= {"hue": torch.tensor([-0.1]), "jitter_order": torch.tensor([[3, 0, 2, 1]]), "sigma": torch.tensor([1.25])}
    return Parameters(**(values | {name: torch.tensor([value]) for name, value in changes.items()}))


@pytest.mark.parametrize(
    ("changes", "colour", "text"),
    [
        ({}, True, "crop 6 x 4 px (30 %)"),
        ({"flip": True, "blur": True}, True, "crop 6 x 4 px (30 %), flipped\nblur 1.25 px"),
        (
            {"jitter": True, "grayscale": True, "solarize": True},
            True,
            "crop 6 x 4 px (30 %)\nhue -0.10, brightness 1.50\nsaturation 0.25, contrast 0.50\ngrey, solarised",
        ),
        ({"jitter": True, "grayscale": True}, False, "crop 6 x 4 px (30 %)\nbrightness 1.50, contrast 0.50"),
    ],
)
def test_captions_say_what_was_done_and_in_which_order(changes, colour, text):
    assert about_view(parameters(**changes), 0, torch.zeros(3, 8, 10), colour) == text


def test_the_command_writes_a_picture(tmp_path, capsys):
    out = tmp_path / "deep/v.png"
    assert views(["--config", DIGITS, "--images=3", "--epoch=4", f"--out={out}"]) == 0
    assert "3 images of digits and 2 views of each, for frossl: step 0 of epoch 4" in capsys.readouterr().out
    with Image.open(out) as image:
        assert image.size[1] > image.size[0] > 600


def test_a_run_s_configuration_and_files_work_too(tmp_path):
    for name in "ab":
        (tmp_path / "images/train" / name).mkdir(parents=True)
        for i in range(6):
            picture = np.random.default_rng(i).integers(0, 256, (20 + i, 30, 3), dtype=np.uint8)
            Image.fromarray(picture).save(tmp_path / f"images/train/{name}/{i}.png")
    config = tmp_path / "config.yaml"
    config.write_text(
        f"method: vicreg\ndataset: folder\nname: r\nwandb: true\nknn:\n  k: 3\ncheckpoint:\n  every_n_steps: 3\n"
        f"data:\n  root: {tmp_path}/images\n  batch_size: 4\n  image_size: 16\n"
    )
    assert views(["--config", str(config), f"--out={tmp_path}/v.png"]) == 0
    assert (tmp_path / "v.png").stat().st_size > 10_000


@pytest.mark.slow
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--step=500"], "--step is 500: an epoch has 11 steps, from 0 to 10"),
        (["--images=0"], "--images is 0: it must be at least 1"),
        (["--epoch=-1"], "--epoch is -1: it must be at least 0"),
        (["--data.batch_size=100000"], "do not fill one batch"),
        (["--data.views=[{recipe: digits, count: 1}]"], "FroSSL compares two views or more, and data.views makes 1"),
        (["--out=/dev/null/v.png"], "/dev/null/v.png cannot be written"),
        (["--dataset=folder", "--data.root=nowhere"], "nowhere"),
        (["--image=3"], "did you mean images"),
    ],
)
def test_what_cannot_be_drawn(tmp_path, capsys, monkeypatch, wrong, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        views(["--config", DIGITS, *wrong])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == []

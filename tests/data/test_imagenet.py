"""ImageNet and ImageNet-100, on tiny files in their layout."""

import shutil

import pytest

from solo_frossl.data import ImageNet, ImageNet100

WNIDS = ["n01440764", "n01443537", "n01484850"]


@pytest.fixture
def imagenet(tmp_path, write_image):
    """Two training images and one validation image of three classes, of different sizes."""
    for k, wnid in enumerate(WNIDS):
        for i in range(2):
            write_image(tmp_path / "train" / wnid / f"{wnid}_{i}.JPEG", (20 + k, 16 + i), seed=10 * k + i)
        write_image(tmp_path / "val" / wnid / f"ILSVRC2012_val_{k:08d}.JPEG", (18, 18 + k), seed=100 + k)
    return tmp_path


@pytest.fixture
def class_list(tmp_path):
    file = tmp_path / "some.txt"
    file.write_text("n01484850\nn01440764\n")
    return str(file)


def test_a_class_list_chooses_the_classes(imagenet, class_list):
    data = ImageNet(root=str(imagenet), class_list=class_list, batch_size=2, image_size=8, eval_crop=0.875, workers=0)
    assert (data.num_classes, data.class_names) == (2, ("n01484850", "n01440764"))
    data.setup()
    assert (data.num_train, data.num_val) == (4, 2)
    assert data.placement == "stream"
    (batch,) = data.labelled_train_dataloader()
    assert batch.label.tolist() == [0, 0, 1, 1]
    assert data.clean(batch).image.shape == (4, 3, 8, 8)


def test_all_classes_must_be_there_without_one(imagenet, monkeypatch):
    with pytest.raises(ValueError, match=r"train has 3 class folders, and ImageNet has 1000; .*data\.class_list"):
        ImageNet(root=str(imagenet))
    monkeypatch.setattr(ImageNet, "published_classes", 3)
    assert ImageNet(root=str(imagenet)).class_names == tuple(WNIDS)


def test_images_alone_need_no_classes(imagenet):
    assert ImageNet(root=str(imagenet), labels=False).num_classes == 0


def test_imagenet100_takes_100_classes(imagenet, class_list, monkeypatch):
    with pytest.raises(ValueError, match=r"train has 3 classes, and ImageNet-100 has 100: set data\.class_list"):
        ImageNet100(root=str(imagenet))
    with pytest.raises(ValueError, match=r"class_list .*some\.txt names 2 classes, and ImageNet-100 has 100"):
        ImageNet100(root=str(imagenet), class_list=class_list)
    monkeypatch.setattr(ImageNet100, "published_classes", 2)
    assert ImageNet100(root=str(imagenet), class_list=class_list).num_classes == 2


def test_validation_images_in_one_folder_are_refused(imagenet):
    for wnid in WNIDS:
        for file in (imagenet / "val" / wnid).iterdir():
            file.rename(imagenet / "val" / file.name)
        (imagenet / "val" / wnid).rmdir()
    with pytest.raises(
        ValueError, match=r"only in .*train: n01440764, .*Put each image of .*val into its class's folder"
    ):
        ImageNet(root=str(imagenet))


@pytest.mark.parametrize("part", ["train", "val"])
def test_both_folders_must_be_there(imagenet, part):
    shutil.rmtree(imagenet / part)
    with pytest.raises(FileNotFoundError, match=rf"no folder .*{part}: data\.{part} is relative to data\.root"):
        ImageNet(root=str(imagenet))

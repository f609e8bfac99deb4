"""TinyImageNet, on tiny files in the layout of its archive."""

import shutil

import pytest

from solo_frossl.data import TinyImageNet

WNIDS = ["n02124075", "n04067472", "n01443537"]
VAL = {"val_0.JPEG": 2, "val_1.JPEG": 0, "val_2.JPEG": 0, "val_10.JPEG": 1}


@pytest.fixture
def folder(tmp_path, write_image):
    """Three classes in an order of their own, two training images each and four for validation, 64x64 pixels."""
    root = tmp_path / "tiny-imagenet-200"
    for k, wnid in enumerate(WNIDS):
        for i in range(2):
            mode = "L" if i else "RGB"
            write_image(root / "train" / wnid / "images" / f"{wnid}_{i}.JPEG", (64, 64), seed=10 * k + i, mode=mode)
        (root / "train" / wnid / f"{wnid}_boxes.txt").write_text(f"{wnid}_0.JPEG\t0\t0\t62\t63\n")
    for i, name in enumerate(VAL):
        write_image(root / "val" / "images" / name, (64, 64), seed=100 + i)
    lines = [f"{name}\t{WNIDS[label]}\t0\t32\t44\t62\n" for name, label in VAL.items()]
    (root / "val" / "val_annotations.txt").write_text("".join(lines))
    (root / "test" / "images").mkdir(parents=True)
    (root / "wnids.txt").write_text("\n".join(WNIDS) + "\n")
    (root / "words.txt").write_text(
        "n00001740\tentity\nn02124075\tEgyptian cat\nn01443537\tgoldfish, Carassius auratus\n"
    )
    return root


def ready(root, **kwargs) -> TinyImageNet:
    data = TinyImageNet(root=str(root), batch_size=2, workers=0, **kwargs)
    data.setup()
    return data


@pytest.mark.parametrize("place", ["the archive's folder", "the folder above"])
def test_the_archive_s_layout_is_read(folder, place):
    data = TinyImageNet(root=str(folder if place == "the archive's folder" else folder.parent), batch_size=2, workers=0)
    assert (data.num_classes, data.channels, data.image_size) == (3, 3, 64)
    data.setup()
    assert (data.num_train, data.num_val) == (6, 4)
    assert data._train.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert data._train.images.shape == (6, 3, 64, 64)
    assert data.mean == [0.485, 0.456, 0.406]


def test_validation_images_have_the_label_of_their_line(folder):
    data = ready(folder)
    assert data._val.labels.tolist() == [VAL[name] for name in sorted(VAL)] == [2, 0, 1, 0]
    other = ready(folder)
    assert other._val.images.equal(data._val.images)


def test_classes_are_put_into_words(folder):
    assert ready(folder).class_names == ("Egyptian cat", "n04067472", "goldfish")


def test_classes_of_one_name_stay_apart(folder):
    (folder / "words.txt").write_text("n02124075\tcrane\nn01443537\tcrane, a bird\n")
    assert ready(folder).class_names == ("crane (n02124075)", "n04067472", "crane (n01443537)")
    (folder / "words.txt").unlink()
    assert ready(folder).class_names == tuple(WNIDS)


def test_hidden_files_are_no_images(folder):
    (folder / "train" / WNIDS[0] / "images" / "._x.JPEG").write_text("x")
    assert ready(folder).num_train == 6


class TestRefused:
    def test_no_such_folder(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"no file wnids\.txt in .* or .*tiny-imagenet-200: set data\.root"):
            TinyImageNet(root=str(tmp_path / "nowhere"))

    @pytest.mark.parametrize("name", ["train", "val/images", "val/val_annotations.txt"])
    def test_another_layout(self, folder, name):
        path = folder / name
        path.unlink() if path.is_file() else shutil.rmtree(path)
        with pytest.raises(FileNotFoundError, match=rf"no .*{name}, .*dataset: folder"):
            TinyImageNet(root=str(folder))

    def test_a_class_without_images(self, folder):
        shutil.rmtree(folder / "train" / WNIDS[1])
        with pytest.raises(ValueError, match=rf"no images \*\.JPEG in .*train/{WNIDS[1]}/images"):
            ready(folder)

    @pytest.mark.parametrize("line", ["val_0.JPEG\tn99999999\t0\t0\t1\t1", "val_0.JPEG n02124075", ""])
    def test_a_line_without_a_known_class(self, folder, line):
        table = folder / "val" / "val_annotations.txt"
        table.write_text(table.read_text() + line + "\n")
        with pytest.raises(
            ValueError, match=r"val_annotations\.txt, line 5: .* is not a file and a class of wnids\.txt"
        ):
            ready(folder)

    def test_an_image_that_is_missing(self, folder):
        (folder / "val" / "images" / "val_10.JPEG").unlink()
        with pytest.raises(ValueError, match=r"1 images of .*val_annotations\.txt are not in .*images: val_10\.JPEG"):
            ready(folder)

    def test_an_image_without_a_line(self, folder, write_image):
        write_image(folder / "val" / "images" / "val_11.JPEG", (64, 64))
        with pytest.raises(ValueError, match=r"1 images in .* have no line in .*val_annotations\.txt: val_11\.JPEG"):
            ready(folder)

    def test_no_validation_images(self, folder):
        shutil.rmtree(folder / "val" / "images")
        (folder / "val" / "images").mkdir()
        (folder / "val" / "val_annotations.txt").write_text("")
        with pytest.raises(ValueError, match=r"no images \*\.JPEG in .*val/images"):
            ready(folder)

    def test_one_class(self, folder):
        (folder / "wnids.txt").write_text("n02124075\n")
        with pytest.raises(ValueError, match=r"wnids\.txt names 1 classes"):
            TinyImageNet(root=str(folder))

import shutil
import warnings

import pytest

from solo_frossl.data import ImageFolder


def ready(root, **kwargs) -> ImageFolder:
    data = ImageFolder(root=str(root), batch_size=4, workers=0, **kwargs)
    data.setup()
    return data


def test_train_and_val_folders(folder):
    data = ImageFolder(root=str(folder))
    assert (data.num_classes, data.class_names, data.channels) == (2, ("cat", "dog"), 3)
    data.setup()
    assert (data.num_train, data.num_val, data.image_size) == (20, 8, 12)
    assert data._train.labels.tolist() == [0] * 10 + [1] * 10
    assert data.mean == [0.485, 0.456, 0.406]


def test_test_folder_is_used_where_there_is_no_val(folder):
    (folder / "val").rename(folder / "test")
    assert ready(folder).num_val == 8


def test_val_comes_before_test(folder):
    shutil.copytree(folder / "train", folder / "test")
    assert ready(folder).num_val == 8


def test_explicit_folders(folder):
    assert ready(folder, train="val", val="train").num_train == 8
    assert ready("/", train=str(folder / "train"), val=str(folder / "val")).num_val == 8


def test_one_folder_is_split_by_seed(folder):
    data = ready(folder / "train", validation_fraction=0.2)
    assert (data.num_train, data.num_val) == (16, 4)
    assert data._val.labels.bincount().tolist() == [2, 2]
    same, other = (
        ready(folder / "train", validation_fraction=0.2),
        ready(folder / "train", seed=3, validation_fraction=0.2),
    )
    assert same._val.images.equal(data._val.images)
    assert not other._val.images.equal(data._val.images)
    train = {image.numpy().tobytes() for image in data._train.images}
    assert not train & {image.numpy().tobytes() for image in data._val.images}


def test_a_train_folder_alone_is_split(folder):
    shutil.rmtree(folder / "val")
    assert ready(folder).num_val == 2


def test_a_folder_of_images_is_unlabelled(folder):
    data = ready(folder / "train" / "cat")
    assert (data.num_classes, data.class_names) == (0, ())
    assert (data.num_train, data.num_val) == (9, 1)
    assert data._train.labels.tolist() == [-1] * 9
    with pytest.raises(ValueError, match="no training image has a label"):
        data.labelled_train_dataloader()


def test_labels_off(folder):
    data = ready(folder, labels=False)
    assert data.num_classes == 0
    assert set(data._train.labels.tolist()) == {-1}
    assert data.num_train == 20


def test_subfolders_of_a_class_are_read(folder, write_image):
    write_image(folder / "train" / "cat" / "more" / "a.JPEG")
    data = ready(folder)
    assert data._train.labels.bincount().tolist() == [11, 10]


def test_only_the_subset_is_read(folder, truncate):
    data = ready(folder, subset=6)
    kept = {data._train.images[i].numpy().tobytes() for i in range(6)}
    assert data._train.labels.bincount().tolist() == [3, 3]
    whole = ready(folder)
    for i, path in enumerate(sorted((folder / "train").rglob("*.*g"))):
        if whole._train.images[i].numpy().tobytes() not in kept:
            truncate(path)
    assert ready(folder, subset=6).num_train == 6


def test_other_files_are_counted(folder, write_image):
    (folder / "train" / "cat" / "notes.txt").write_text("a")
    (folder / "train" / "loose.png").write_text("b")
    (folder / "train" / "cat" / ".DS_Store").write_text("c")
    write_image(folder / "train" / "cat" / ".thumbnails" / "a.png")
    with pytest.warns(UserWarning, match=r"ignored 2 files in .*train .*: loose\.png, cat/notes\.txt"):
        assert ready(folder).num_train == 20


def test_nothing_to_ignore_is_no_warning(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ready(folder)


class TestClassList:
    @pytest.fixture
    def animals(self, folder, write_image):
        """A third class, emu, beside cat and dog."""
        for part in ("train", "val"):
            write_image(folder / part / "emu" / "a.png")
        return folder

    @pytest.fixture
    def of(self, tmp_path):
        def write(*lines):
            file = tmp_path / "classes.txt"
            file.write_text("\n".join(lines) + "\n")
            return str(file)

        return write

    def test_it_restricts_and_orders_the_classes(self, animals, of):
        data = ready(animals, class_list=of("emu", "", " cat "))
        assert (data.num_classes, data.class_names) == (2, ("emu", "cat"))
        assert data._train.labels.tolist() == [0] + [1] * 10
        assert data._val.labels.bincount().tolist() == [1, 4]

    @pytest.mark.parametrize("part", ["train", "val"])
    def test_missing_classes_are_named(self, animals, of, part):
        shutil.rmtree(animals / part / "emu")
        shutil.rmtree(animals / part / "dog")
        with pytest.raises(ValueError, match=rf"2 of the 3 classes of data\.class_list .* in .*{part}: emu, dog"):
            ImageFolder(root=str(animals), class_list=of("emu", "cat", "dog"))

    def test_a_folder_without_class_folders(self, animals, of):
        with pytest.raises(ValueError, match=r"no folder in .*cat, which has no class folders at all: cat, dog"):
            ImageFolder(root=str(animals / "train" / "cat"), class_list=of("cat", "dog"))

    def test_no_such_file(self, animals):
        with pytest.raises(FileNotFoundError, match=r"no file .*nothing\.txt: data\.class_list is a text file"):
            ImageFolder(root=str(animals), class_list="nothing.txt")

    @pytest.mark.parametrize(("lines", "message"), [((" ",), "names no class"), (("cat", "dog", "cat"), "twice: cat")])
    def test_a_list_that_says_nothing_or_a_name_twice(self, animals, of, lines, message):
        with pytest.raises(ValueError, match=message):
            ImageFolder(root=str(animals), class_list=of(*lines))

    def test_a_list_without_labels(self, animals, of):
        with pytest.raises(ValueError, match=r"data\.labels false"):
            ImageFolder(root=str(animals), class_list=of("cat"), labels=False)

    def test_one_class_in_the_list(self, animals, of):
        with pytest.raises(ValueError, match="only one class folder, 'cat'"):
            ImageFolder(root=str(animals), class_list=of("cat"))


class TestRefused:
    def test_missing_root(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere: set data\.root"):
            ImageFolder(root=str(tmp_path / "nowhere"))

    @pytest.mark.parametrize("name", ["train", "val"])
    def test_missing_explicit_folder(self, folder, name):
        with pytest.raises(FileNotFoundError, match=rf"no folder .*nowhere: data\.{name} is relative"):
            ImageFolder(root=str(folder), **{name: "nowhere"})

    def test_empty_folder(self, tmp_path):
        with pytest.raises(ValueError, match=r"no images in .*\.jpg"):
            ready(tmp_path)

    def test_empty_class_folder(self, folder):
        (folder / "train" / "emu").mkdir()
        (folder / "val" / "emu").mkdir()
        with pytest.raises(ValueError, match=r"no images in .*train/emu; .*Remove empty class folders"):
            ready(folder)

    def test_one_class(self, folder):
        for part in ("train", "val"):
            shutil.rmtree(folder / part / "dog")
        with pytest.raises(ValueError, match=r"only one class folder, 'cat', .*data\.labels to false"):
            ImageFolder(root=str(folder))
        assert ready(folder, labels=False).num_train == 10

    def test_classes_that_differ(self, folder):
        (folder / "val" / "dog").rename(folder / "val" / "dogs")
        with pytest.raises(ValueError, match=r"only in .*train: dog; only in .*val: dogs"):
            ImageFolder(root=str(folder))

    def test_a_class_in_the_validation_folder_only(self, folder):
        shutil.copytree(folder / "val" / "dog", folder / "val" / "emu")
        with pytest.raises(ValueError, match=r"different classes: only in .*val: emu\. Give"):
            ImageFolder(root=str(folder))

    def test_labels_in_one_part_only(self, folder):
        shutil.rmtree(folder / "val")
        shutil.copytree(folder / "train" / "cat", folder / "val")
        with pytest.raises(
            ValueError, match=r"different classes: only in .*train: cat, dog\. Put each image of .*val into"
        ):
            ImageFolder(root=str(folder))

    @pytest.mark.parametrize("fraction", [0, 1, -0.1])
    def test_validation_fraction_out_of_range(self, folder, fraction):
        with pytest.raises(ValueError, match=r"data\.validation_fraction"):
            ImageFolder(root=str(folder / "train"), validation_fraction=fraction)

    def test_validation_fraction_of_nothing(self, folder):
        with pytest.raises(ValueError, match=r"0\.01 of the 20 images in .* is 0"):
            ready(folder / "train", validation_fraction=0.01)

    @pytest.mark.parametrize("residency", ["auto", "stream"])
    def test_truncated_image(self, folder, truncate, residency):
        path = truncate(folder / "train" / "cat" / "03.jpg")
        with pytest.raises(ValueError, match=rf"cannot read {path} \(.*[Tt]runcated.*data\.on_error to skip"):
            list(ready(folder, residency=residency).labelled_train_dataloader())

    def test_a_folder_of_damaged_images(self, folder, truncate):
        for path in (folder / "train").rglob("*.*g"):
            path.write_bytes(b"\x00")
        with pytest.raises(ValueError, match=r"none of the images probed in .*train can be read"):
            ready(folder)


class TestSkip:
    def test_resident(self, folder, truncate):
        truncate(folder / "train" / "cat" / "03.jpg")
        with pytest.warns(UserWarning, match=r"skipped the unreadable image .*03\.jpg"):
            data = ready(folder, on_error="skip")
        assert (data.num_train, data.num_skipped) == (19, 1)
        assert data._train.labels.bincount().tolist() == [9, 10]

    def test_stream(self, folder, truncate):
        truncate(folder / "train" / "cat" / "03.jpg")
        data = ready(folder, on_error="skip", residency="stream")
        with pytest.warns(UserWarning, match=r"skipped the unreadable image .*03\.jpg"):
            batches = list(data.train_dataloader())
        assert [len(batch.label) for batch in batches] == [4] * 5
        assert data.num_skipped == 1
        with pytest.warns(UserWarning, match="skipped"):
            assert sum(len(batch.label) for batch in data.labelled_train_dataloader()) == 19
        assert data.num_skipped == 1


class TestSizes:
    @pytest.fixture
    def mixed(self, folder, write_image):
        write_image(folder / "train" / "cat" / "00.png", (20, 15))
        return folder

    @pytest.mark.parametrize("residency", ["memory", "device"])
    def test_residence_without_resize_names_two_files(self, mixed, residency):
        with pytest.raises(ValueError, match=r"00\.png is 20x15, .*\.jpg is 12x12 pixels .*set data\.resize"):
            ready(mixed, residency=residency, image_size=8)

    def test_no_view_size(self, mixed):
        with pytest.raises(ValueError, match=r"differ in size: .*Set data\.image_size"):
            ready(mixed)

    def test_resize_makes_them_resident(self, mixed):
        data = ready(mixed, resize=10)
        assert data.image_size == 10
        assert data.placement == "cpu"
        assert data._train.images.shape == (20, 3, 10, 10)

    def test_auto_streams_lists(self, mixed):
        data = ready(mixed, image_size=8)
        assert data.placement == "stream"
        (batch,) = list(data.labelled_train_dataloader())
        assert isinstance(batch.image, list)
        assert data.clean(batch).image.shape == (20, 3, 8, 8)
        views = data.make_views(batch).views
        assert [view.shape for view in views] == [(20, 3, 8, 8)] * 2

from itertools import pairwise

import pytest
import torch

from solo_frossl.data import Digits, ImageFolder
from solo_frossl.data.splits import label_fraction, listed_labels


def draw(labels, amount, seed=0, names=()):
    return label_fraction(labels, amount, torch.Generator().manual_seed(seed), names)


LABELS = torch.tensor([0] * 300 + [1] * 100 + [-1] * 50)[
    torch.randperm(450, generator=torch.Generator().manual_seed(1))
]


@pytest.mark.parametrize("amount", [0.01, 0.1, 0.5, 1.0, 8, 40, 400])
def test_every_class_keeps_its_share(amount):
    count = amount if isinstance(amount, int) else round(400 * amount)
    kept = draw(LABELS, amount)
    assert int((kept >= 0).sum()) == count
    assert torch.equal(kept[kept >= 0], LABELS[kept >= 0])
    for label, size in ((0, 300), (1, 100)):
        assert abs(int((kept == label).sum()) - count * size / 400) <= 1


def test_smaller_parts_lie_within_larger_ones():
    parts = [set((draw(LABELS, amount) >= 0).nonzero().flatten().tolist()) for amount in (0.01, 0.1, 0.3, 1.0)]
    assert all(small < large for small, large in pairwise(parts))
    assert torch.equal(draw(LABELS, 0.1), draw(LABELS, 0.1))
    assert not torch.equal(draw(LABELS, 0.1), draw(LABELS, 0.1, seed=1))


def test_classes_without_an_image_are_named():
    labels = torch.tensor([0] * 97 + [1, 2, 3])
    with pytest.raises(ValueError, match=r"labels 0\.1 keeps 10 of 100 labels .* image of b, c, d: keep more labels"):
        draw(labels, 0.1, names=["a", "b", "c", "d"])
    with pytest.raises(ValueError, match=r"labels is 1\.5"):
        draw(labels, 1.5)
    with pytest.raises(ValueError, match=r"labels is 101, .*: take 1 to 100"):
        draw(labels, 101)


@pytest.mark.parametrize("residency", ["memory", "stream"])
def test_everything_sees_only_the_kept_labels(folder, residency):
    data = ImageFolder(root=str(folder), batch_size=4, workers=0, residency=residency)
    data.keep_labels(0.2)
    data.setup()
    assert data.num_train == 20
    kept = torch.cat([batch.index for batch in data.labelled_train_dataloader()])
    assert len(kept) == 4
    batches = list(data.shuffled_labelled_dataloader(batch_size=256))  # as many as there are
    assert [sorted(batch.index.tolist()) for batch in batches] == [kept.tolist()]
    assert batches[0].label.bincount().tolist() == [2, 2]
    assert sum(int((batch.label >= 0).sum()) for batch in data.train_dataloader()) == 4
    assert all((batch.label >= 0).all() for batch in data.val_dataloader())


def test_a_list_of_image_files(folder, tmp_path):
    names = sorted(path.name for path in (folder / "train" / "cat").iterdir())
    shared = {path.name for path in (folder / "train" / "dog").iterdir()} & set(names)
    rename = {path: path.with_name(f"{path.parent.name}_{path.name}") for path in (folder / "train").glob("*/*")}
    if shared:
        (tmp_path / "list.txt").write_text(f"{names[0]}\n")
        data = ImageFolder(root=str(folder), batch_size=4, workers=0)
        data.keep_labels(str(tmp_path / "list.txt"))
        with pytest.raises(ValueError, match=f"names {names[0]}, and 2 images are called that: write the folder too"):
            data.setup()
    for old, new in rename.items():
        old.rename(new)
    listed = [f"cat_{names[1]}", f"dog/dog_{names[2]}", "of_another_dataset.png", ""]
    (tmp_path / "list.txt").write_text("\r\n".join(listed))
    data = ImageFolder(root=str(folder), batch_size=4, workers=0, residency="stream")
    data.keep_labels(str(tmp_path / "list.txt"))
    data.setup()
    (batch,) = data.labelled_train_dataloader()
    paths = [data._labelled.source.path(int(index)) for index in batch.index]
    assert paths == [str(folder / "train" / "cat" / listed[0]), str(folder / "train" / listed[1])]
    (tmp_path / "list.txt").write_text(f"cat_{names[1]}\n")
    data = ImageFolder(root=str(folder), batch_size=4, workers=0)
    data.keep_labels(str(tmp_path / "list.txt"))
    with pytest.raises(ValueError, match="names 1 of these 20 images and leaves no labelled image of dog"):
        data.setup()


def test_what_a_list_cannot_do(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*1percent\.txt: labels is a number, a fraction, or"):
        listed_labels(torch.tensor([0]), ["a.png"], tmp_path / "1percent.txt")
    data = Digits()
    data.keep_labels("1percent.txt")
    with pytest.raises(ValueError, match="images of Digits have no names"):
        data.setup()
    data = Digits()
    data.setup()
    with pytest.raises(RuntimeError, match="before setup"):
        data.keep_labels(0.1)

import pytest
import torch

from solo_frossl.data import Digits
from solo_frossl.data.loaders import Resident


def ready(**kwargs) -> Digits:
    data = Digits(batch_size=64, **kwargs)
    data.setup()
    return data


def test_known_before_setup():
    data = Digits()
    assert (data.num_classes, data.channels, data.image_size) == (10, 1, 8)


def test_a_stratified_fifth_is_held_out():
    data = ready()
    assert (data.num_train, data.num_val) == (1438, 359)
    train, val = data._train.labels.bincount(), data._val.labels.bincount()
    assert ((val - (train + val) / 5).abs() <= 1).all()
    assert data.class_names == tuple("0123456789")


def test_scaled_to_the_whole_byte():
    data = ready()
    assert isinstance(data._train, Resident)
    assert data._train.images.shape == (1438, 1, 8, 8)
    assert set(data._train.images.unique().tolist()) == {round(value * 255 / 16) for value in range(17)}


def test_the_split_follows_the_seed():
    assert ready(seed=1)._val.images.equal(ready(seed=1)._val.images)
    assert not ready(seed=1)._val.images.equal(ready(seed=2)._val.images)


def test_no_image_is_in_both_parts():
    data = ready()
    train = {image.numpy().tobytes() for image in data._train.images}
    assert not train & {image.numpy().tobytes() for image in data._val.images}


def test_statistics_are_those_of_the_training_images():
    data = ready()
    pixels = data._train.images / 255
    assert data.mean == pytest.approx([pixels.mean().item()])
    assert data.std == pytest.approx([pixels.std(correction=0).item()])
    clean = torch.cat([data.clean(batch).image for batch in data.labelled_train_dataloader()])
    assert clean.dtype == torch.float32
    assert clean.mean().abs() < 1e-5
    assert (clean.std() - 1).abs() < 1e-3


def test_a_subset_keeps_the_statistics_and_the_shares():
    whole, part = ready(), ready(subset=0.1)
    assert part.num_train == 144
    assert part.mean == whole.mean
    assert ((part._train.labels.bincount() - whole._train.labels.bincount() / 1438 * 144).abs() <= 1).all()
    assert ready(subset=100).num_train == 100


def test_resize():
    data = ready(resize=12)
    assert data.image_size == 12
    assert data._train.images.shape[2:] == (12, 12)

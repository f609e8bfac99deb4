import warnings
from collections.abc import Callable

import pytest
import torch

from solo_frossl.data.loaders import (
    EpochOrder,
    EvaluationLoader,
    Resident,
    Stream,
    TrainLoader,
    evaluation_parts,
    load,
)
from solo_frossl.data.sources import ArraySource, FileSource


def numbered(count: int) -> Resident:
    """Images whose pixels all have the value of their position."""
    images = torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 2, 2).contiguous()
    return Resident(images, torch.arange(count) % 3)


def loader(count: int = 20, batch_size: int = 6, seed: int = 0) -> TrainLoader:
    return TrainLoader(numbered(count), EpochOrder(count, batch_size, seed))


def epoch(train: TrainLoader, number: int) -> list[list[int]]:
    train.sampler.set_epoch(number)
    return [batch.index.tolist() for batch in train]


@pytest.fixture
def files(tmp_path, write_image) -> Callable[[int], FileSource]:
    """``files(count)`` writes 00.png, 01.png, ... of 12x12 pixels, labelled by their number."""

    def make(count: int) -> FileSource:
        names = [write_image(tmp_path / f"{i:02d}.png", seed=i).name for i in range(count)]
        return FileSource(tmp_path, names, torch.arange(count))

    return make


class TestOrder:
    def test_is_a_permutation_without_the_last_part_batch(self):
        positions = [position for batch in epoch(loader(20, 6), 0) for position in batch]
        assert len(positions) == len(set(positions)) == 18
        assert sorted(position for batch in epoch(loader(18, 6), 0) for position in batch) == list(range(18))

    def test_changes_with_epoch_and_seed_only(self):
        assert epoch(loader(), 3) == epoch(loader(), 3)
        assert epoch(loader(), 3) != epoch(loader(), 4)
        assert epoch(loader(seed=1), 3) != epoch(loader(), 3)

    def test_two_processes_share_the_batches_of_one(self, processes):
        whole = epoch(loader(), 2)
        parts = []
        for rank in range(2):
            processes(rank, 2)
            parts.append(epoch(loader(), 2))
        assert [first + second for first, second in zip(*parts, strict=True)] == whole

    def test_a_batch_that_does_not_divide_is_refused(self, processes):
        processes(0, 4)
        with pytest.raises(ValueError, match=r"6 .*4 processes: choose a multiple of 4"):
            next(iter(loader()))

    def test_fewer_images_than_a_batch_are_refused(self):
        with pytest.raises(ValueError, match=r"5 training images .* data\.batch_size to at most 5"):
            loader(5, 6)


class TestTrainLoader:
    def test_batches_carry_image_label_epoch_and_step(self):
        train = loader()
        train.sampler.set_epoch(4)
        batches = list(train)
        assert len(batches) == len(train) == 3
        for step, batch in enumerate(batches):
            assert batch.image.dtype == torch.uint8
            assert batch.image.shape == (6, 1, 2, 2)
            assert batch.image[:, 0, 0, 0].tolist() == batch.index.tolist()
            assert batch.label.equal(batch.index % 3)
            assert (batch.epoch, batch.step) == (4, step)

    def test_nothing_happens_before_the_first_next(self):
        train = loader()
        iterator = iter(train)
        train.sampler.set_epoch(5)
        assert next(iterator).index.tolist() == epoch(loader(), 5)[0]

    @pytest.mark.parametrize("done", [0, 1, 2, 3])
    def test_resumes_with_the_exact_next_batch(self, done):
        whole = epoch(loader(), 2)
        first = loader()
        first.sampler.set_epoch(2)
        iterator = iter(first)
        for _ in range(done):
            next(iterator)
        if not done:
            first._position = (2, 0)
        second = loader()
        iter(second)
        second.load_state_dict(first.state_dict())
        assert second.state_dict() == first.state_dict()
        second.sampler.set_epoch(2)
        batches = list(second)
        assert [batch.index.tolist() for batch in batches] == whole[done:]
        assert [batch.step for batch in batches] == list(range(done, 3))
        assert epoch(second, 2) == whole  # the place to resume from is used once
        assert epoch(second, 3) == epoch(loader(), 3)

    def test_a_state_saved_at_the_end_of_an_epoch_starts_the_next(self):
        first = loader()
        epoch(first, 0)
        first.sampler.set_epoch(1)  # what the Trainer does before on_train_epoch_start
        second = loader()
        second.load_state_dict(first.state_dict())
        assert epoch(second, 1) == epoch(loader(), 1)

    def test_resuming_with_other_batches_is_refused_in_mid_epoch_only(self):
        first = loader()
        next(iter(first))
        with pytest.raises(ValueError, match=r"1 of 3 batches .* now has 5 batches"):
            loader(batch_size=4).load_state_dict(first.state_dict())
        epoch(first, 0)
        loader(batch_size=4).load_state_dict(first.state_dict())

    def test_an_epoch_can_be_iterated_again(self):
        train = loader()
        assert epoch(train, 0) == epoch(train, 0)


class TestEvaluation:
    @pytest.mark.parametrize("world", [1, 2, 3])
    @pytest.mark.parametrize("count", [7, 12, 20, 50])
    def test_every_image_exactly_once(self, processes, world, count):
        seen, batches = [], set()
        for rank in range(world):
            processes(rank, world)
            evaluation = EvaluationLoader(numbered(count), torch.arange(count), 12)
            got = list(evaluation)
            batches.add(len(got))
            assert len(got) == len(evaluation)
            assert all(0 < len(batch.label) <= -(-12 // world) for batch in got)
            seen += [position for batch in got for position in batch.index.tolist()]
        assert sorted(seen) == list(range(count))
        assert len(batches) == 1

    def test_order_is_fixed_and_positions_are_those_asked_for(self):
        evaluation = EvaluationLoader(numbered(9), torch.tensor([8, 2, 5]), 2)
        for _ in range(2):
            assert torch.cat([batch.index for batch in evaluation]).tolist() == [8, 2, 5]

    def test_too_few_images_are_refused(self):
        with pytest.raises(ValueError, match="3 images are too few for 4 processes"):
            evaluation_parts(torch.arange(3), 1, 0, 4)


class TestStream:
    @pytest.mark.parametrize("workers", [0, 2])
    def test_equals_resident(self, workers, files):
        source = files(20)
        images, labels, _ = load(source, (3, 12, 12), workers=0, on_error="raise")
        resident = TrainLoader(Resident(images, labels), EpochOrder(20, 6, 0))
        stream = TrainLoader(Stream(source, workers=workers, on_error="raise", training=True), EpochOrder(20, 6, 0))
        for number in range(2):
            for train in (resident, stream):
                train.sampler.set_epoch(number)
            for a, b in zip(resident, stream, strict=True):
                assert a.image.equal(b.image)
                assert a.label.equal(b.label)
                assert a.index.equal(b.index)
                assert (a.epoch, a.step) == (b.epoch, b.step)

    def test_an_epoch_left_early_does_not_spoil_the_next(self, files):
        stream = Stream(files(20), workers=2, on_error="raise", training=True)
        train = TrainLoader(stream, EpochOrder(20, 4, 0))
        next(iter(train))
        assert epoch(train, 1) == epoch(loader(20, 4), 1)

    def test_reads_arrays_too(self):
        resident = numbered(6)
        stream = Stream(ArraySource(resident.images, resident.labels), workers=0, on_error="raise")
        (image, label, index), *_ = stream.batches([torch.tensor([4, 1])])
        assert image[:, 0, 0, 0].tolist() == index.tolist() == [4, 1]
        assert label.tolist() == [1, 1]

    def test_different_sizes_are_a_list(self, tmp_path, write_image):
        names = [write_image(tmp_path / f"{i}.png", (10 + i, 12)).name for i in range(3)]
        stream = Stream(FileSource(tmp_path, names, torch.arange(3)), workers=0, on_error="raise")
        image, label, _ = next(stream.batches([torch.tensor([2, 0, 1])]))
        assert [one.shape for one in image] == [(3, 12, 12), (3, 12, 10), (3, 12, 11)]
        assert label.tolist() == [2, 0, 1]
        assert image[1].equal(FileSource(tmp_path, names, torch.arange(3)).read(0))

    @pytest.mark.parametrize("workers", [0, 1])
    def test_unreadable_image_raises_with_its_path(self, tmp_path, workers, files, truncate):
        source = files(8)
        truncate(tmp_path / "05.png")
        stream = Stream(source, workers=workers, on_error="raise")
        with pytest.raises(ValueError, match=r"cannot read .*05\.png .*data\.on_error to skip"):
            list(stream.batches([torch.arange(8)]))

    def test_skipping_in_training_takes_the_next_readable(self, tmp_path, files, truncate):
        source = files(8)
        truncate(tmp_path / "05.png")
        truncate(tmp_path / "07.png")
        stream = Stream(source, workers=0, on_error="skip", training=True)
        with pytest.warns(UserWarning, match=r"skipped the unreadable image .*05\.png"):
            image, label, index = next(stream.batches([torch.tensor([5, 2, 7])]))  # a Trainer never asks for the end
        assert len(stream.unreadable) == 2
        assert index.tolist() == label.tolist() == [6, 2, 0]
        assert image[0].equal(source.read(6))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            list(stream.batches([torch.tensor([5, 2, 7])]))  # says it once

    def test_skipping_in_evaluation_leaves_it_out(self, tmp_path, files, truncate):
        source = files(8)
        truncate(tmp_path / "05.png")
        stream = Stream(source, workers=0, on_error="skip")
        with pytest.warns(UserWarning, match="skipped the unreadable"):
            ((image, _, index),) = list(stream.batches([torch.tensor([4, 5, 6])]))
        assert index.tolist() == [4, 6]
        assert len(image) == 2

    @pytest.mark.parametrize("training", [True, False])
    def test_nothing_readable_is_an_error(self, tmp_path, training, files, truncate):
        source = files(3)
        for i in range(3):
            truncate(tmp_path / f"{i:02d}.png")
        stream = Stream(source, workers=0, on_error="skip", training=training)
        with pytest.raises(ValueError, match="whole batch"):
            list(stream.batches([torch.arange(3)]))

    def test_leaves_the_global_generator_alone(self, files):
        stream = Stream(files(4), workers=0, on_error="raise")
        before = torch.get_rng_state()
        list(stream.batches([torch.arange(4)]))
        assert torch.get_rng_state().equal(before)


class TestLoad:
    def test_skips_and_counts(self, tmp_path, files, truncate):
        source = files(8)
        truncate(tmp_path / "05.png")
        with pytest.warns(UserWarning, match="skipped the"):
            images, labels, unreadable = load(source, (3, 12, 12), workers=0, on_error="skip")
        assert labels.tolist() == [0, 1, 2, 3, 4, 6, 7]
        assert images[5].equal(source.read(6))
        assert [failure.path for failure in unreadable] == [str(tmp_path / "05.png")]

    def test_another_size_names_both_files(self, tmp_path, files, write_image):
        source = files(8)
        write_image(tmp_path / "05.png", (9, 12))
        with pytest.raises(ValueError, match=r"00\.png is 12x12, .*05\.png is 9x12 pixels .*data\.resize"):
            load(source, (3, 12, 12), workers=0, on_error="raise")


def test_an_empty_list_of_batches_is_empty():
    assert list(numbered(3).batches([])) == []

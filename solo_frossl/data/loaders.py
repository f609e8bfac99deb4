"""Loaders: which images make up each batch, and the two ways of getting them (resident tensor, worker processes)."""

import warnings
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Literal

import torch
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from solo_frossl.batch import Batch
from solo_frossl.data.sources import FileSource, Source, Unreadable
from solo_frossl.distributed import rank, world_size
from solo_frossl.seeding import generator

OnError = Literal["raise", "skip"]
Images = Tensor | list[Tensor]

# -------------------------------------------------------------------------------------- which images make up each batch


class EpochOrder:
    """The training order: each epoch a permutation of all images that depends on (seed, epoch) only.

    Images that do not fill a last batch are left out of that epoch.

    Args:
        count: images in the training set.
        batch_size: images of all processes together per step.
        seed: the run's seed.
        positions: ``(count,)`` int64, where these images are in their dataset; None: they are the whole of it.

    Raises:
        ValueError: fewer images than one batch takes.
    """

    def __init__(self, count: int, batch_size: int, seed: int, positions: Tensor | None = None) -> None:
        if count < batch_size:
            raise ValueError(
                f"{count} training images do not fill one batch of {batch_size}: set data.batch_size to at most {count}"
            )
        self.count, self.batch_size, self.seed = count, batch_size, seed
        self.positions = positions
        self.epoch = 0

    def __len__(self) -> int:
        return self.count // self.batch_size

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, from 0; the Trainer calls this."""
        self.epoch = epoch

    def parts(self, process: int, processes: int) -> list[Tensor]:
        """Positions ``(batch_size / processes,)`` of one process's part of every batch of the epoch.

        Process r takes the r-th contiguous part of every global batch, so the global batch is the same for any
        number of processes.
        """
        if self.batch_size % processes:
            raise ValueError(
                f"data.batch_size {self.batch_size} counts the images of all processes together and does not divide "
                f"by the {processes} processes: choose a multiple of {processes}"
            )
        order = torch.randperm(self.count, generator=generator(self.seed, "order", self.epoch))
        order = order if self.positions is None else self.positions[order]
        whole = order[: len(self) * self.batch_size].view(len(self), processes, -1)
        return list(whole[:, process])


def evaluation_parts(positions: Tensor, batches: int, process: int, processes: int) -> list[Tensor]:
    """One process's share of a fixed order: every image exactly once, as many batches on every process.

    The order is cut into ``batches * processes`` contiguous parts whose sizes differ by at most one. So no process has
    a batch more than another, which would leave it waiting for the others inside DDP.

    Args:
        positions: ``(N,)`` int64, all images in order.
        batches: batches of each process.
        process: rank of this process.
        processes: number of processes.

    Raises:
        ValueError: fewer images than parts.

    >>> evaluation_parts(torch.arange(7), 2, 1, 2)
    [tensor([1, 2]), tensor([5, 6])]
    """
    total = batches * processes
    if len(positions) < total:
        raise ValueError(
            f"{len(positions)} images are too few for {processes} processes with {batches} evaluation batches each: "
            "use fewer processes or a larger data.eval_batch_size"
        )
    bounds = [len(positions) * i // total for i in range(total + 1)]
    return [positions[bounds[i] : bounds[i + 1]] for i in range(process, total, processes)]


# ------------------------------------------------------------------------------------------------- getting the images


class Resident:
    """All images in one tensor, in memory or on the device; a batch is one indexing operation.

    Args:
        images: ``(N, C, H, W)`` uint8.
        labels: ``(N,)`` int64; -1 means unlabelled.
        source: the files that they were read from, as many and in this order; None: they are no files.

    Attributes:
        pin: whether batches in memory are page-locked, so that copying one to a GPU waits for nothing.
    """

    def __init__(self, images: Tensor, labels: Tensor, source: FileSource | None = None) -> None:
        self.images, self.labels, self.source = images, labels, source
        self.pin = False

    def to(self, device: torch.device) -> None:
        """Move images and labels to a device."""
        self.images, self.labels = self.images.to(device), self.labels.to(device)

    def batches(self, parts: Sequence[Tensor]) -> Iterator[tuple[Images, Tensor, Tensor]]:
        """Yield (images ``(B, C, H, W)`` uint8, labels ``(B,)``, positions ``(B,)``) for each part, on the device."""
        if not parts:
            return
        device = self.images.device
        pin = self.pin and device.type == "cpu"
        positions = torch.cat(list(parts)).to(device)  # one copy an epoch
        for index in positions.split([len(part) for part in parts]):
            out = torch.empty((len(index), *self.images.shape[1:]), dtype=torch.uint8, device=device, pin_memory=pin)
            yield torch.index_select(self.images, 0, index, out=out), self.labels[index], index


class Stream:
    """Images read by worker processes as they are needed.

    Images of one batch that have one size are stacked, otherwise they are a list.

    Args:
        source: where the images are.
        workers: processes that read; 0: read in this process.
        on_error: what to do with an unreadable image: ``raise`` an error, or ``skip`` it. While training, a skipped
            image is replaced by the next readable one of the dataset, so that batches keep their size and stay a
            function of (seed, epoch, step); in evaluation it is left out.
        training: whether this is for training; then workers also stay alive between epochs.

    Attributes:
        pin: whether batches are page-locked, so that copying one to a GPU waits for nothing; set before the first one.
        unreadable: the files skipped so far.
    """

    def __init__(self, source: Source, *, workers: int, on_error: OnError, training: bool = False) -> None:
        self.source, self.workers, self.on_error, self.training = source, workers, on_error, training
        self.labels = source.labels
        self.pin = False
        self.unreadable: set[Unreadable] = set()
        self._parts: list[list[int]] = []

    @cached_property
    def _loader(self) -> DataLoader:
        return DataLoader(
            _Reader(self.source, substitute=self.training and self.on_error == "skip"),
            batch_sampler=self._parts,
            collate_fn=_pack,
            num_workers=self.workers,
            pin_memory=self.pin,
            persistent_workers=self.training and self.workers > 0,
            generator=torch.Generator(),  # DataLoader draws a seed for its workers: not from the global generator
        )

    def batches(self, parts: Sequence[Tensor]) -> Iterator[tuple[Images, Tensor, Tensor]]:
        """Yield (images, labels ``(B,)``, positions ``(B,)``) for each part.

        Raises:
            ValueError: an image is unreadable under ``on_error: raise``, or all images of one batch are.
        """
        self._parts[:] = [part.tolist() for part in parts]
        for pixels, shapes, index, failures in self._loader:
            if failures and (self.on_error == "raise" or not len(index)):
                raise ValueError(
                    f"cannot read {failures[0]}"
                    + (f" and {len(failures) - 1} more of the same batch" if len(failures) > 1 else "")
                    + ("" if len(index) else ", which is the whole batch" if self.on_error == "skip" else "")
                    + ": replace or delete the file"
                    + (", or set data.on_error to skip" if self.on_error == "raise" else "")
                )
            if failures and not self.unreadable:
                warnings.warn(f"skipped the unreadable image {failures[0]}; more are counted in silence", stacklevel=2)
            self.unreadable.update(failures)
            yield _unpack(pixels, shapes), self.labels[index], index


class _Reader(Dataset):
    def __init__(self, source: Source, substitute: bool) -> None:
        self.source, self.substitute = source, substitute

    def __getitem__(self, position: int) -> tuple[int, Tensor | None, list[Unreadable]]:
        failures = []
        for offset in range(len(self.source) if self.substitute else 1):
            at = (position + offset) % len(self.source)
            image = self.source.read(at)
            if isinstance(image, Tensor):
                return at, image, failures
            failures.append(image)
        return position, None, failures


def _pack(
    items: list[tuple[int, Tensor | None, list[Unreadable]]],
) -> tuple[Tensor, list[tuple[int, ...]], Tensor, list[Unreadable]]:
    """One flat tensor for all images of a batch: each tensor that leaves a worker costs a file descriptor."""
    images = [image for _, image, _ in items if image is not None]
    index = torch.tensor([position for position, image, _ in items if image is not None], dtype=torch.int64)
    pixels = torch.cat([image.reshape(-1) for image in images]) if images else torch.empty(0, dtype=torch.uint8)
    return pixels, [tuple(image.shape) for image in images], index, [f for _, _, failures in items for f in failures]


def _unpack(pixels: Tensor, shapes: list[tuple[int, ...]]) -> Images:
    if len(set(shapes)) == 1:
        return pixels.view(len(shapes), *shapes[0])
    flat = pixels.split([torch.Size(shape).numel() for shape in shapes])
    return [image.view(shape) for image, shape in zip(flat, shapes, strict=True)]


def load(
    source: FileSource, shape: tuple[int, int, int], *, workers: int, on_error: OnError
) -> tuple[Tensor, Tensor, set[Unreadable]]:
    """Decode all files into one tensor, with a progress bar on a terminal when it takes longer than a second.

    Args:
        source: the files.
        shape: the ``(C, H, W)`` of every image.
        workers: processes that decode.
        on_error: ``raise`` on an unreadable file, or ``skip`` it, which makes the dataset smaller.

    Returns:
        Images ``(N, C, H, W)`` uint8 and labels ``(N,)`` in the order of the source, and the unreadable files.

    Raises:
        ValueError: an unreadable file under ``on_error: raise``; an image of another size.
    """
    stream = Stream(source, workers=min(workers, len(source) // 512), on_error=on_error)
    images = torch.empty((len(source), *shape), dtype=torch.uint8)
    labels = torch.empty(len(source), dtype=torch.int64)
    count = 0
    hidden = True if rank_zero_only.rank else None  # None: hidden unless a terminal shows it
    with tqdm(total=len(source), desc="reading images", unit=" images", delay=1, disable=hidden) as bar:
        for image, label, index in stream.batches(torch.arange(len(source)).split(256)):
            if not isinstance(image, Tensor) or image.shape[1:] != shape:
                other = next(i for i, one in enumerate(image) if one.shape != shape)
                raise ValueError(different_sizes(source, shape[1:], int(index[other]), tuple(image[other].shape[1:])))
            images[count : count + len(index)], labels[count : count + len(index)] = image, label
            count += len(index)
            bar.update(len(index))
    return images[:count], labels[:count], stream.unreadable


def different_sizes(source: FileSource, size: tuple[int, int], position: int, other: tuple[int, int]) -> str:
    """Message for images ``(H, W)`` of two sizes that should lie in one tensor."""
    first = source.sizes().get(size, "others")
    return (
        f"images differ in size: {first} is {size[1]}x{size[0]}, {source.path(position)} is {other[1]}x{other[0]} "
        "pixels (width x height). To keep them in memory set data.resize to the side that all shall have; or set "
        "data.residency to stream, with data.image_size"
    )


# --------------------------------------------------------------------------------------------------------- the loaders


class TrainLoader:
    """Yields this process's part of every training batch; resumes in the middle of an epoch without replay.

    Nothing is read before the first ``next``: the Trainer makes the iterator before it sets the epoch.

    Args:
        reader: how images are got.
        order: which images make up each batch; the Trainer calls its ``set_epoch``.
    """

    def __init__(self, reader: Resident | Stream, order: EpochOrder) -> None:
        self.reader, self.sampler = reader, order
        self._position = (0, 0)  # epoch, and batches of it already yielded
        self._resume = (0, 0)

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[Batch]:
        epoch = self.sampler.epoch
        start = self._resume[1] if self._resume[0] == epoch else 0
        self._resume = (0, 0)
        parts = self.sampler.parts(rank(), world_size())[start:]
        for step, (image, label, index) in enumerate(self.reader.batches(parts), start):
            self._position = (epoch, step + 1)
            yield Batch(image, label, index, epoch, step)

    def state_dict(self) -> dict[str, int]:
        """The batches already yielded, the epoch they belong to, and the batches an epoch has."""
        epoch, batches = self._position
        return {"epoch": epoch, "batches": batches, "batches_per_epoch": len(self)}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue with the next batch when the saved epoch is iterated; any other epoch starts from its first batch.

        Raises:
            ValueError: saved in the middle of an epoch that had another number of batches.
        """
        epoch, batches, saved = state["epoch"], state["batches"], state["batches_per_epoch"]
        if 0 < batches < saved != len(self):
            raise ValueError(
                f"the checkpoint was saved after {batches} of {saved} batches of epoch {epoch}, but an epoch now has "
                f"{len(self)} batches: resume with the same training images and data.batch_size"
            )
        self._position = self._resume = (epoch, batches)


class EvaluationLoader:
    """Yields images in fixed order; over all processes together each exactly once.

    Args:
        reader: how images are got.
        positions: ``(N,)`` int64, the images to visit.
        batch_size: images of all processes together per batch, at most.
    """

    def __init__(self, reader: Resident | Stream, positions: Tensor, batch_size: int) -> None:
        self.reader, self.positions, self.batch_size = reader, positions, batch_size

    def __len__(self) -> int:
        return -(-len(self.positions) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        parts = evaluation_parts(self.positions, len(self), rank(), world_size())
        for step, (image, label, index) in enumerate(self.reader.batches(parts)):
            yield Batch(image, label, index, 0, step)

"""The data module that every dataset shares: what it is asked for, where images live, and what the model gets."""

import os
from pathlib import Path
from typing import ClassVar, Literal

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torchvision.transforms.v2.functional import rgb_to_grayscale

from solo_frossl.augment import Augment, View
from solo_frossl.batch import Batch, Views
from solo_frossl.data.loaders import (
    EpochOrder,
    EvaluationLoader,
    Images,
    OnError,
    Resident,
    Stream,
    TrainLoader,
    load,
)
from solo_frossl.data.memory import DEVICE_FRACTION, MEMORY_FRACTION, free_device_memory, free_memory
from solo_frossl.data.sources import ArraySource, FileSource, Source, resize_and_crop
from solo_frossl.data.splits import label_fraction, listed_labels, stratified_sample, subset_count
from solo_frossl.distributed import rank, world_size
from solo_frossl.seeding import generator

Residency = Literal["auto", "device", "memory", "stream"]


class ImageDataModule(LightningDataModule):
    """Base of every dataset: uint8 images and labels in, augmented views or clean images out.

    A subclass sets the class attributes below and says where its images are in :meth:`sources`. Known right after
    construction: ``num_classes`` (0 without labels) and ``channels``. Known after ``setup()``: ``class_names``,
    ``image_size``, ``mean``, ``std``, ``num_train``, ``num_val``, ``num_skipped``.

    Args:
        root: folder where the dataset's files are or are downloaded to.
        batch_size: images of all processes together per training step; must divide by the number of processes.
        eval_batch_size: images of all processes together per evaluation batch, at most.
        views: the views made of each training image; none given: two of the symmetric recipe.
        image_size: side in pixels of views without a size of their own, and of evaluation images; none given: the
            dataset's own.
        subset: train on a part only: a number of images (1 or more) or a fraction (up to 1.0, with a decimal point);
            seeded, and every class keeps its share.
        resize: pixels to which the shorter side is brought when an image is read, the centre square being kept; needed
            when images of different sizes are to lie in memory.
        residency: where the images live: in memory on the training device, in the memory of each process, or read by
            worker processes as they are needed (stream). auto: in memory when image files decoded by all processes of
            this machine take at most half of the free memory, else stream; from memory they move to the GPU when they
            take at most a quarter of its free memory.
        workers: processes that decode image files, per training process; 0: decode in the training process; none given:
            one per CPU core, 16 at most.
        on_error: an unreadable or truncated image file is an error (raise), or is left out and counted (skip). When
            streaming, a skipped training image is replaced by the next readable one.
        mean: mean of each channel for images in 0 to 1; none given: the dataset's own.
        std: standard deviation of each channel for images in 0 to 1; none given: the dataset's own.
        eval_crop: side of the centre square that evaluation keeps, as a fraction of the shorter side; ImageNet results
            are usually given for 0.875 (224 of 256 pixels).
        seed: the run's seed; order, subsets, splits and views are functions of it.

    Raises:
        ValueError: a value out of range.
    """

    num_classes: int
    """Number of classes, 0 without labels."""
    channels: int = 3
    """Channels of every image."""
    class_names: tuple[str, ...] = ()
    """Names of the classes in the order of their labels; known after ``setup()``."""
    native_size: ClassVar[int | None] = None
    """Side of the dataset's images in pixels; None: seen in the files."""
    native_mean: ClassVar[tuple[float, ...] | None] = None
    """Published mean of each channel; None: computed from the training images."""
    native_std: ClassVar[tuple[float, ...] | None] = None
    """Published standard deviation of each channel; None: computed from the training images."""

    def __init__(
        self,
        *,
        root: str = "datasets",
        batch_size: int = 256,
        eval_batch_size: int = 512,
        views: list[View] | None = None,
        image_size: int | None = None,
        subset: int | float | None = None,
        resize: int | None = None,
        residency: Residency = "auto",
        workers: int | None = None,
        on_error: OnError = "raise",
        mean: list[float] | None = None,
        std: list[float] | None = None,
        eval_crop: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        for name, value in {
            "batch_size": batch_size,
            "eval_batch_size": eval_batch_size,
            "image_size": image_size,
            "resize": resize,
        }.items():
            if value is not None and value < 1:
                raise ValueError(f"data.{name} is {value}: it must be at least 1")
        if workers is not None and workers < 0:
            raise ValueError(f"data.workers is {workers}: it must be 0 or more")
        if not 0 < eval_crop <= 1:
            raise ValueError(f"data.eval_crop is {eval_crop}: it must be above 0 and at most 1")
        for name, values in {"mean": mean, "std": std}.items():
            if values is not None and len(values) != self.channels:
                raise ValueError(f"data.{name} has {len(values)} values: the images have {self.channels} channel(s)")
        self.root = root
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.views = [View(count=2)] if views is None else views
        self.image_size = image_size or resize or self.native_size
        self.subset, self.resize = subset, resize
        self.residency, self.workers, self.on_error = residency, workers, on_error
        self.mean, self.std = mean, std
        self.eval_crop = eval_crop
        self.seed = seed
        self.augment: Augment | None = None
        self._train: Resident | Stream | None = None
        self._labelled: Resident | Stream | None = None
        self._val: Resident | Stream | None = None
        self._labels: int | float | str | None = None
        self._grey = False
        self._skipped_on_loading = 0
        self.streaming_because: str | None = None
        """Why images are streamed, when that was decided automatically."""

    def sources(self) -> tuple[Source, Source]:
        """Training and validation images, all of them, ``self.resize`` applied; sets ``class_names``."""
        raise NotImplementedError(f"{type(self).__name__} does not define sources()")

    # ------------------------------------------------------------------------------------------------------- set-up

    def keep_labels(self, amount: int | float | str | None) -> None:
        """Let all but some training images count as unlabelled, in whatever is done with this data.

        Args:
            amount: how many keep their label: a number of images (1 or more), or a fraction of the labelled ones (up to
                1.0, with a decimal point), stratified and seeded, the smaller part of the larger; or a text file with
                the name of an image file on each line; None for all of them. See
                :func:`~solo_frossl.data.splits.label_fraction` and :func:`~solo_frossl.data.splits.listed_labels`,
                whose errors :meth:`setup` raises.

        Raises:
            RuntimeError: the data is set up already.
        """
        if self._train is not None:
            raise RuntimeError("keep_labels() must come before setup()")
        self._labels = amount

    def turn_grey(self, mean: float, std: float) -> None:
        """Turn colour images into grey ones before anything else is done to them, for a network of one channel.

        Grey is the luma of ITU-R BT.601, as torchvision's ``rgb_to_grayscale``. Loaders yield colours as before.

        Args:
            mean: mean that grey images in 0 to 1 are normalised by.
            std: their standard deviation.

        Raises:
            RuntimeError: the data is not set up yet.
        """
        if self.augment is None:
            raise RuntimeError("turn_grey() must come after setup()")
        self.channels, self.mean, self.std, self._grey = 1, [mean], [std], True
        self.augment = Augment(self.views, self.image_size, self.mean, self.std)

    def _hide_labels(self, train: Source) -> None:
        if isinstance(self._labels, str):
            if isinstance(train, ArraySource):
                raise ValueError(
                    f"labels is {self._labels}, but the images of {type(self).__name__} have no names: give a number or"
                    " a fraction"
                )
            train.labels = listed_labels(train.labels, train.names(), self._labels, self.class_names)
        elif self._labels is not None:
            draw = generator(self.seed, "labels")
            train.labels = label_fraction(train.labels, self._labels, draw, self.class_names)

    def setup(self, stage: str | None = None) -> None:
        """Find the images, check them, and read them where they are to be resident; a second call does nothing.

        Args:
            stage: what the Trainer is about to do; all stages need the same.

        Raises:
            FileNotFoundError: no such folder or files.
            ValueError: images that cannot be used as asked: too few, unreadable, of different sizes.
        """
        if self._train is not None:
            return
        train, val = self.sources()
        self._set_statistics(train)
        if self.subset is not None:
            count = subset_count(self.subset, len(train))
            train = train.select(stratified_sample(train.labels, count, generator(self.seed, "subset")))
        self._hide_labels(train)
        shapes = [source.shape() for source in (train, val)]
        self._set_image_size([train, val], shapes)
        self.augment = Augment(self.views, self.image_size, self.mean, self.std)
        if self._fits_in_memory([train, val], shapes):
            self._train, self._val = (self._load(*pair) for pair in zip((train, val), shapes, strict=True))
            self._labelled = self._train
        else:
            self._train = self._stream(train, training=True)
            self._labelled, self._val = self._stream(train), self._stream(val)

    def _set_statistics(self, train: Source) -> None:
        mean, std = self.native_mean, self.native_std
        if mean is None and isinstance(train, ArraySource):
            pixels = train.images.double() / 255
            mean, std = pixels.mean((0, 2, 3)).tolist(), pixels.std((0, 2, 3), correction=0).tolist()
        self.mean, self.std = list(self.mean or mean), list(self.std or std)

    def _set_image_size(self, sources: list[Source], shapes: list[tuple[int, int, int] | None]) -> None:
        if self.image_size is not None:
            return
        if None in shapes:
            source = sources[shapes.index(None)]
            raise ValueError(
                _two_sizes(source) + ". Set data.image_size (side of the views in pixels); with data.resize as well "
                "the images can lie in memory"
            )
        self.image_size = min(shapes[0][1:])

    def _fits_in_memory(self, sources: list[Source], shapes: list[tuple[int, int, int] | None]) -> bool:
        """Whether the images are to be resident; notes the reason when the choice was automatic and is not."""
        if self.residency == "stream":
            return False
        if None in shapes:
            reason = _two_sizes(sources[shapes.index(None)])
            if self.residency != "auto":
                raise ValueError(
                    f"{reason}, so they cannot lie in one tensor: set data.resize to the side that all shall have, "
                    "or data.residency to stream"
                )
            self.streaming_because = f"{reason}; with data.resize they could lie in memory"
            return False
        files = [(s, shape) for s, shape in zip(sources, shapes, strict=True) if isinstance(s, FileSource)]
        need = sum(len(source) * torch.Size(shape).numel() for source, shape in files)
        room = MEMORY_FRACTION * free_memory() / self._local_processes()
        if self.residency == "auto" and need > room:
            self.streaming_because = (
                f"decoded they take {need / 1e9:.1f} GB, and {room / 1e9:.1f} GB of free memory may be used by each"
                " process"
            )
            return False
        return True

    def _load(self, source: Source, shape: tuple[int, int, int]) -> Resident:
        if isinstance(source, ArraySource):
            return Resident(source.images, source.labels)
        images, labels, unreadable = load(source, shape, workers=self._workers(), on_error=self.on_error)
        self._skipped_on_loading += len(unreadable)
        if unreadable:
            bad = {file.path for file in unreadable}
            source = source.select(torch.tensor([i for i in range(len(source)) if source.path(i) not in bad]))
        return Resident(images, labels, source)

    def _stream(self, source: Source, training: bool = False) -> Stream:
        return Stream(source, workers=self._workers(), on_error=self.on_error, training=training)

    def _local_processes(self) -> int:
        return self.trainer.num_devices if self.trainer else 1

    def _workers(self) -> int:
        if self.workers is not None:
            return self.workers
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return max(1, min(16, cores // self._local_processes()))

    def _reader(self, name: Literal["_train", "_labelled", "_val"]) -> Resident | Stream:
        """One of the three readers, resident images having been moved to the training device if they belong there."""
        if self._train is None:
            raise RuntimeError("the data is not set up yet: call prepare_data() and setup() first")
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        residents = [r for r in (self._train, self._val) if isinstance(r, Resident)]
        if self.residency != "memory" and any(r.images.device != device for r in residents):
            need = sum(r.images.nbytes for r in residents)
            if self.residency == "device" or need <= DEVICE_FRACTION * free_device_memory(device):
                for resident in residents:
                    resident.to(device)
        reader = getattr(self, name)
        reader.pin = device.type == "cuda"
        return reader

    # ------------------------------------------------------------------------------------------------- what is known

    @property
    def num_train(self) -> int:
        """Training images, after the subset and without those left out on loading; known after ``setup()``."""
        return len(self._train.labels)

    @property
    def num_val(self) -> int:
        """Validation images; known after ``setup()``."""
        return len(self._val.labels)

    @property
    def image_files(self) -> tuple[list[str], list[str]] | None:
        """Training and validation images by their index: paths relative to root; None where they are no files."""
        sources = [reader.source for reader in (self._train, self._val)]
        if not all(isinstance(source, FileSource) for source in sources):
            return None
        root = Path(self.root).expanduser().absolute()
        folders = [Path(os.path.relpath(source.folder, root)) for source in sources]
        return tuple([(f / name).as_posix() for name in s.names()] for f, s in zip(folders, sources, strict=True))

    @property
    def num_skipped(self) -> int:
        """Unreadable images met so far under ``on_error: skip``, by this process."""
        streams = [s for s in (self._train, self._labelled, self._val) if isinstance(s, Stream)]
        return self._skipped_on_loading + len(set().union(*(s.unreadable for s in streams)))

    @property
    def placement(self) -> str:
        """Where the images live now: ``stream``, or the device of the resident tensor (``cpu``, ``cuda:0``)."""
        return str(self._train.images.device) if isinstance(self._train, Resident) else "stream"

    # ------------------------------------------------------------------------------------------------------- loaders

    def train_dataloader(self) -> TrainLoader:
        """Training batches in a new order each epoch; the last part batch is dropped."""
        return TrainLoader(self._reader("_train"), EpochOrder(self.num_train, self.batch_size, self.seed))

    def val_dataloader(self) -> EvaluationLoader:
        """Validation images in fixed order."""
        return EvaluationLoader(self._reader("_val"), torch.arange(self.num_val), self.eval_batch_size)

    def labelled_train_dataloader(self) -> EvaluationLoader:
        """The labelled training images in fixed order, for k-NN and the linear probe.

        Raises:
            ValueError: no training image has a label.
        """
        return EvaluationLoader(self._reader("_labelled"), self._labelled_positions(), self.eval_batch_size)

    def whole_train_dataloader(self) -> EvaluationLoader:
        """All training images in fixed order, those without a label too, each once."""
        return EvaluationLoader(self._reader("_labelled"), torch.arange(self.num_train), self.eval_batch_size)

    def shuffled_labelled_dataloader(self, batch_size: int | None = None) -> TrainLoader:
        """The labelled training images in a new order each epoch, for a classifier trained on augmented images.

        Args:
            batch_size: images of all processes together per step; none given: that of the data, or as many as are
                labelled where these are fewer. The last part batch is dropped.

        Raises:
            ValueError: no training image has a label.
        """
        positions = self._labelled_positions()
        batch_size = batch_size or self.batch_size
        if len(positions) < batch_size:
            batch_size = max(len(positions) // world_size() * world_size(), 1)
        order = EpochOrder(len(positions), batch_size, self.seed, positions)
        return TrainLoader(self._reader("_train"), order)

    def _labelled_positions(self) -> Tensor:
        positions = (self._reader("_labelled").labels >= 0).nonzero().flatten().cpu()
        if not len(positions):
            raise ValueError("no training image has a label, so there is nothing to fit a classifier or a k-NN to")
        return positions

    # ------------------------------------------------------------------------------------- from batches to the model

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch | Views:
        """Turn a batch that is on the device into views while the trainer trains, else into clean images."""
        return self.make_views(batch) if self.trainer and self.trainer.training else self.clean(batch)

    def make_views(self, batch: Batch) -> Views:
        """The augmented views of a batch, a function of (seed, epoch, step, process).

        Args:
            batch: images uint8, as a loader yields them.
        """
        images = self._in_grey(batch.image) if self._grey else batch.image
        return Views(self.augment(images, self.view_generator(batch)), batch.label, batch.index)

    def view_generator(self, batch: Batch) -> torch.Generator:
        """The generator that draws the parameters of a batch's views.

        Args:
            batch: as a loader yields it.
        """
        return generator(self.seed, "views", batch.epoch, batch.step, process=rank())

    def clean(self, batch: Batch) -> Batch:
        """The batch with images ``(B, C, image_size, image_size)`` float32, normalised.

        The shorter side is resized to ``image_size / eval_crop`` pixels (bicubic, antialiased) and the centre is kept.

        Args:
            batch: images uint8, as a loader yields them.
        """
        size, shorter = self.image_size, round(self.image_size / self.eval_crop)
        images = self._in_grey(batch.image) if self._grey else batch.image
        if isinstance(images, Tensor):
            images = resize_and_crop(images, shorter, size)
        else:
            images = torch.stack([resize_and_crop(image, shorter, size) for image in images])
        return batch._replace(image=self.augment.normalize(images))

    @staticmethod
    def _in_grey(images: Images) -> Images:
        whole = isinstance(images, Tensor)
        return rgb_to_grayscale(images) if whole else [rgb_to_grayscale(image) for image in images]


def _two_sizes(source: FileSource) -> str:
    sizes = source.sizes()
    if not sizes:
        raise ValueError(f"none of the images probed in {source.folder} can be read, for example {source.path(0)}")
    (size, path), (other, second) = list(sizes.items())[:2]
    return f"images differ in size: {path} is {size[1]}x{size[0]}, {second} is {other[1]}x{other[0]} pixels (WxH)"

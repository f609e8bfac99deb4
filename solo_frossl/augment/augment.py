"""The pipeline: draws the parameters of every view on the CPU and applies them to the batch on its device."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from solo_frossl.augment import functional
from solo_frossl.augment.parameters import Parameters, draw_parameters
from solo_frossl.augment.plan import BLEND_ARGUMENTS, Plan, make_plan, to_device
from solo_frossl.augment.views import Recipe, View

Images = Tensor | list[Tensor]

# Images are worked on in chunks whose float32 form stays in the CPU's cache, and, on a GPU, bounds its memory.
_CPU_CHUNK_BYTES = 3 * 2**19
_DEVICE_CHUNK_BYTES = 2**28

# Up to this many pixels an image, on a CPU, the two dense products crop faster than `interpolate` image by image.
_LARGEST_DENSE_CROP_ON_CPU = 64 * 64


def _products_are_faster(device: torch.device, height: int, width: int) -> bool:
    """Whether to crop by dense products; a GPU always does, since image by image it would mostly launch kernels."""
    return device.type != "cpu" or height * width <= _LARGEST_DENSE_CROP_ON_CPU


@dataclass(frozen=True)
class _Output:
    """One view to make: its recipe, and its sizes with nothing left open."""

    recipe: Recipe
    size: int
    kernel_size: int


class Augment:
    """Makes the views of a batch of uint8 images: parameters drawn per sample, applied in batch on the images' device.

    Per view: random resized crop and flip, colour jitter, grayscale, blur, solarise, normalise. All is float32 in
    [0, 1] up to the last step; nothing is rounded to 8 bits on the way, and the crop is clamped to [0, 1], as 8 bits
    would. On images of one channel brightness and contrast work; saturation, hue and grayscale leave them as they are.
    Other channel counts than 1 and 3 allow neither jitter nor grayscale.

    Crop and flip are two batched matrix products per view or, where that is faster (large images on a CPU) or the
    images differ in size, one ``interpolate`` an image. On CUDA nothing waits for the device, and the parameters of all
    views go there in one copy. The products follow ``torch.set_float32_matmul_precision``; autocast leaves them alone.

    Args:
        views: entries of the list of views, in order.
        image_size: side of a view whose entry gives no size, pixels.
        mean: per channel, of images in [0, 1]; its length is the number of channels.
        std: per channel, of images in [0, 1], > 0.

    Raises:
        ValueError: there are no views; image_size is below 1; mean and std do not fit; a recipe needs colours that the
            images do not have, or has a blur whose kernel is too large for the view's borders to be reflected.

    >>> augment = Augment([View("weak", count=2)], image_size=8, mean=[0.5], std=[0.25])
    >>> images = torch.zeros(4, 1, 8, 8, dtype=torch.uint8)
    >>> [tuple(view.shape) for view in augment(images, torch.Generator().manual_seed(0))]
    [(4, 1, 8, 8), (4, 1, 8, 8)]
    """

    def __init__(self, views: Sequence[View], image_size: int, mean: Sequence[float], std: Sequence[float]) -> None:
        if not views:
            raise ValueError("views is empty; name at least one view")
        if image_size < 1:
            raise ValueError(f"image_size is {image_size}; it must be at least 1 pixel")
        if not mean or len(mean) != len(std) or not all(value > 0 for value in std):
            raise ValueError(f"mean {list(mean)} and std {list(std)} must have one value a channel, every std > 0")
        self.views = tuple(views)
        self.image_size = image_size
        self.channels = len(mean)
        self._outputs = [self._output(view) for view in views for _ in range(view.count)]
        self._scale = 1.0 / torch.tensor(std, dtype=torch.float64).view(-1, 1, 1)
        self._offset = -torch.tensor(mean, dtype=torch.float64).view(-1, 1, 1) * self._scale
        self._constants: dict[torch.device, tuple[Tensor, Tensor]] = {}

    def _output(self, view: View) -> _Output:
        recipe = view.resolve()
        size = view.size or self.image_size
        kernel_size = recipe.kernel_size(size)
        if self.channels not in (1, 3) and (recipe.jitter_probability or recipe.grayscale_probability):
            raise ValueError(
                f"view {view.recipe!r}: colour jitter and grayscale need 1 or 3 channels and the images have "
                f"{self.channels}; set jitter_probability and grayscale_probability to 0"
            )
        if recipe.blur_probability and kernel_size // 2 >= size:
            raise ValueError(
                f"view {view.recipe!r}: blur_kernel_size is {kernel_size} and the view has {size} pixels a side; "
                f"the kernel may have at most {2 * size - 1}"
            )
        return _Output(recipe, size, kernel_size)

    def __repr__(self) -> str:
        lines = [f"  {output.size} px: {output.recipe}," for output in self._outputs]
        return "\n".join([f"{type(self).__name__}({self.channels} channels,", *lines, ")"])

    def __len__(self) -> int:
        """Number of views."""
        return len(self._outputs)

    def draw(
        self,
        batch_size: int,
        heights: int | Sequence[int] | Tensor,
        widths: int | Sequence[int] | Tensor,
        generator: torch.Generator,
    ) -> list[Parameters]:
        """The random parameters of every view, a function of the generator's state and the arguments alone.

        Args:
            batch_size: number of images B.
            heights: of the images, pixels: one number, or ``(B,)``.
            widths: as heights.
            generator: a CPU generator.
        """
        heights, widths = (torch.as_tensor(side).expand(batch_size) for side in (heights, widths))
        return [draw_parameters(output.recipe, heights, widths, generator) for output in self._outputs]

    def __call__(self, images: Images, generator: torch.Generator) -> list[Tensor]:
        """Draw and apply; arguments and result as for :meth:`draw` and :meth:`apply`."""
        self._check(images)
        if isinstance(images, Tensor):
            heights, widths = images.shape[-2:]
        else:
            heights, widths = [image.shape[-2] for image in images], [image.shape[-1] for image in images]
        return self.apply(images, self.draw(len(images), heights, widths, generator))

    @torch.no_grad()
    def apply(self, images: Images, parameters: Sequence[Parameters]) -> list[Tensor]:
        """The views that these parameters make of these images.

        Args:
            images: ``(B, C, H, W)`` uint8 on any device, or a list of B ``(C, H_i, W_i)`` uint8 tensors on one device.
            parameters: one entry a view, as :meth:`draw` gives them.

        Returns:
            One ``(B, C, S_v, S_v)`` float32 tensor a view, normalised, on the images' device.

        Raises:
            ValueError: images or parameters have another type or shape.
        """
        self._check(images)
        if len(parameters) != len(self) or any(len(p) != len(images) for p in parameters):
            raise ValueError(
                f"parameters are for {[len(p) for p in parameters]} images, an entry a view; "
                f"expected {len(self)} views of {len(images)} images"
            )
        device = images[0].device
        colour = self.channels == 3
        plans = [
            make_plan(p, colour=colour, hue=colour and output.recipe.hue > 0)
            for p, output in zip(parameters, self._outputs, strict=True)
        ]
        with torch.autocast(device.type, enabled=False):
            return [
                self._view(images, output, plan)
                for output, plan in zip(self._outputs, to_device(plans, device), strict=True)
            ]

    def normalize(self, images: Tensor) -> Tensor:
        """Float32 of uint8 images ``(..., C, H, W)``: divided by 255, less the mean, over the standard deviation."""
        scale, offset = self._normalization(images.device)
        return images.float().mul_(scale / 255.0).add_(offset)

    def _normalization(self, device: torch.device) -> tuple[Tensor, Tensor]:
        if device not in self._constants:
            self._constants[device] = (self._scale.float().to(device), self._offset.float().to(device))
        return self._constants[device]

    def _check(self, images: Images) -> None:
        """Raise ValueError unless the images are what :meth:`apply` takes."""
        whole = isinstance(images, Tensor)
        if len(images) == 0:
            raise ValueError("the batch of images is empty")
        expected = f"{'(B, C, H, W)' if whole else 'a list of (C, H, W)'} uint8 with {self.channels} channels"
        for image in images[:1] if whole else images:
            if image.dtype != torch.uint8 or image.dim() != 3 or image.shape[0] != self.channels:
                raise ValueError(f"images must be {expected}; got {tuple(image.shape)} {image.dtype}")

    def _view(self, images: Images, output: _Output, plan: Plan) -> Tensor:
        """One view of the whole batch, made in the plan's order and put back into the batch's."""
        device = images[0].device
        scale, offset = self._normalization(device)
        view = torch.empty(len(images), self.channels, output.size, output.size, device=device)
        for start, stop in self._chunks(images, output.size):
            chunk = _crop(images, output, plan, start, stop)
            _jitter_(chunk, plan, start, stop)
            _change_some_(chunk, output, plan, start, stop)
            view.index_copy_(0, plan.source(start, stop), chunk.mul_(scale).add_(offset))
        return view

    def _chunks(self, images: Images, size: int) -> Iterator[tuple[int, int]]:
        """Bounds of the parts of the batch to work on one after the other."""
        cpu = images[0].device.type == "cpu"
        budget = _CPU_CHUNK_BYTES * torch.get_num_threads() if cpu else _DEVICE_CHUNK_BYTES
        pixels = max(size * size, images[0].shape[-2] * images[0].shape[-1])
        chunk = max(1, budget // (4 * self.channels * pixels))
        for start in range(0, len(images), chunk):
            yield start, min(start + chunk, len(images))


def _crop(images: Images, output: _Output, plan: Plan, start: int, stop: int) -> Tensor:
    """Cropped, resized and flipped images of one chunk in [0, 1], ``(stop - start, C, size, size)``."""
    mode, size = output.recipe.interpolation, output.size
    if isinstance(images, Tensor) and _products_are_faster(images.device, *images.shape[-2:]):
        source = images.index_select(0, plan.source(start, stop)).float()
        top, left, height, width, flip = (
            plan.row(name, start, stop) for name in ("top", "left", "height", "width", "flip")
        )
        rows = functional.resize_weights(top, height, source.shape[-2], size, mode)
        columns = functional.resize_weights(left, width, source.shape[-1], size, mode, flip)
        chunk = functional.resample(source, rows.div_(255.0), columns)
    else:
        first = images[0]
        chunk = torch.empty(stop - start, first.shape[0], size, size, device=first.device)
        for result, (place, *box, flip) in zip(chunk, plan.boxes[start:stop], strict=True):
            crop = functional.crop_resize(images[place], *box, size, mode)
            result.copy_(crop.flip(-1) if flip else crop)
        chunk.div_(255.0)
    return chunk.clamp_(0.0, 1.0)


def _jitter_(chunk: Tensor, plan: Plan, start: int, stop: int) -> None:
    """Colour jitter of one chunk in place, the four operations in every sample's own order."""

    def blend_(j: int, low: int, high: int) -> None:
        if low < high:
            arguments = (plan.row(f"{name}{j}", start + low, start + high) for name in BLEND_ARGUMENTS)
            functional.blend_(chunk[low:high], *arguments)

    jittered, *before_hue = (min(max(n - start, 0), stop - start) for n in (plan.jittered, *plan.before_hue))
    for j, n in enumerate(before_hue):
        blend_(j, 0, n)
    if plan.turns_hue and jittered:
        functional.adjust_hue_(chunk[:jittered], plan.row("hue", start, start + jittered))
    for j, n in enumerate(before_hue):
        blend_(j, n, jittered)


def _change_some_(chunk: Tensor, output: _Output, plan: Plan, start: int, stop: int) -> None:
    """Grayscale, blur and solarise in place, each on the samples it was drawn for and on no other."""
    sigma = plan.row("sigma", start, stop)
    operations = {
        "grayscale": lambda samples, places: functional.grayscale(samples),
        "blur": lambda samples, places: functional.gaussian_blur(samples, sigma[places], output.kernel_size),
        "solarize": lambda samples, places: functional.solarize(samples, output.recipe.solarize_threshold),
    }
    for name, operation in operations.items():
        places = plan.subset(name, start, stop)
        if len(places):
            samples = chunk.index_select(0, places)
            chunk.index_copy_(0, places, operation(samples, places).expand_as(samples))

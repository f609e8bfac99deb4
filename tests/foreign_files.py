"""Networks and checkpoint files as other libraries have them: the same modules, wrapped and saved as they do it."""

import sys
import types
from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

NARROW = 8
"""The stages of these networks have an eighth of the usual channels, so that files stay small."""


class NarrowResNet(ResNet):
    """torchvision's ResNet with narrow stages; the stem has its 64 channels."""

    def _make_layer(self, block, planes, *args, **kwargs):
        return super()._make_layer(block, planes // NARROW, *args, **kwargs)


def resnet(seed=0, *, bottleneck=False, small=False, padding=1, max_pool=None, head=None):
    """A ResNet-18 (or 50) with random weights and random statistics of BatchNorm, in eval mode.

    Args:
        seed: of its weights.
        bottleneck: a ResNet-50.
        small: a 3x3 stem of stride 1 without max-pool.
        padding: of that stem.
        max_pool: whether there is a max-pool; by default where the stem is not small.
        head: module in place of the classifier; none given: nothing.
    """
    torch.manual_seed(seed)
    network = NarrowResNet(Bottleneck, [3, 4, 6, 3]) if bottleneck else NarrowResNet(BasicBlock, [2, 2, 2, 2])
    if small:
        network.conv1 = nn.Conv2d(3, 64, kernel_size=3, stride=1, padding=padding, bias=False)
    if not (not small if max_pool is None else max_pool):
        network.maxpool = nn.Identity()
    network.fc = head or nn.Identity()
    return randomised(network)


def features_of(bottleneck=False):
    return 512 // NARROW * (4 if bottleneck else 1)


def randomised(network):
    """The network in eval mode, with weights and statistics of BatchNorm that matter."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            module.num_batches_tracked.fill_(7)
    return network.eval()


class GeneratorBlock(nn.Module):
    """A block of lightly's ResNetGenerator: ``shortcut`` instead of ``downsample``."""

    def __init__(self, inputs, planes, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, planes, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != planes:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, planes, 1, stride=stride, bias=False), nn.BatchNorm2d(planes)
            )

    def forward(self, x):
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        return (y + self.shortcut(x)).relu()


def generator_backbone(seed=0):
    """What lightly's benchmarks on CIFAR make of ResNetGenerator("resnet-18"): its children without the last.

    The ReLU after the first BatchNorm, which the generator's own ``forward`` has, is no child, so that it is not there.
    """
    torch.manual_seed(seed)
    planes = [64 // NARROW, 128 // NARROW, 256 // NARROW, 512 // NARROW]
    stages, inputs = [], 64
    for i, width in enumerate(planes):
        stages.append(nn.Sequential(GeneratorBlock(inputs, width, 1 if i == 0 else 2), GeneratorBlock(width, width, 1)))
        inputs = width
    stem = [nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64)]
    return randomised(nn.Sequential(*stem, *stages, nn.AdaptiveAvgPool2d(1), nn.Flatten()))


def sequential(network, leave_out=()):
    """``nn.Sequential`` of a torchvision ResNet's children without the classifier, as lightly's tutorials have it."""
    children = [child for name, child in list(network.named_children())[:-1] if name not in leave_out]
    return nn.Sequential(*children)


def mlp(inputs, hidden=16, output=8, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(inputs, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, output))


def module(**children):
    """A module of these children; tensors become buffers."""
    made = nn.Module()
    for name, child in children.items():
        if isinstance(child, Tensor):
            made.register_buffer(name, child)
        else:
            setattr(made, name, child)
    return made


def lightning_checkpoint(model, **more):
    """What Lightning's Trainer saves of a module, after a step of its optimiser."""
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1, momentum=0.9)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    return {
        "epoch": 3,
        "global_step": 40,
        "pytorch-lightning_version": "2.6.0",
        "state_dict": model.state_dict(),
        "loops": {"fit_loop": {"state_dict": {}}},
        "callbacks": {},
        "optimizer_states": [optimizer.state_dict()],
        "lr_schedulers": [],
        **more,
    }


@contextmanager
def foreign_class(name="DictConfig", module_name="omegaconf_stand_in.dictconfig"):
    """A class of a module that exists only inside the ``with`` block, so that reading cannot import it."""
    made = types.ModuleType(module_name)
    cls = type(name, (dict,), {"__module__": module_name})
    setattr(made, name, cls)
    package = module_name.partition(".")[0]
    sys.modules[package] = types.ModuleType(package)
    sys.modules[module_name] = made
    try:
        yield cls
    finally:
        del sys.modules[module_name]
        sys.modules.pop(package, None)


class CreatesAFile:
    """An object whose unpickling would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def tensor_names(content, prefix=""):
    """Names of all tensors in nested containers, joined by dots: told here in another way than the library does."""
    if isinstance(content, Tensor):
        return {prefix.rstrip(".")}
    pairs = content.items() if isinstance(content, Mapping) else enumerate(content)
    nested = (value for value in pairs if isinstance(value[1], Tensor | Mapping | list | tuple))
    return set().union(*(tensor_names(value, f"{prefix}{key}.") for key, value in nested), set())

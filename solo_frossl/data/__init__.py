"""Datasets as Lightning data modules: uint8 images resident on the device, resident in memory, or streamed."""

from solo_frossl.data.cifar import CIFAR10, CIFAR100
from solo_frossl.data.digits import Digits
from solo_frossl.data.folder import ImageFolder
from solo_frossl.data.imagenet import ImageNet, ImageNet100
from solo_frossl.data.loaders import EvaluationLoader, TrainLoader
from solo_frossl.data.module import ImageDataModule
from solo_frossl.data.stl10 import STL10
from solo_frossl.data.tinyimagenet import TinyImageNet

DATASETS: dict[str, type[ImageDataModule]] = {
    "digits": Digits,
    "folder": ImageFolder,
    "cifar10": CIFAR10,
    "cifar100": CIFAR100,
    "stl10": STL10,
    "tinyimagenet": TinyImageNet,
    "imagenet": ImageNet,
    "imagenet100": ImageNet100,
}
"""Every dataset by the name that the command line knows it by."""

__all__ = [
    "CIFAR10",
    "CIFAR100",
    "DATASETS",
    "STL10",
    "Digits",
    "EvaluationLoader",
    "ImageDataModule",
    "ImageFolder",
    "ImageNet",
    "ImageNet100",
    "TinyImageNet",
    "TrainLoader",
]

"""Views of a batch: drawn per sample on the CPU, applied in batch on the device."""

from solo_frossl.augment.augment import Augment
from solo_frossl.augment.parameters import Parameters
from solo_frossl.augment.views import RECIPES, Recipe, View

__all__ = ["RECIPES", "Augment", "Parameters", "Recipe", "View"]

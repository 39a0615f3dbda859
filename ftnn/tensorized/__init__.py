"""Torch modules with dense inputs and outputs, whose weights are tensor networks."""

from .adaptation import RankAdaptation, schmidt_values
from .conv import Conv1d, Conv2d, Conv3d
from .conversion import Tensorizer, tensorize
from .embedding import Embedding
from .factored import Factored
from .files import load, save
from .healing import Healed, heal
from .linear import Linear
from .moments import Moments
from .plans import Plan, plan
from .tensorization import Row, Tensorization

__all__ = [
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "Embedding",
    "Factored",
    "Healed",
    "Linear",
    "Moments",
    "Plan",
    "RankAdaptation",
    "Row",
    "Tensorization",
    "Tensorizer",
    "heal",
    "load",
    "plan",
    "save",
    "schmidt_values",
    "tensorize",
]

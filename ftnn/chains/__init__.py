"""Chains: batched states, operators, lazy sums of products, their environments."""

from .lazy import Lazy
from .operators import MPO
from .states import MPS

__all__ = ["MPO", "MPS", "Lazy"]

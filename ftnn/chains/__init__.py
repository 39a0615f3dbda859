"""Chains: batched states, operators, lazy sums of products, their environments."""

from .canonical import canonical
from .environments import environments
from .lazy import Lazy
from .operators import MPO
from .overlap import Environment
from .states import MPS

__all__ = ["MPO", "MPS", "Environment", "Lazy", "canonical", "environments"]

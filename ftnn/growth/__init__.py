"""Growth: larger, deeper, longer and smaller models of the same function.

Every operation returns a new model; the one given is unchanged, and shares no array with it.
"""

from .deepen import deepen, deepened_paths, identity
from .freeze import freeze, thaw
from .inflate import inflate
from .merge import merge
from .widen import widen

__all__ = ["deepen", "deepened_paths", "freeze", "identity", "inflate", "merge", "thaw", "widen"]

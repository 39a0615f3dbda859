"""Growth: larger, deeper, longer and smaller models of the same function.

Every operation returns a new model; the one given is unchanged, and shares no array with it.
"""

from .deepen import deepen, deepened_paths, identity
from .freeze import freeze, thaw
from .inflate import inflate
from .insert_sites import insert_sites, inserted_paths
from .merge import merge
from .prune import Pruned, PrunedBond, prune
from .widen import widen

__all__ = [
    "Pruned",
    "PrunedBond",
    "deepen",
    "deepened_paths",
    "freeze",
    "identity",
    "inflate",
    "insert_sites",
    "inserted_paths",
    "merge",
    "prune",
    "thaw",
    "widen",
]

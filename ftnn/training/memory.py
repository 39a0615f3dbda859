"""Memory of the process: freed blocks are kept for the next step."""

import ctypes
import ctypes.util
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
_KEPT = 1 << 30  # bytes; the other threshold may be at most 32 MiB


def keep_freed_memory() -> bool:
    """Tell glibc's allocator not to hand freed blocks back to the system.

    A training step allocates and frees the same few arrays of some MiB over and over. By
    default each of them is mapped, filled with zeros page by page, and unmapped again; on two
    cores that took a quarter of the time of a forward pass (see docs/performance.md). It is a
    setting of the whole process, so the command line makes it, and the library does not.

    Returns
    -------
    bool
        Whether the C library took it; False where it is not glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(ctypes.util.find_library("c")).mallopt
    except (AttributeError, OSError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, 1 << 25) and mallopt(_M_TRIM_THRESHOLD, _KEPT))

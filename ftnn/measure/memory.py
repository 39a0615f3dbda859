"""Memory: reuse of freed blocks between steps; stored and peak bytes of a step."""

import ctypes
import ctypes.util
import sys
from collections.abc import Callable, Iterable
from itertools import accumulate

import torch

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
_KEPT = 1 << 30  # bytes; the other threshold may be at most 32 MiB


def keep_freed_memory() -> bool:
    """Configure glibc's allocator not to return freed blocks to the system.

    A training step allocates and frees the same few arrays of some MiB over and over. By
    default each of them is mapped, filled with zeros page by page, and unmapped again; on two
    cores that took a quarter of the time of a forward pass (see docs/performance.md). It is a
    setting of the whole process, so the command line makes it, and the library does not.

    Returns
    -------
    bool
        Whether the C library accepted the setting; False where it is not glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(ctypes.util.find_library("c")).mallopt
    except (AttributeError, OSError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, 1 << 25) and mallopt(_M_TRIM_THRESHOLD, _KEPT))


def kept_bytes(step: Callable[[], object], params: Iterable[torch.Tensor] = ()) -> int:
    """Count the bytes that a step saves for its backward pass, each storage once.

    Parameters
    ----------
    step : callable
        A forward pass on torch, alone or with everything after it.
    params : iterable of tensor
        Weights, which are not counted.
    """
    sizes: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        step()
    owned = {param.untyped_storage().data_ptr() for param in params}
    return sum(size for at, size in sizes.items() if at not in owned)


def peak_bytes(step: Callable[[], object]) -> int:
    """Measure the peak memory of torch's CPU tensors within a step, relative to its start.

    Counted from allocations: the same on every machine.

    Parameters
    ----------
    step : callable
        Repeatable; its first call is not counted, as it makes allocations that persist.
    """
    step()
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as trace:
        step()
    events = trace.profiler.kineto_results.events()
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    return max(accumulate((size for _, size in changes), initial=0))

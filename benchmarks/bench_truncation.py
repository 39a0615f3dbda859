"""Truncation under asv: time, peak memory and error, by backend and device.

What cannot run here is skipped (``NotImplementedError`` in ``setup``, as asv has it). Every
``setup`` warms up; what is timed waits for the device. CONTRIBUTING.md has the commands.
"""

import ftnn
from ftnn.arrays.backend import synchronize, to_numpy
from ftnn.truncation import METHODS

from .accuracy import exact_product, reference, relative_distance
from .workloads import (
    LONG,
    PLACES,
    WIDE,
    forward,
    forward_backward,
    product,
    synthetic,
    usable,
)

WORKS = {"L10-D8-chi16-batch128": LONG, "L5-D8-chi8-batch256": WIDE}
MODERATE = {"L": 8, "phys_in": 3, "phys_out": 3, "D": 5, "chi": 12, "batch": 16}
SYNTHETIC_BOND = 50
SYNTHETIC_METHODS = [name for name in METHODS if name not in ("dm", "direct")]
ON_HOST = [place for place in PLACES if place.endswith("cpu")]
ON_DEVICE = [place for place in PLACES if place.endswith("cuda")]
ON_TORCH = [place for place in PLACES if place.startswith("torch")]
REAL = ["float32", "float64"]


def _need(place):
    if not usable(place):
        raise NotImplementedError(f"{place} is not here")


def _error(problem, run):
    """Relative error of the first sample against the exact product."""
    cores = [to_numpy(core[:1]) for core in run().cores]
    return relative_distance(cores, exact_product(problem))


def _allocated(place, run):
    """Peak of the device memory, in bytes, that a run takes beyond what it starts with."""
    if place == "torch-cuda":
        import torch

        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        synchronize(place)
        return torch.cuda.max_memory_allocated() - before
    import cupy

    pool = cupy.get_default_memory_pool()
    pool.free_all_blocks()
    before = pool.total_bytes()
    run()
    synchronize(place)
    return pool.total_bytes() - before  # the pool keeps what it has once taken


class _Case:
    """A run at a place: warmed up, and waited for."""

    def _prepare(self, place, run):
        self.run, self.place = run, place
        self._once()

    def _once(self):
        self.run()
        synchronize(self.place)


# ---- the two products of the table of speeds -----------------------------------------------------


class Product(_Case):
    """SRC of a product, forward."""

    params = (list(WORKS), PLACES, REAL)
    param_names = ("work", "place", "dtype")

    def setup(self, work, place, dtype):
        _need(place)
        self.problem = product(**WORKS[work], dtype=dtype)
        self._prepare(place, forward(self.problem, place, WORKS[work]["chi"]))

    def time_forward(self, work, place, dtype):
        self._once()

    def track_error(self, work, place, dtype):
        return _error(self.problem, self.run)

    track_error.unit = "relative"


class ProductGradient(_Case):
    """SRC of a product, forward and backward to the cores of weight and state."""

    params = (list(WORKS), ON_TORCH, REAL)
    param_names = ("work", "place", "dtype")

    def setup(self, work, place, dtype):
        _need(place)
        problem = product(**WORKS[work], dtype=dtype)
        self._prepare(place, forward_backward(problem, place, WORKS[work]["chi"]))

    def time_forward_backward(self, work, place, dtype):
        self._once()


class ProductMemory(_Case):
    """SRC of a product, forward, libraries included."""

    params = (list(WORKS), ON_HOST, REAL)
    param_names = ("work", "place", "dtype")

    def setup(self, work, place, dtype):
        _need(place)
        chi = WORKS[work]["chi"]
        self._prepare(place, forward(product(**WORKS[work], dtype=dtype), place, chi))

    def peakmem_forward(self, work, place, dtype):
        self._once()


class ProductGradientMemory(_Case):
    """SRC of a product on torch, forward and backward, libraries included."""

    params = (list(WORKS), REAL)
    param_names = ("work", "dtype")

    def setup(self, work, dtype):
        _need("torch-cpu")
        problem = product(**WORKS[work], dtype=dtype)
        self._prepare("torch-cpu", forward_backward(problem, "torch-cpu", WORKS[work]["chi"]))

    def peakmem_forward_backward(self, work, dtype):
        self._once()


class ProductDeviceMemory(_Case):
    """SRC of a product, memory of the device beyond its operands."""

    params = (list(WORKS), ON_DEVICE, REAL)
    param_names = ("work", "place", "dtype")
    unit = "bytes"

    def setup(self, work, place, dtype):
        _need(place)
        chi = WORKS[work]["chi"]
        self._prepare(place, forward(product(**WORKS[work], dtype=dtype), place, chi))

    def track_forward(self, work, place, dtype):
        return _allocated(place, self.run)


# ---- every method --------------------------------------------------------------------------------


class Methods(_Case):
    """Every method at a moderate size, forward."""

    params = (list(METHODS), PLACES, [*REAL, "complex128"])
    param_names = ("method", "place", "dtype")

    def setup(self, method, place, dtype):
        _need(place)
        self.problem = product(**MODERATE, dtype=dtype)
        self._prepare(place, forward(self.problem, place, MODERATE["chi"], method))

    def time_forward(self, method, place, dtype):
        self._once()

    def track_error(self, method, place, dtype):
        return _error(self.problem, self.run)

    track_error.unit = "relative"


class MethodsGradient(_Case):
    """Every method at a moderate size, forward and backward."""

    params = (list(METHODS), ON_TORCH, REAL)
    param_names = ("method", "place", "dtype")

    def setup(self, method, place, dtype):
        _need(place)
        problem = product(**MODERATE, dtype=dtype)
        self._prepare(place, forward_backward(problem, place, MODERATE["chi"], method))

    def time_forward_backward(self, method, place, dtype):
        self._once()


class MethodsMemory(_Case):
    """Every method at a moderate size, forward, libraries included."""

    params = (list(METHODS), ON_HOST)
    param_names = ("method", "place")

    def setup(self, method, place):
        _need(place)
        self._prepare(place, forward(product(**MODERATE), place, MODERATE["chi"], method))

    def peakmem_forward(self, method, place):
        self._once()


# ---- the SRC paper's synthetic problem -----------------------------------------------------------


class Synthetic(_Case):
    """L=100, bonds 50, one sample, float64."""

    params = (SYNTHETIC_METHODS, PLACES)
    param_names = ("method", "place")
    timeout = 600
    number, repeat, rounds, warmup_time = 1, (1, 3, 20.0), 1, 0

    def setup(self, method, place):
        _need(place)
        problem = synthetic()
        forward(problem.short(4), place, SYNTHETIC_BOND, method)()  # a few sites to warm up
        self.run, self.place = forward(problem, place, SYNTHETIC_BOND, method), place

    def time_forward(self, method, place):
        self._once()

    def peakmem_forward(self, method, place):
        if place not in ON_HOST:
            raise NotImplementedError("memory of the host says little about a device")
        self._once()


class SyntheticError:
    """L=100, bonds 50, against a stand-in for the exact product."""

    params = SYNTHETIC_METHODS
    param_names = ("method",)
    timeout = 600
    unit = "relative"

    def setup_cache(self):
        return reference(synthetic())[0]

    def track_error(self, exact, method):
        found = ftnn.compress(synthetic().lazy(), max_bond=SYNTHETIC_BOND, method=method)
        return relative_distance(found.cores, exact)

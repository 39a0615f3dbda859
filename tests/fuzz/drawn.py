"""Very many drawn cases of the laws: every layer and method, scales of 1e-30 to 1e30 a core."""

import signal
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import layer_laws
import method_laws
import numpy as np
import torch
from catalogue import ENTRIES, cases
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from laws import KINDS
from method_laws import problems

from ftnn.truncation import METHODS

CASES = 100
"""Drawn of one law, for one layer or method, in a round."""

HANGS = 600
"""Seconds after which a law counts as hanging."""

dtypes = st.sampled_from(["float64", "float32"])
complex_too = st.sampled_from(["float64", "float32", "complex128", "complex64"])
backends = st.sampled_from(["numpy", "torch"])
bonds = st.integers(1, 5)
decades = st.lists(st.integers(-30, 30), min_size=6, max_size=6).map(tuple)
small = {"max_sites": 3, "max_phys": 3}


def _scaled(name: str, dtype: str, kinds: tuple[str, ...] = KINDS) -> st.SearchStrategy:
    """Problems that the results of can be represented, with scales of up to 30 decades a core."""
    drawn = problems(kinds, 4, decades=30, max_batch=3)
    return drawn.filter(lambda problem: problem.representable(dtype))


def _layer_laws(name: str) -> Iterator[tuple[str, Callable, tuple]]:
    entangled = not ENTRIES[name].product
    any_kind, generic = cases(name, **small), cases(name, ("generic",), **small)
    usual = cases(name, ("generic", "padded", "product", "zero"), **small)
    yield "1 batched", layer_laws.batched, (usual, backends)
    yield "2 gauge", layer_laws.gauge, (generic, backends)
    if entangled:
        yield "3 padding", layer_laws.padding, (any_kind, backends)
    yield "6 backends", layer_laws.backends, (usual,)
    yield "7 gradients", layer_laws.gradients, (any_kind, dtypes)

    def scaled_gradients(case, dtype, exponents):
        # by a core that a layer leaves as it is the gradient of another one is multiplied
        limit = 12 if dtype == "float32" else 30
        exponents = (int(np.clip(e, -limit, limit)) for e in exponents[: case.chain.L])
        exponents = layer_laws.balanced(tuple(exponents), limit)
        layer_laws.gradients(case, dtype, exponents=exponents)

    yield "7 gradients, any scale", scaled_gradients, (any_kind, dtypes, decades)
    if ENTRIES[name].smooth:
        yield "7 finite differences", layer_laws.finite_differences, (generic,)
    yield "9 same seed", layer_laws.repeatable, (any_kind, backends, dtypes)

    def scaled(case, exponents, backend, dtype):
        layer_laws.scales(case, exponents[: case.chain.L], backend, dtype)

    yield "9 any scale", scaled, (generic, decades, backends, dtypes)
    yield "saved and loaded", layer_laws.saved, (any_kind, dtypes)


def _method_laws(name: str) -> Iterator[tuple[str, Callable, tuple]]:
    claims, method = METHODS[name].claims, st.just(name)
    scaled, scaled_single = (_scaled(name, dtype) for dtype in ("float64", "float32"))
    plain = problems(("generic", "padded", "repeated"), 4, max_batch=3)
    generic = problems(("generic",), 4, max_batch=3)
    yield "1 batched", method_laws.batched, (method, plain, bonds, complex_too, backends)
    yield "2 gauge", method_laws.gauge, (method, generic, bonds, st.just("float64"), backends)
    if "cores" in claims:
        products = problems(("generic",), 4, ("product",))
        yield "2 gauge of cores", method_laws.gauge_of_cores, (method, products, bonds, backends)
    padded = problems(("generic", "padded", "product", "deficient", "zero"), 4, max_batch=3)
    yield "3 padding", method_laws.padding, (method, padded, bonds, complex_too, backends)
    double = st.sampled_from(["float64", "complex128"])
    single = st.sampled_from(["float32", "complex64"])
    yield "4 exact, any scale", method_laws.exact, (method, scaled, double, backends)
    yield "4 exact, any scale, single", method_laws.exact, (method, scaled_single, single, backends)
    if "optimal" in claims:
        longer = problems(("generic",), 5, min_sites=2, max_batch=3)
        yield "5 optimal", method_laws.optimal, (method, longer, bonds, backends)
    if "tolerance" in claims:
        some = problems(("generic", "deficient", "padded"), 5, max_batch=3)
        limits = st.sampled_from([0.01, 0.04, 0.2, 0.5])
        yield "5 tolerance", method_laws.tolerance, (method, some, limits, backends)
    yield "6 backends", method_laws.backends, (method, generic, bonds, complex_too)
    any_kind = problems(KINDS, 4, max_batch=3)
    yield "7 gradients", method_laws.gradients, (method, any_kind, bonds, complex_too)
    yield "9 same seed", method_laws.repeatable, (method, any_kind, bonds, complex_too, backends)
    for dtype, drawn in (("float64", scaled), ("float32", scaled_single)):
        text = f"9 any scale, {dtype}"
        one_degree = drawn.filter(lambda p: p.chain.kind == "generic")
        yield text, method_laws.homogeneous, (method, one_degree, bonds, st.just(dtype), backends)


def all_laws() -> dict[str, tuple[Callable, tuple]]:
    """Every law of every layer and method, by name."""
    groups = (("layer", ENTRIES, _layer_laws), ("method", METHODS, _method_laws))
    return {
        f"{group} {name}: {law}": (check, strategies)
        for group, names, laws in groups
        for name in names
        for law, check, strategies in laws(name)
    }


@dataclass(frozen=True)
class Outcome:
    """What became of one law of one layer or method: cases tried, and the failure if any."""

    law: str
    seed: int
    cases: int
    failure: str = ""


def check(law: str, number: int, count: int = CASES) -> Outcome:
    """Draw cases of a law from a seed; what fails is shrunk, and described by its smallest case."""
    tried = 0
    function, strategies = all_laws()[law]

    @seed(number)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        derandomize=False,
        print_blob=False,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(st.tuples(*strategies))
    def run(arguments):
        nonlocal tried
        tried += not failed
        try:
            function(*arguments)
        except BaseException:
            failed.append(True)
            raise

    failed: list[bool] = []
    torch.set_num_threads(1)
    try:
        with warnings.catch_warnings(), _time_limit(HANGS):
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", "invalid value encountered in matmul")
            run()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        lines = traceback.format_exception(error)
        return Outcome(law, number, tried, "".join(lines[-1:]) + "".join(notes(error)))
    return Outcome(law, number, tried)


def notes(error: BaseException) -> list[str]:
    """What hypothesis tells of the smallest failing case, and where it failed."""
    frames = traceback.extract_tb(error.__traceback__)
    where = [f"    {f.filename}:{f.lineno} {f.line}\n" for f in frames if "/ftnn/" in f.filename]
    found = where[-1:]
    for inner in getattr(error, "exceptions", ()):
        found += [f"  {type(inner).__name__}: {inner}\n", *notes(inner)]
    return found


@contextmanager
def _time_limit(seconds: int) -> Iterator[None]:
    def stop(*_):
        raise TimeoutError(f"no result within {seconds} s")

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


def run(minutes: float, start: int, only: str = "", jobs: int = 1) -> tuple[int, list[Outcome]]:
    """Check laws in rounds until the time is over; a law that failed is not tried again.

    Returns
    -------
    cases : int
    failures : list of Outcome
    """
    names = [name for name in all_laws() if only in name]
    if not names:
        raise SystemExit(f"no law has {only!r} in its name")
    end, total, failures, number = time.monotonic() + 60 * minutes, 0, [], start
    failed: set[str] = set()
    with ProcessPoolExecutor(jobs, max_tasks_per_child=50) as pool:
        while time.monotonic() < end and len(failed) < len(names):
            todo = [name for name in names if name not in failed]
            for first in range(0, len(todo), 4 * jobs):
                if time.monotonic() > end:
                    break
                some = todo[first : first + 4 * jobs]
                for outcome in pool.map(check, some, [number] * len(some)):
                    total += outcome.cases
                    if outcome.failure:
                        failed.add(outcome.law)
                        failures.append(outcome)
                        print(f"FAILED {outcome.law}, seed {outcome.seed}\n{outcome.failure}")
            print(f"seed {number}: {total:,} cases, {len(failures)} laws failed", flush=True)
            number += 1
    return total, failures

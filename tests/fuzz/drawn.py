"""Very many drawn cases of the laws: every layer and method, every scale that cores may have."""

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
import torch
from catalogue import DECADES, ENTRIES, cases, exponents, reaches
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from laws import KINDS
from method_laws import NETWORKS, problems

from ftnn.truncation import METHODS

CASES = 100
"""Drawn of one law, for one layer or method, in a round."""

HANGS = 600
"""Seconds after which a law counts as hanging."""

dtypes = st.sampled_from(["float64", "float32"])
DOUBLE, ALL = ("float64",), ("float64", "float32", "complex128", "complex64")
backends = st.sampled_from(["numpy", "torch"])
bonds = st.integers(1, 5)
small = {"max_sites": 3, "max_phys": 3}


def _layer_laws(name: str) -> Iterator[tuple[str, Callable, tuple]]:
    entangled = not ENTRIES[name].product
    far = {**small, "apart": 2.0}
    any_kind, generic = cases(name, **far), cases(name, ("generic",), **far)
    usual = cases(name, ("generic", "padded", "product", "zero"), **far)
    plain = cases(name, ("generic",), **small)
    yield "1 batched", layer_laws.batched, (usual, backends, dtypes)
    yield "2 gauge", layer_laws.gauge, (generic, backends, dtypes)
    if entangled:
        yield "3 padding", layer_laws.padding, (any_kind, backends, dtypes)
    yield "6 backends", layer_laws.backends, (usual, dtypes)
    # by a core that a layer leaves as it is the gradient of another one is multiplied
    yield "7 gradients", layer_laws.gradients, (cases(name, **small, apart=1.0), dtypes)
    if ENTRIES[name].smooth:
        yield "7 finite differences", layer_laws.finite_differences, (plain,)
    yield "9 same seed", layer_laws.repeatable, (any_kind, backends, dtypes)

    def scaled(case, shares, backend, dtype):
        powers = exponents(shares[: case.chain.L], dtype) or (0,) * case.chain.L
        layer_laws.scales(case, powers, backend, dtype)

    yield "9 any scale", scaled, (plain, reaches(4), backends, dtypes)
    yield "saved and loaded", layer_laws.saved, (any_kind, dtypes)


def _problems(dtypes: tuple[str, ...], kinds: tuple[str, ...] = KINDS, *networks, **more):
    """Problems with a dtype, of all scales of which the result can be represented."""
    near, sizes = more.pop("near", False), {"max_sites": 4, "max_batch": 3} | more

    def of(dtype: str) -> st.SearchStrategy:
        drawn = problems(
            kinds, decades=DECADES[dtype], **({"networks": networks} if networks else {}), **sizes
        )
        held = drawn.filter(lambda p: p.representable(dtype, near))
        return st.tuples(held, st.just(dtype))

    return st.sampled_from(dtypes).flatmap(of)


def _method_laws(name: str) -> Iterator[tuple[str, Callable, tuple]]:
    claims = METHODS[name].claims

    def law(check: Callable) -> Callable:
        # a dtype is drawn with a problem, whose scales depend on it
        return lambda drawn, *rest: check(name, drawn[0], *rest[:1], drawn[1], *rest[1:])

    def double(check: Callable) -> Callable:
        return lambda drawn, *rest: check(name, drawn[0], *rest)

    plain, generic = _problems(ALL, ("generic", "padded", "repeated")), ("generic",)
    yield "1 batched", law(method_laws.batched), (plain, bonds, backends)
    yield (
        "2 gauge",
        double(method_laws.gauge),
        (_problems(DOUBLE, generic), bonds, st.just("float64"), backends),
    )
    if "cores" in claims:
        products = _problems(DOUBLE, generic, "product", max_batch=5)
        yield "2 gauge of cores", double(method_laws.gauge_of_cores), (products, bonds, backends)
    padded = _problems(ALL, ("generic", "padded", "product", "deficient", "zero"))
    yield "3 padding", law(method_laws.padding), (padded, bonds, backends)

    def exact(drawn, backend):
        method_laws.exact(name, *drawn, backend)

    yield "4 exact", exact, (_problems(("float64", "complex128")), backends)
    yield "4 exact, single", exact, (_problems(("float32", "complex64")), backends)
    if "optimal" in claims:
        longer = _problems(DOUBLE, generic, max_sites=5, min_sites=2)
        yield "5 optimal", double(method_laws.optimal), (longer, bonds, backends)
    if "tolerance" in claims:
        some = _problems(DOUBLE, ("generic", "deficient", "padded"), max_sites=5)
        limits = st.sampled_from([0.01, 0.04, 0.2, 0.5])
        yield "5 tolerance", double(method_laws.tolerance), (some, limits, backends)
    yield "6 backends", law(method_laws.backends), (_problems(ALL, generic), bonds)
    yield "7 gradients", law(method_laws.gradients), (_problems(ALL, near=True), bonds)
    yield "9 same seed", law(method_laws.repeatable), (_problems(ALL), bonds, backends)
    one_degree = [n for n in NETWORKS if method_laws.degrees(n) is not None]
    for dtypes in (("float64", "complex128"), ("float32", "complex64")):
        scaled = _problems(dtypes, generic, *one_degree)
        yield f"9 any scale, {dtypes[0]}", law(method_laws.homogeneous), (scaled, bonds, backends)


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
        # with the notes of hypothesis, which hold the smallest failing case
        what = "".join(traceback.format_exception_only(error))
        return Outcome(law, number, tried, what + "".join(notes(error)))
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
    while time.monotonic() < end and len(failed) < len(names):
        todo = [name for name in names if name not in failed]
        # a pool for every round: one that replaces its processes deadlocks (cpython issue 115634)
        with ProcessPoolExecutor(jobs) as pool:
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

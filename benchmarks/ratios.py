"""Speed of truncation and of training as ratios: `make bench`, or `python benchmarks/ratios.py`.

Peers run in one process, by turns, for several rounds; a ratio is one of medians, and times are
a sample. quimb gets one sample at a time, its network built beforehand, as ours is; it runs on
the CPU throughout. `--accuracy` prints errors on the SRC paper's synthetic problem instead.
"""

import argparse
import contextlib
import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path

import threadpoolctl
import torch
from rich.console import Console
from rich.table import Table

if not __package__:  # run as a script
    sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import accuracy, workloads
from benchmarks.training import Work, dense
from benchmarks.workloads import LONG, QUIMB_QR, WIDE, forward, forward_backward
from ftnn.measure.floor import Floor, flops, products
from ftnn.measure.memory import keep_freed_memory
from ftnn.measure.timing import Timer, compare

SAMPLES = 4
"""Samples that quimb compresses in a round."""

SECONDS = 0.1
"""What takes less is repeated in a round, until it has run for about that long."""

HEAVY_ROUNDS = 3
"""Rounds, at most, of what takes seconds."""

PAPER = {"zipup": 2.0, "dm": 50.0, "direct": 200.0}
"""How many times as long as src the SRC paper's peers took, at bond 50."""


@dataclass(frozen=True)
class Row:
    """A ratio and what it is to be.

    Attributes
    ----------
    work, ours, peer : str
        What was run, where, and what it is compared with.
    seconds, peer_seconds : float
        A sample.
    bar, aim : float or None
    at_least : bool
        Whether the ratio is to be large.
    """

    work: str
    ours: str
    peer: str
    seconds: float
    peer_seconds: float
    bar: float | None = None
    aim: float | None = None
    at_least: bool = True

    @property
    def ratio(self) -> float:
        """Of the peer's time to ours, if it is to be large; else the inverse."""
        ratio = self.peer_seconds / self.seconds
        return ratio if self.at_least else 1 / ratio

    @property
    def verdict(self) -> str:
        """Which of bar and aim is met."""
        for limit, text in ((self.aim, "aim met"), (self.bar, "bar met")):
            if limit is not None and (self.ratio >= limit) == self.at_least:
                return text
        return "" if self.bar is None else "missed"


@dataclass(frozen=True)
class Call:
    """Something to be timed.

    Attributes
    ----------
    run : callable
    place : str
        Where to wait for it.
    samples : int
        Number of samples that it works on.
    """

    run: Callable[[], object]
    place: str = "numpy-cpu"
    samples: int = 1


class Bench:
    """The rows found so far, where ours runs, and how long."""

    def __init__(self, console: Console, device: str, rounds: int, compiled: bool) -> None:
        self.console = console
        self.rounds = rounds
        self.compiled = compiled
        self.places = workloads.places_of(device)
        named = [place for place in workloads.PLACES if place.endswith(device)]
        self.skipped = [place for place in named if place not in self.places]
        self.rows: list[Row] = []

    def product(self, work: str, size: dict, dtype: str, bar: float, aim: float) -> None:
        """A product against quimb, against its floor, and its gradient against itself."""
        problem, bond = workloads.product(**size, dtype=dtype), size["chi"]
        work, batch = f"{work}, {dtype}", problem.batch
        calls = {p: Call(forward(problem, p, bond), p, batch) for p in self.places}
        networks = [problem.quimb(n) for n in range(min(SAMPLES, batch))]
        calls["quimb src"] = _quimb(networks, bond, None)
        calls["quimb src (QR)"] = _quimb(networks, bond, QUIMB_QR)
        torches = [p for p in self.places if p.startswith("torch")]
        for p in torches:
            recorded = forward(problem, p, bond, gradients=True)
            calls[f"recorded {p}"] = Call(recorded, p, batch)
            calls[f"gradient {p}"] = Call(forward_backward(problem, p, bond), p, batch)
            if self.compiled:
                self.console.print(f"compiling {work} ...")
                calls[f"compiled {p}"] = Call(workloads.compiled(problem, p, bond), p, batch)
        shapes = products(forward(problem, "torch-cpu", bond))
        floors = {f"floor {p}": Floor(shapes, p) for p in self.places}
        found = self.compare(work, calls, self.rounds, floors)

        rows = []
        # how ours runs, and where
        ways = {p: p for p in self.places}
        ways |= {f"compiled {p}": p for p in torches if self.compiled}
        best = min(ways, key=found.__getitem__)
        for way in ways:
            limits = (bar, aim) if way == best else ()
            rows.append(Row(work, way, "quimb src", found[way], found["quimb src"], *limits))
        qr = found["quimb src (QR)"]
        rows.append(Row(work, best, "quimb src (QR)", found[best], qr))
        for way, p in ways.items():
            bound = found[f"floor {p}"] / batch
            peer = f"floor, {flops(shapes) / batch / bound / 1e9:.3g} GFLOP/s"
            limits = (4.0, 2.0) if way == best else ()
            rows.append(Row(work, way, peer, found[way], bound, *limits, at_least=False))
        for p in torches:
            both, one = found[f"gradient {p}"], found[f"recorded {p}"]
            ours, peer = f"{p}, forward + backward", "its forward, recorded"
            rows.append(Row(work, ours, peer, both, one, 3.5, 2.5, at_least=False))
        self.show(rows)

    def synthetic(self, full: bool, bond: int = 50) -> None:
        """Time the SRC paper's synthetic problem against quimb and against our other methods."""
        problem, work = workloads.synthetic(), "synthetic, L=100, D=χ=50→50, one sample, float64"
        rounds = min(self.rounds, HEAVY_ROUNDS)
        calls = {p: Call(forward(problem, p, bond), p) for p in self.places}
        calls["quimb src (QR)"] = _quimb([problem.quimb(0)], bond, QUIMB_QR)
        found = self.compare(work, calls, rounds)
        best = min(self.places, key=found.__getitem__)
        rows = []
        for p in self.places:
            limits = (2.0, 3.0) if p == best else ()
            rows.append(Row(work, p, "quimb src (QR)", found[p], found["quimb src (QR)"], *limits))
        for method, bar in PAPER.items():
            heavy = method in accuracy.HEAVY
            if heavy and not full:
                continue
            forward(problem.short(4), best, bond, method)()  # a few sites to warm up
            calls = {m: Call(forward(problem, best, bond, m), best) for m in ("src", method)}
            found = self.compare(work, calls, 1 if heavy else rounds, warm=False)
            peer = f"our {method}; bar: the paper's ratio"
            rows.append(Row(work, best, peer, found["src"], found[method], bar))
        self.show(rows)

    def training(self) -> None:
        """A training step against samples a second, its floor, itself and a dense network."""
        size = Work()
        calls = {"plain": size.step(), "recomputed": replace(size, recompute=True).step()}
        floors = {"floor": Floor(products(calls["plain"]), "torch-cpu")}
        calls["dense"] = dense(size.batch)
        work = "training step, L=5, phys 4→8, D=8, χ=8→8, Readout, batch 250, float32"
        if self.compiled:
            self.console.print(f"compiling {work} ...")
            calls["compiled"] = replace(size, compile=True).step()
        runs = {name: Call(step, "torch-cpu", size.batch) for name, step in calls.items()}
        found = self.compare(work, runs, self.rounds, floors)
        bound = found["floor"] / size.batch
        ways = [name for name in ("plain", "compiled") if name in found]
        best = min(ways, key=found.__getitem__)
        rows = []
        for way in ways:
            limits = (1.0, 1.6) if way == best else ()
            rows.append(Row(work, way, "5,000 samples/s", found[way], 1 / 5000, *limits))
            limits = (3.0,) if way == best else ()
            rows.append(Row(work, way, "floor", found[way], bound, *limits, at_least=False))
        both = found["recomputed"], found["plain"]
        rows.append(Row(work, "recomputed", "plain", *both, 1.4, at_least=False))
        rows.append(Row(work, best, "dense 784-512-256-10", found[best], found["dense"]))
        self.show(rows)

    def compare(
        self,
        work: str,
        calls: dict[str, Call],
        rounds: int,
        floors: dict[str, Floor] | None = None,
        warm: bool = True,
    ) -> dict[str, float]:
        """Median seconds of every call, a sample, and of every floor, a run.

        Parameters
        ----------
        work : str
            Shown with the progress.
        calls : dict of Call
        rounds : int
        floors : dict of Floor, optional
        warm : bool
            Run every call beforehand, and repeat short ones in each round.
        """
        floors = floors or {}
        with accuracy.progress_on(self.console) as progress:
            total = rounds * (len(calls) + len(floors)) + warm * len(calls)
            task = progress.add_task(work, total=total)

            def watch(name: str) -> None:
                progress.update(task, description=f"{work}: {name}")
                progress.advance(task)

            timed: dict[str, Timer | Floor] = dict(floors)
            for name, call in calls.items():
                if warm:
                    watch(f"{name}, warm-up")
                timed[name] = Timer(call.run, call.place, SECONDS, warm)
            times = compare(timed, rounds, watch)
        samples = {name: call.samples for name, call in calls.items()}
        return {name: seconds / samples.get(name, 1) for name, seconds in times.items()}

    def show(self, rows: list[Row]) -> None:
        """Print rows about one work, and keep them."""
        self.rows += rows
        table = Table(title=rows[0].work, title_justify="left", width=108)
        for name in ("ours", "", "against", "", "ratio", "bar", "aim"):
            number = name not in ("ours", "against")
            table.add_column(name, justify="right" if number else "left", no_wrap=number)
        table.add_column("", width=7)
        for row in rows:
            sign = "≥" if row.at_least else "≤"
            limits = (f"{sign} {x:g}×" if x is not None else "" for x in (row.bar, row.aim))
            times = (_text(row.seconds), _text(row.peer_seconds))
            ratio = f"{row.ratio:.3g}×"
            table.add_row(row.ours, times[0], row.peer, times[1], ratio, *limits, row.verdict)
        self.console.print(table)


def _quimb(networks: Sequence, bond: int, options: dict | None) -> Call:
    def run() -> None:
        for network in networks:
            workloads.quimb_src(network, bond, options)

    return Call(run, samples=len(networks))


def _text(seconds: float) -> str:
    if seconds >= 1.0:
        return f"{seconds:.3g} s"
    return f"{seconds * 1e3:.3g} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.3g} µs"


# ---- command line --------------------------------------------------------------------------------


def main() -> None:
    """Run, print, and write what was asked for."""
    arguments = _arguments()
    warnings.filterwarnings("ignore", message="Couldn't import `kahypar`")  # cotengra's advice
    console = Console(width=None if sys.stdout.isatty() else 110)
    kept = keep_freed_memory()  # as the command line does
    with _threads(arguments.threads):
        found = _conditions(arguments.device) | {"freed memory": "kept" if kept else "returned"}
        console.print(", ".join(f"{name} {value}" for name, value in found.items()))
        if arguments.accuracy:
            found |= accuracy.table(
                console, arguments.full, arguments.seeds, tuple(arguments.bonds or accuracy.PAPER)
            )
        else:
            found |= _speed(console, arguments)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--accuracy", action="store_true", help="errors instead of times, on NumPy")
    add("--full", action="store_true", help="also dm and direct on the synthetic problem")
    add("--no-compile", action="store_true", help="leave torch.compile out")
    add("--bonds", type=_positive, nargs="+", metavar="N", help="bonds of --accuracy")
    add("--device", choices=("cpu", "cuda"), default="cpu", help="where ours runs")
    add("--threads", type=_positive, metavar="N", help="threads of NumPy, torch and numba")
    add("--rounds", type=_positive, metavar="N", default=5)
    add("--seeds", type=_positive, metavar="N", default=3, help="test matrices of --accuracy")
    add("--json", type=Path, metavar="FILE", help="also write the figures there")
    arguments = parser.parse_args()
    if arguments.accuracy and arguments.device != "cpu":
        parser.error("--accuracy runs on NumPy; leave out --device")
    if arguments.bonds and not arguments.accuracy:
        parser.error("--bonds belongs to --accuracy")
    if not workloads.places_of(arguments.device):
        parser.error(f"nothing of ours runs on {arguments.device} here")
    return arguments


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not positive")
    return value


def _speed(console: Console, arguments: argparse.Namespace) -> dict:
    bench = Bench(console, arguments.device, arguments.rounds, not arguments.no_compile)
    long, wide = "L=10, phys 4, D=8, χ=16→16, batch 128", "L=5, phys 4→8, D=8, χ=8→8, batch 256"
    bench.product(long, LONG, "float32", bar=40, aim=60)
    bench.product(long, LONG, "float64", bar=12, aim=20)
    bench.product(wide, WIDE, "float32", bar=40, aim=80)
    bench.synthetic(arguments.full)
    if arguments.device == "cpu":
        bench.training()
    if bench.skipped:
        console.print(f"Not here: {', '.join(bench.skipped)}")
    if not arguments.full:
        console.print(f"Not run: our {', '.join(accuracy.HEAVY)} (minutes and gigabytes; --full)")
    rows = [asdict(row) | {"ratio": row.ratio, "verdict": row.verdict} for row in bench.rows]
    return {"rounds": arguments.rounds, "skipped": bench.skipped, "rows": rows}


def _conditions(device: str) -> dict:
    blas = [p["num_threads"] for p in threadpoolctl.threadpool_info() if p["user_api"] == "blas"]
    packages = ("numpy", "torch", "quimb")
    return {
        "device": workloads.device_name(device),
        "threads of NumPy": max(blas, default=1),
        "threads of torch": torch.get_num_threads(),
        "cores": os.cpu_count(),
        **{name: version(name) for name in packages},
    }


@contextlib.contextmanager
def _threads(number: int | None) -> Iterator[None]:
    if number is None:
        yield
        return
    import numba

    torch.set_num_threads(number)
    numba.set_num_threads(min(number, numba.config.NUMBA_NUM_THREADS))
    with threadpoolctl.threadpool_limits(number):
        yield


if __name__ == "__main__":
    main()

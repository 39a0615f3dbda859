"""The controlled comparison of docs/nonlinearity.md.

`python benchmarks/studies/nonlinearity.py run` trains every variant on every task with every
seed, one after another, and keeps each result in runs/nonlinearity; what is there already is
skipped, so that it goes on where it was stopped. `... time` measures a training step of each
variant on a quiet machine. `... report` writes the table and the picture into docs/. Only
training images are used, split into two parts; no test set is read.
"""

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

if not __package__:  # run as a script
    sys.path.insert(0, str(Path(__file__).parents[2]))

import ftnn
from ftnn.encoding import AmplitudeEncoder, ProductEncoder
from ftnn.experiments.digits.data import load_digits
from ftnn.experiments.fashion_mnist.data import load_fashion_mnist
from ftnn.layers.calibration import update_grids
from ftnn.layers.layer import Layer
from ftnn.measure.memory import keep_freed_memory
from ftnn.measure.timing import Timer, compare, training_step
from ftnn.nonlinear import (
    KAN,
    CoreNorm,
    Elementwise,
    Gated,
    LayerNorm,
    Pointwise,
    RMSNorm,
    SVDGauge,
)
from ftnn.plotting.style import COLORS, figure, save_figure, style
from ftnn.training.module import TorchModule

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "runs" / "nonlinearity"
Dims = tuple[int, ...]


# ---- variants ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Variant:
    """What stands between a Linear and the next.

    Attributes
    ----------
    family : str
    make : callable
        ``(dims, max_bond, seed) -> layers``, the norm at the end of the block included.
    """

    family: str
    make: Callable[[Dims, int, int], list[Layer]]


def _cores(
    build: Callable[[Dims, int], Layer], gauge: str, dims: Dims, bond: int, seed: int
) -> list[Layer]:
    first: list[Layer] = [SVDGauge()] if gauge == "svd" else []
    return [*first, build(dims, seed), RMSNorm()]


def _variants() -> dict[str, Variant]:
    found = {"none": Variant("none", lambda dims, bond, seed: [RMSNorm()])}
    functions: dict[str, tuple[str, Callable[[Dims, int], Layer]]] = {}
    for name in ("relu", "gelu", "tanh"):
        functions[name] = ("pointwise", lambda d, s, fn=name: Pointwise(fn))
        functions[f"{name}, residual"] = ("pointwise", lambda d, s, fn=name: Pointwise(fn, True))
        functions[f"{name}, not scaled"] = (
            "pointwise",
            lambda d, s, fn=name: Pointwise(fn, normalize=False),
        )
    for basis in ("chebyshev", "radial", "spline"):
        functions[f"kan {basis}"] = (
            "kan",
            lambda d, s, b=basis: KAN(d, basis=b, share=True, seed=s),
        )
    functions["kan chebyshev, all"] = ("kan", lambda d, s: KAN(d, odd=False, share=True, seed=s))
    for name, (family, build) in functions.items():
        for gauge in ("sketch", "svd"):
            found[f"{name} | {gauge}"] = Variant(family, partial(_cores, build, gauge))

    def gated(dims: Dims, bond: int, seed: int, offset: bool) -> list[Layer]:
        return [Gated(dims, dims, 1, bond, offset=offset, seed=seed), RMSNorm()]

    found["gated"] = Variant("gated", partial(gated, offset=True))
    found["bilinear"] = Variant("gated", partial(gated, offset=False))
    for name in ("tanh", "relu"):
        found[f"elementwise {name}"] = Variant(
            "elementwise",
            lambda dims, bond, seed, fn=name: [
                RMSNorm(),
                Elementwise(fn, bond, sweeps=1),
                RMSNorm(),
            ],
        )
    kan = partial(KAN, share=True)
    found["kan + gated"] = Variant(
        "mixture",
        lambda dims, bond, seed: [kan(dims, seed=seed), *gated(dims, bond, seed, offset=True)],
    )
    found["kan, layer norm"] = Variant(
        "norm",
        lambda dims, bond, seed: [kan(dims, seed=seed), LayerNorm(dims, bond, seed=seed)],
    )
    found["kan, core norm"] = Variant(
        "norm", lambda dims, bond, seed: [kan(dims, seed=seed), CoreNorm(product="running")]
    )
    found["kan, no norm"] = Variant("norm", lambda dims, bond, seed: [kan(dims, seed=seed)])
    found["none, no norm"] = Variant("norm", lambda dims, bond, seed: [])
    return found


VARIANTS = _variants()


# ---- tasks ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """Encoded data and the size of the network for it.

    Attributes
    ----------
    train, val : tuple of (cores, targets)
        Labels, or real targets (n, outputs) of a regression.
    phys, bond_dim, max_bond, depth, readout_bond : int
    embed : bool
        Start with a Linear of bond dimension 1, as product states need it.
    epochs, batch_size : int
    lr : float
    """

    train: tuple[tuple[torch.Tensor, ...], torch.Tensor]
    val: tuple[tuple[torch.Tensor, ...], torch.Tensor]
    phys: int
    bond_dim: int
    max_bond: int
    depth: int
    readout_bond: int
    embed: bool
    epochs: int
    batch_size: int
    lr: float = 1e-2

    @property
    def regression(self) -> bool:
        """Whether the targets are real numbers."""
        return self.train[1].is_floating_point()


def digits() -> Task:
    """All training images of scikit-learn's digits, 70 % to train and 30 % to validate."""
    data = load_digits()
    images = np.concatenate([data.train_inputs, data.val_inputs])
    labels = np.concatenate([data.train_targets, data.val_targets])
    encoder = ProductEncoder((8, 8), patch=(2, 2)).fit(images[:940])
    parts = _split(encoder, images, labels, 940)
    return Task(*parts, 6, 2, 4, 2, 8, embed=True, epochs=10, batch_size=64)


def fashion() -> Task:
    """8,000 training and 4,000 validation images of Fashion-MNIST, out of its training set."""
    data = load_fashion_mnist(None, 0)
    images, labels = data.train_inputs[:12000], data.train_targets[:12000]
    encoder = AmplitudeEncoder((28, 28), "quantics", standardize="global").fit(images[:8000])
    parts = _split(encoder, images, labels, 8000)
    return Task(*parts, 8, 4, 8, 2, 10, embed=False, epochs=3, batch_size=250)


def function() -> Task:
    """A function with a cusp, a jump and waves, at 3,000 of the 2^12 points of a quantics grid.

    A point is the product state of its bits, (1, +-1) on every site.
    """
    rng, L = np.random.default_rng(0), 12
    x = np.arange(2**L) / 2**L
    f = np.sqrt(np.abs(np.sin(9 * x))) * np.exp(-x) + 0.5 * (x > 0.37) + 0.3 * np.sin(60 * x)
    f = (f - f.mean()) / f.std()
    chosen = rng.permutation(2**L)[:3000]
    bits = (chosen[:, None] >> np.arange(L - 1, -1, -1)) & 1  # the first one halves the interval
    channels = np.stack([np.ones(bits.shape), 2.0 * bits - 1.0], axis=2)  # (n, L, 2)
    cores = tuple(
        torch.tensor(channels[:, k][:, None, :, None], dtype=torch.float32) for k in range(L)
    )
    targets = torch.tensor(f[chosen, None], dtype=torch.float32)
    train, val = (
        (tuple(core[part] for core in cores), targets[part])
        for part in (slice(0, 2000), slice(2000, 3000))
    )
    return Task(train, val, 4, 2, 4, 2, 8, embed=True, epochs=5, batch_size=64)


def _split(encoder, images, labels, count):
    cores = encoder.encode(images.astype(np.float64))
    tensors = tuple(torch.tensor(core, dtype=torch.float32) for core in cores)
    targets = torch.tensor(labels, dtype=torch.long)
    return (
        (tuple(core[:count] for core in tensors), targets[:count]),
        (tuple(core[count:] for core in tensors), targets[count:]),
    )


TASKS = {"digits": digits, "function": function, "fashion": fashion}
SCORES = {"digits": "accuracy, %", "function": "R², %", "fashion": "accuracy, %"}


# ---- training ------------------------------------------------------------------------------------


def network(task: Task, variant: Variant, seed: int) -> ftnn.Sequential:
    """The same for every variant but for what follows each Linear."""
    dims = tuple(core.shape[2] for core in task.train[0])
    hidden = (task.phys,) * len(dims)
    layers: list[Layer] = []
    if task.embed:
        layers += [ftnn.Linear(dims, hidden, 1, 1, seed=100 * seed), RMSNorm()]
    for n in range(1, task.depth + 1):
        inputs = hidden if layers else dims
        layers.append(
            ftnn.Linear(inputs, hidden, task.bond_dim, task.max_bond, seed=100 * seed + n)
        )
        layers += variant.make(hidden, task.max_bond, 100 * seed + n)
    outputs = task.train[1].shape[1] if task.regression else int(task.train[1].max()) + 1
    model = ftnn.Sequential(*layers, ftnn.Readout(hidden, outputs, task.readout_bond, seed=seed))
    batch = tuple(core[:256] for core in task.train[0])
    model.to("torch", "float32")
    with torch.no_grad():
        ftnn.calibrate(model, batch)
        update_grids(model, batch)
        ftnn.calibrate(model, batch)
    return model


def loss_of(task: Task, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Cross entropy, or mean squared error."""
    if task.regression:
        return torch.nn.functional.mse_loss(outputs, targets)
    return torch.nn.functional.cross_entropy(outputs, targets)


@torch.no_grad()
def score(task: Task, module: TorchModule) -> float:
    """Accuracy, or the share of variance explained, on the validation data, in per cent."""
    module.eval()
    cores, targets = task.val
    outputs = torch.cat(
        [
            module.apply_cores(tuple(core[n : n + 250] for core in cores))
            for n in range(0, len(targets), 250)
        ]
    )
    if not bool(torch.isfinite(outputs).all()):
        return math.nan
    if task.regression:
        error = (outputs - targets).square().mean()
        return 100.0 * (1.0 - float(error / targets.var(dim=0, correction=0).mean()))
    return 100.0 * float((outputs.argmax(1) == targets).float().mean())


def gradients(module: TorchModule) -> dict[str, float]:
    """Norm of the gradient of every Linear and of the Readout, by place."""
    norms: dict[str, float] = {}
    for name, parameter in module.named_parameters():
        if ":weight:" in name and parameter.grad is not None:
            place = name.split(":")[0]
            norms[place] = math.hypot(norms.get(place, 0.0), float(parameter.grad.norm()))
    return norms


def train(task: Task, name: str, seed: int) -> dict:
    """One run."""
    torch.manual_seed(seed)
    module = TorchModule(network(task, VARIANTS[name], seed))
    cores, targets = task.train
    steps = task.epochs * (len(targets) // task.batch_size)
    optimizer = torch.optim.AdamW(module.parameters(), lr=task.lr, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, task.lr, steps, pct_start=0.2)
    generator = torch.Generator().manual_seed(seed)
    bad, norms, ends, begin = 0, [], [], time.perf_counter()
    for _ in range(task.epochs):
        module.train()
        order = torch.randperm(len(targets), generator=generator)
        for n in range(0, len(order) - task.batch_size + 1, task.batch_size):
            index = order[n : n + task.batch_size]
            outputs = module.apply_cores(tuple(core[index] for core in cores))
            loss = loss_of(task, outputs, targets[index])
            optimizer.zero_grad()
            loss.backward()
            if len(norms) in (0, steps - 1):
                ends.append(gradients(module))
            norm = torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            norms.append(float(norm))
            if math.isfinite(norms[-1]):
                optimizer.step()
            else:
                bad += 1
            schedule.step()
    finite = [norm for norm in norms if math.isfinite(norm)]
    return {
        "variant": name,
        "seed": seed,
        "score": score(task, module),
        "train_loss": float(loss.detach()),
        "steps": steps,
        "bad_steps": bad,
        "first_gradients": ends[0],
        "last_gradients": ends[-1],
        "median_gradient": statistics.median(finite) if finite else math.nan,
        "largest_gradient": max(finite, default=math.nan),
        "parameters": module.model.num_params(),
        "seconds": time.perf_counter() - begin,
    }


def run(names: list[str], tasks: list[str], seeds: list[int]) -> None:
    """Train what is missing."""
    console = Console()
    RESULTS.mkdir(parents=True, exist_ok=True)
    for task_name in tasks:
        task = TASKS[task_name]()
        for seed in seeds:
            for number, name in enumerate(names):
                path = _path(task_name, name, seed)
                if path.exists():
                    continue
                found = train(task, name, seed)
                path.write_text(json.dumps(found, indent=2) + "\n")
                console.print(
                    f"{task_name}, seed {seed}, {number + 1}/{len(names)}: {name}: "
                    f"{found['score']:.2f} in {found['seconds']:.0f} s",
                    highlight=False,
                )


def _path(task: str, name: str, seed: int) -> Path:
    safe = name.replace(" | ", "-").replace(", ", "-").replace(" + ", "-").replace(" ", "-")
    return RESULTS / f"{task}-{safe}-{seed}.json"


def times(names: list[str], rounds: int = 7) -> None:
    """Time a training step of every variant on the Fashion-MNIST network, by turns."""
    task = fashion()
    batch = tuple(core[: task.batch_size] for core in task.train[0])
    labels = task.train[1][: task.batch_size]

    def step(name: str) -> Callable[[], None]:
        module = TorchModule(network(task, VARIANTS[name], 0))
        loss = lambda: loss_of(task, module.apply_cores(batch), labels)  # noqa: E731
        return training_step(module.parameters(), loss)

    seconds = compare({name: Timer(step(name)) for name in names}, rounds)
    medians = {name: 1e6 * one / task.batch_size for name, one in seconds.items()}
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "times.json").write_text(json.dumps(medians, indent=2) + "\n")
    for name, one in medians.items():
        print(f"{name}: {one:.0f} µs a sample")


def costs(rounds: int = 7) -> None:
    """Time every KAN against the Linear before it, and an Elementwise, forward, by turns."""
    rng = np.random.default_rng(0)

    def states(batch: int, dims: Dims, bond: int) -> tuple[torch.Tensor, ...]:
        bonds = [1, *[bond] * (len(dims) - 1), 1]
        return tuple(
            torch.tensor(rng.standard_normal((batch, l, d, r)) / l**0.5, dtype=torch.float32)
            for l, d, r in zip(bonds[:-1], dims, bonds[1:], strict=True)
        )

    dims = (8,) * 5
    x = states(256, dims, 8)
    works: dict[str, tuple[Layer, tuple[torch.Tensor, ...]]] = {
        "Linear": (ftnn.Linear(dims, dims, 8, 8), x),
        **{
            f"KAN {basis}{', all' if not odd else ''}": (KAN(dims, basis=basis, odd=odd), x)
            for basis in ("chebyshev", "radial", "spline")
            for odd in (True, False)
        },
        "Pointwise gelu": (Pointwise("gelu"), x),
        "RMSNorm": (RMSNorm(), x),
        "SVDGauge": (SVDGauge(), x),
        "Elementwise tanh, 20 sites, χ=8, batch 32": (
            Elementwise("tanh", 8),
            states(32, (2,) * 20, 8),
        ),
    }
    for layer, _ in works.values():
        layer.to("torch", "float32")
    with torch.no_grad():
        timers = {name: Timer(partial(layer.apply, x)) for name, (layer, x) in works.items()}
        medians = compare(timers, rounds)
    for name, one in medians.items():
        print(f"{name}: {1e3 * one:.1f} ms, {one / medians['Linear']:.2f} of the Linear")


# ---- report --------------------------------------------------------------------------------------


def report(names: list[str], tasks: list[str], seeds: list[int]) -> None:
    """Write the table and the pictures."""
    found = {(task, name): _runs(task, name, seeds) for task in tasks for name in names}
    spent = RESULTS / "times.json"
    micro = json.loads(spent.read_text()) if spent.exists() else {}
    lines = [
        "| between Linear layers | "
        + " | ".join(f"{task}: {SCORES[task]}" for task in tasks)
        + " | gradient norm, median (largest) | not finite | µs a sample |",
        "|---" * (len(tasks) + 4) + "|",
    ]
    for name in names:
        cells = [_cell(found.get((task, name), [])) for task in tasks]
        runs = [run for task in tasks for run in found.get((task, name), [])]
        if not runs:
            continue
        medians = [run["median_gradient"] for run in runs]
        largest = max(run["largest_gradient"] for run in runs)
        bad = sum(run["bad_steps"] for run in runs)
        took = f"{micro[name]:.0f}" if name in micro else ""
        gradient = f"{statistics.median(medians):.2g} ({largest:.2g})"
        shown = name.replace(" | ", ", in the gauge of the ").replace("of the svd", "of the SVD")
        lines.append(f"| {shown} | {' | '.join(cells)} | {gradient} | {bad} | {took} |")
    (ROOT / "docs" / "nonlinearity-table.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    _picture(names, tasks, found)
    _gradient_picture(names, tasks[-1], found)


def _runs(task: str, name: str, seeds: list[int]) -> list[dict]:
    paths = (_path(task, name, seed) for seed in seeds)
    return [json.loads(path.read_text()) for path in paths if path.exists()]


def _cell(runs: list[dict]) -> str:
    scores = [run["score"] for run in runs]
    if not scores:
        return ""
    if not all(map(math.isfinite, scores)):
        return f"{sum(map(math.isfinite, scores))} of {len(scores)} runs finite"
    spread = f" ± {statistics.stdev(scores):.1f}" if len(scores) > 1 else ""
    return f"{statistics.mean(scores):.1f}{spread}"


FAMILIES = ("none", "pointwise", "kan", "gated", "elementwise", "mixture", "norm")


def _color(name: str) -> str:
    return COLORS[FAMILIES.index(VARIANTS[name].family) % len(COLORS)]


def _picture(names: list[str], tasks: list[str], found: dict) -> None:
    with style():
        fig = figure(7.2, 0.19 * len(names) + 1.0)
        axes = fig.subplots(1, len(tasks), sharey=True, squeeze=False)[0]
        for axis, task in zip(axes, tasks, strict=True):
            means = {}
            for row, name in enumerate(names):
                scores = [run["score"] for run in found.get((task, name), [])]
                if not scores or not all(map(math.isfinite, scores)):
                    continue
                means[name] = statistics.mean(scores)
                axis.plot(scores, [row] * len(scores), "o", color=_color(name), ms=3, alpha=0.5)
                axis.plot(means[name], row, "|", color=_color(name), ms=10, mew=2)
            if "none" in means:
                axis.axvline(means["none"], color="#888888", lw=0.8, ls="--")
            if means:  # what fails altogether is cut off, and marked, at the left
                runs = [run["score"] for name in means for run in found[task, name]]
                low = statistics.median(means.values())
                left = low - 2.5 * (max(means.values()) - low) - 1.0
                reach = max(runs) - left
                axis.set_xlim(left, max(runs) + 0.05 * reach)
                for row, name in enumerate(names):
                    if means.get(name, left) < left:
                        place = left + 0.03 * reach
                        axis.plot(place, row, "<", color=_color(name), ms=5, clip_on=False)
            axis.set_title(task)
            axis.set_xlabel(SCORES[task])
        axes[0].set_yticks(range(len(names)), names)
        axes[0].set_ylim(len(names) - 0.4, -0.6)
        save_figure(fig, ROOT / "docs" / "images" / "nonlinearity.png")


def _gradient_picture(names: list[str], task: str, found: dict) -> None:
    with style():
        fig = figure(7.2, 3.0)
        axes = fig.subplots(1, 2, sharey=True)
        for axis, key, title in zip(
            axes,
            ("first_gradients", "last_gradients"),
            ("first step", "last step"),
            strict=True,
        ):
            for name in names:
                runs = found.get((task, name), [])
                curves = [list(run[key].values()) for run in runs if len(run[key]) > 1]
                if curves:
                    middle = np.median(np.array(curves), axis=0)
                    look = {"color": _color(name), "lw": 0.8, "label": VARIANTS[name].family}
                    axis.plot(range(len(middle)), middle, "o-", **look)
            axis.set_yscale("log")
            axis.set_title(f"{task}, {title}")
            some = [runs for (t, _), runs in found.items() if runs and t == task]
            count = max((len(runs[0][key]) for runs in some), default=1)
            ticks = [*(f"Linear {n + 1}" for n in range(count - 1)), "Readout"]
            axis.set_xticks(range(count), ticks)
            axis.margins(x=0.12)
        axes[0].set_ylabel("norm of the gradient")
        handles, labels = axes[0].get_legend_handles_labels()
        unique = dict(zip(labels, handles, strict=True))
        axes[1].legend(unique.values(), unique.keys(), ncols=2)
        save_figure(fig, ROOT / "docs" / "images" / "nonlinearity-gradients.png")


def main() -> None:
    """Run, time or report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("run", "time", "report"))
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--threads", type=int, help="threads of torch")
    arguments = parser.parse_args()
    keep_freed_memory()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if arguments.what == "run":
        run(arguments.variants, arguments.tasks, arguments.seeds)
    elif arguments.what == "time":
        costs()
        times(arguments.variants)
    else:
        report(arguments.variants, arguments.tasks, arguments.seeds)


if __name__ == "__main__":
    main()

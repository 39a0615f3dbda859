"""The table and the picture of docs/images.md.

`python benchmarks/studies/images.py train` trains every row with three seeds on one thread
(complete runs in runs/ are kept; `--rows` picks some, so that two processes can share the work),
`... time` measures a training step of each on a quiet machine, and `... report` writes
docs/images-table.md, docs/images-ablation.md, the README and pictures in docs/images. A test set is
read once a run. The row of tltorch needs `pip install tensorly-torch tensorly`.
"""

import argparse
import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import nn

if not __package__:  # run as a script
    sys.path.insert(0, str(Path(__file__).parents[2]))


import ftnn
from benchmarks.pages import DOCS, RUNS, copy_picture, spread, write_readme, write_table
from benchmarks.studies.runs import trained
from ftnn.encoding import ProductEncoder
from ftnn.experiments import get_experiment
from ftnn.experiments.fashion_mnist.data import load_fashion_mnist
from ftnn.experiments.fashion_mnist.model import mirror_images
from ftnn.measure.memory import keep_freed_memory, kept_bytes, peak_bytes
from ftnn.measure.timing import Timer, compare, training_step
from ftnn.plotting.style import COLORS, figure, save_figure, style
from ftnn.training import TorchModule
from ftnn.training.files import write_json
from ftnn.training.options import replace_values

HOME = RUNS / "images"
SEEDS = (0, 1, 2)
RATES = (1e-3, 4e-3)  # a baseline takes the better by validation loss, with the first seed
BUDGET = get_experiment("fashion-mnist").tuned_options()
LAYERS = {"merge": False, "products": 0, "depth": 2}
"""Options of the network that was shipped before: two entangling layers, no products."""
PICTURES = ("network", "curves", "bonds", "entanglement")
"""Pictures of that network, which has the truncation and the entanglement that they show."""


@dataclass(frozen=True)
class Row:
    """One line of the table: a shipped experiment with options, or a baseline.

    Attributes
    ----------
    title : str
    experiment : str
        Empty for a baseline.
    changes : dict
        Options that differ from the tuned ones.
    build : callable, optional
        Maps a seed and training images to a module from images (batch, 28, 28) to logits.
    """

    title: str
    experiment: str = ""
    changes: dict[str, object] = field(default_factory=dict)
    build: Callable[[int, np.ndarray], nn.Module] | None = None


# ---- baselines -----------------------------------------------------------------------------------


def mlp(*widths: int) -> Callable[[int, np.ndarray], nn.Module]:
    """Dense layers with ReLU, and the dropout of the experiment behind the hidden ones."""

    def build(seed: int, images: np.ndarray) -> nn.Module:
        dense = (nn.Linear(a, b) for a, b in pairwise(widths))
        return nn.Sequential(_Standardized(images), *_with_functions(dense))

    return build


def tt_layers(seed: int, images: np.ndarray) -> nn.Module:
    """Tensor-train weights of tltorch between dense activations: 784, 512, 512, 10."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tltorch's syntax
        from tltorch import FactorizedLinear

    shape: dict = {"factorization": "blocktt", "rank": 16, "implementation": "reconstructed"}
    first = FactorizedLinear((4, 7, 7, 4), (4, 8, 4, 4), **shape)
    second = FactorizedLinear((4, 8, 4, 4), (4, 8, 4, 4), **shape)
    for layer, size in ((first, 784), (second, 512)):
        # entries of variance 2 / size: each is a sum over paths of products of four factors.
        # tltorch's own normal_ leaves entries of 1e-8, from which two of three seeds never rise
        paths = shape["rank"] ** 3
        for factor in layer.weight.factors:
            nn.init.normal_(factor, std=(2.0 / size / paths) ** (1 / 8))
    return nn.Sequential(
        _Standardized(images), *_with_functions((first, second, nn.Linear(512, 10)))
    )


class MPSClassifier(nn.Module):
    """Patches under an MPS that carries the output index; nothing else is trained."""

    def __init__(self, seed: int, images: np.ndarray):
        super().__init__()
        self.encoder = ProductEncoder((28, 28), (4, 4), scale=4.0, standardize="global")
        self.encoder.fit(images)
        model = ftnn.Sequential(ftnn.Readout(self.encoder.phys_dims, 10, 10, seed=seed))
        ftnn.calibrate(model, self.encoder.encode(images[:256].astype(np.float64)))
        self.readout = TorchModule(model, "float32")

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map images (batch, 28, 28) to logits (batch, 10)."""
        cores = self.encoder.encode(images.numpy())
        return self.readout.apply_cores(tuple(torch.from_numpy(core) for core in cores))


class _Standardized(nn.Module):
    """Pixels of mean zero and variance one, flat."""

    def __init__(self, images: np.ndarray):
        super().__init__()
        self.mean, self.scale = float(images.mean()), float(images.std())

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return (images.flatten(1) - self.mean) / self.scale


def _with_functions(layers) -> list[nn.Module]:
    first, *rest = layers
    found = [first]
    for layer in rest:
        found += [nn.ReLU(), nn.Dropout(BUDGET.network.dropout), layer]
    return found


ROWS = {
    "mlp-51k": Row("dense 784-64-10", build=mlp(784, 64, 10)),
    "mlp-536k": Row("dense 784-512-256-10", build=mlp(784, 512, 256, 10)),
    "tt": Row("TT layers 784-512-512-10, dense activations (tltorch)", build=tt_layers),
    "mps": Row("MPS classifier of 49 patches", build=MPSClassifier),
    "quantics": Row("quantics states, one layer with KAN", "fashion-mnist-quantics"),
    "no-layer": Row("features, coarsening, no layer", "fashion-mnist", LAYERS | {"depth": 0}),
    "no-kan": Row(
        "two layers, no KAN",
        "fashion-mnist",
        LAYERS | {"nonlinearity": "none"},
    ),
    "two-layers": Row("two layers with KAN", "fashion-mnist", LAYERS),
    "products": Row("**products of patches** (`ftnn train fashion-mnist`)", "fashion-mnist"),
}


ABLATION = ("no-layer", "no-kan", "two-layers", "products")


# ---- training ------------------------------------------------------------------------------------


def baseline(name: str, seed: int, lr: float) -> tuple[dict, nn.Module]:
    """Train a baseline as the experiment is trained, and validate it; no test image is seen."""
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    config, data = BUDGET.train, load_fashion_mnist(None, seed)
    images, labels = data.train_inputs, torch.from_numpy(data.train_targets)
    model = ROWS[name].build(seed, images)
    optimizer = torch.optim.AdamW(model.parameters(), lr, weight_decay=config.weight_decay)
    steps = len(images) // config.batch_size
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, lr, config.epochs * steps, pct_start=config.warmup, cycle_momentum=False
    )
    average = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(config.ema_decay)
    )
    loss = nn.CrossEntropyLoss(label_smoothing=config.label_smoothing)
    rng, begin = np.random.default_rng(seed), time.perf_counter()
    for epoch in range(config.epochs):
        order = rng.permutation(len(images))
        for n in range(steps):
            rows = order[n * config.batch_size : (n + 1) * config.batch_size]
            optimizer.zero_grad()
            batch = torch.from_numpy(mirror_images(images[rows], rng))
            loss(model(batch), labels[rows]).backward()
            nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
            optimizer.step()
            scheduler.step()
            average.update_parameters(model)
        print(f"{name}, seed {seed}, lr {lr:g}: epoch {epoch + 1} of {config.epochs}", flush=True)
    seconds = time.perf_counter() - begin
    accuracy, cross_entropy = score(average, data.val_inputs, data.val_targets)
    result = {
        "lr": lr,
        "val_accuracy": accuracy,
        "val_loss": cross_entropy,
        "train_seconds": seconds,
        "num_params": sum(p.numel() for p in model.parameters()),
    }
    return result, average


@torch.no_grad()
def score(model: nn.Module, images: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Accuracy and mean cross entropy."""
    model.eval()
    outputs = torch.cat([model(torch.from_numpy(part)) for part in np.array_split(images, 20)])
    targets = torch.from_numpy(labels)
    right = (outputs.argmax(1) == targets).double().mean()
    return float(right), float(nn.functional.cross_entropy(outputs, targets))


def run(name: str, seed: int) -> dict:
    """Result of a row and a seed, trained unless it is there."""
    row = ROWS[name]
    if row.experiment:
        return trained(folder(name, seed), row.experiment, seed=seed, threads=1, **row.changes)
    file = HOME / f"{name}-{seed}.json"
    if file.is_file():
        return json.loads(file.read_text())
    rates = RATES if seed == SEEDS[0] else (run(name, SEEDS[0])["lr"],)
    found = [baseline(name, seed, lr) for lr in rates]
    result, model = min(found, key=lambda pair: pair[0]["val_loss"])
    data = load_fashion_mnist(None, seed)
    result["test_accuracy"], _ = score(model, data.test_inputs, data.test_targets)
    HOME.mkdir(parents=True, exist_ok=True)
    write_json(file, result)
    return result


def folder(name: str, seed: int) -> Path:
    """Where a run of a shipped experiment is; those without options are the README's figures."""
    row = ROWS[name]
    return HOME / f"{name}-{seed}" if row.changes else RUNS / "figures" / f"{row.experiment}-{seed}"


# ---- speed and memory ----------------------------------------------------------------------------


def times(names: list[str], rounds: int = 5) -> None:
    """Samples a second of training steps, from images to updated weights, by turns; memory."""
    data = load_fashion_mnist(None, 0)
    works = {name: _step(name, data) for name in names}
    memory = {name: (kept_bytes(*work[:2]), peak_bytes(work[0])) for name, work in works.items()}
    found: dict[str, dict[str, float]] = {name: {} for name in names}
    for threads in (1, 2):
        torch.set_num_threads(threads)
        seconds = compare({name: Timer(work[0]) for name, work in works.items()}, rounds)
        for name, one in seconds.items():
            found[name][str(threads)] = works[name][2] / one
    for name in names:
        speeds = found[name]
        kept, peak = memory[name]
        result = {"samples_per_s": speeds, "activation_bytes": kept, "peak_bytes": peak}
        write_json(HOME / f"{name}-time.json", result)
        sizes = f"{kept / 2**20:.1f} MiB kept, {peak / 2**20:.1f} MiB at most"
        print(name, {t: round(s) for t, s in speeds.items()}, sizes)


def _step(name: str, data) -> tuple[Callable[[], None], list[nn.Parameter], int]:
    row, options = ROWS[name], BUDGET
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    if row.build is not None:
        model = row.build(0, data.train_inputs)
        forward = lambda images: model(torch.from_numpy(images))  # noqa: E731
    else:
        experiment = get_experiment(row.experiment)
        options = replace_values(experiment.tuned_options(), row.changes)
        encoder, network = experiment.build(options, data)
        model = TorchModule(network, "float32")

        def forward(images: np.ndarray) -> torch.Tensor:
            cores = tuple(torch.from_numpy(core) for core in encoder.encode(images))
            return model.apply_cores(cores)

    model.train()
    batch_size = options.train.batch_size
    labels = torch.from_numpy(data.train_targets[:batch_size])
    images = data.train_inputs[:batch_size]

    def loss() -> torch.Tensor:
        return nn.functional.cross_entropy(forward(mirror_images(images, rng)), labels)

    step = training_step(model.parameters(), loss, clip_norm=1.0, lr=1e-3)
    return step, list(model.parameters()), batch_size


# ---- report --------------------------------------------------------------------------------------


def report(names: list[str]) -> None:
    """Write the table, the README's line and the picture."""
    runs = {name: [run(name, seed) for seed in SEEDS] for name in names}
    lines = []
    for name, found in runs.items():
        spent = json.loads((HOME / f"{name}-time.json").read_text())
        batch = (
            get_experiment(ROWS[name].experiment or "fashion-mnist")
            .tuned_options()
            .train.batch_size
        )
        speeds = spent["samples_per_s"]
        lines.append(
            [
                ROWS[name].title,
                f"{found[0]['num_params']:,}",
                spread([100 * r["test_accuracy"] for r in found], unit=" %"),
                f"{np.median([r['train_seconds'] for r in found]):.0f} s",
                f"{speeds['1']:,.0f} / {speeds['2']:,.0f}",
                f"{spent['activation_bytes'] / batch / 1024:.1f} KiB",
                f"{spent['peak_bytes'] / 2**20:.1f} MiB",
            ]
        )
    heads = [
        *("network", "parameters", "test accuracy, mean ± deviation (seeds 0, 1, 2)"),
        *("training", "samples/s on 1 / 2 threads", "activations a sample", "peak of a step"),
    ]
    write_table("images-table", heads, lines)
    lines = [
        [
            ROWS[name].title.split(" (")[0].replace("*", ""),
            spread([100 * r["test_accuracy"] for r in runs[name]], unit=" %"),
            spread([r["test_loss"] for r in runs[name]], ".4f"),
            spread([r["val_loss"] for r in runs[name]], ".4f"),
        ]
        for name in ABLATION
    ]
    heads = ["network", "test accuracy", "test cross entropy", "validation cross entropy"]
    write_table("images-ablation", heads, lines)
    best = [100 * r["test_accuracy"] for r in runs["products"]]
    write_readme(
        "images",
        f"Test accuracy {spread(best, unit=' %')} with {runs['products'][0]['num_params']:,} "
        "parameters and no dense activation.",
    )
    _picture(runs)
    for name in PICTURES:
        copy_picture(folder("two-layers", SEEDS[0]) / f"{name}.png", f"two-layers-{name}.png")


PUBLISHED = (
    ("MPS classifier\narXiv:1906.06329", 88.0),
    ("CP-rank tree\narXiv:2305.19440", 90.3),
    ("MPO attention\narXiv:2209.09098", 91.7),
)


def _picture(runs: dict[str, list[dict]]) -> None:
    with style():
        fig = figure(7.2, 3.6)
        axis = fig.subplots()
        for text, accuracy in PUBLISHED:
            axis.axvline(accuracy, color="#888888", lw=0.9, ls="--", zorder=0)
            place = axis.get_xaxis_transform()
            axis.text(accuracy, 1.02, text, transform=place, ha="center", va="bottom", fontsize=7)
        names = []
        for row, (name, found) in enumerate(runs.items()):
            accuracy = [100 * r["test_accuracy"] for r in found]
            color = COLORS[0] if ROWS[name].experiment else COLORS[1]
            axis.plot(accuracy, [row] * len(accuracy), "o", color=color, ms=5, alpha=0.6)
            axis.plot(statistics.mean(accuracy), row, "|", color=color, ms=13, mew=2)
            title = ROWS[name].title.split(" (")[0].replace("*", "")
            names.append(f"{title}\n{found[0]['num_params']:,} parameters")
        axis.set_yticks(range(len(names)), names, fontsize=7)
        axis.set_ylim(len(names) - 0.5, -0.5)
        axis.set_xlabel("test accuracy, %")
        save_figure(fig, DOCS / "images" / "images.png")


def main() -> None:
    """Train, time or report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("train", "time", "report"))
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    arguments = parser.parse_args()
    keep_freed_memory()
    if arguments.what == "train":
        for name in arguments.rows:
            for seed in SEEDS:
                print(name, seed, run(name, seed)["test_accuracy"], flush=True)
    elif arguments.what == "time":
        times(arguments.rows)
    else:
        report(arguments.rows)


if __name__ == "__main__":
    main()

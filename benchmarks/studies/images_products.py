"""The table of docs/images-products-table.md: products, neighbours and coarsening without bonds.

`python benchmarks/studies/images_products.py train` trains every row with three seeds on one
thread, with few images and epochs (results in runs/images-products are kept; `--rows` and
`--seeds` pick some), and `... report` writes the tables of what has been trained. `--budget more`
trains on all images. Rows are compared on validation images; no test image is read.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

if not __package__:  # run as a script
    sys.path.insert(0, str(Path(__file__).parents[2]))

import ftnn
from benchmarks.pages import RUNS, spread, write_table
from ftnn.encoding import Encoder, ProductEncoder
from ftnn.experiments import Data, get_experiment
from ftnn.experiments.fashion_mnist.data import load_fashion_mnist
from ftnn.experiments.fashion_mnist.model import mirror_images
from ftnn.experiments.networks import NEIGHBOURS
from ftnn.measure.memory import keep_freed_memory
from ftnn.nonlinear import BlockMap, Dropout, FeatureMap, Gated, ProductMap
from ftnn.training import TorchModule
from ftnn.training.files import write_json
from ftnn.training.options import replace_values

HOME = RUNS / "images-products"
SEEDS = (0, 1, 2)
EXPERIMENT = get_experiment("fashion-mnist")
TUNED = replace_values(
    EXPERIMENT.tuned_options(), {"merge": False, "products": 0, "depth": 2}
)  # of the network that was shipped when the rows were trained
BASE = "no-layer"
SITES, FEATURES = 49, TUNED.network.features
WIDTH, HIDDEN = 25, 80  # channels between two layers, and products of a layer

Network = tuple[Encoder, ftnn.Layer]


@dataclass(frozen=True)
class Budget:
    """How much a row is trained.

    Attributes
    ----------
    limit : int
        Training images.
    epochs : int
    batch : int
    suffix : str
        Of the names of results and table.
    """

    limit: int
    epochs: int
    batch: int
    suffix: str = ""


BUDGETS = {"small": Budget(10_000, 10, 125), "more": Budget(55_000, 10, 250, "-more")}


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes
    ----------
    title : str
    build : callable
        Maps a seed and data to an encoder and a network.
    """

    title: str
    build: Callable[[int, Data], Network]


# ---- networks ------------------------------------------------------------------------------------


def former(**changes: object) -> Callable[[int, Data], Network]:
    """The network with two entangling layers, with options."""

    def build(seed: int, data: Data) -> Network:
        options = replace_values(TUNED, {"seed": seed, **changes})
        return EXPERIMENT.build(options, data)

    return build


def front(
    *layers: Callable[[int], ftnn.Layer], window: int = 4, stride: int = 4
) -> Callable[[int, Data], Network]:
    """Layers on product states of windows, then dropout, rows and readout of that network.

    Each of `layers` maps a seed to a layer; the last of them leaves 49 sites.
    """

    def build(seed: int, data: Data) -> Network:
        encoder = ProductEncoder(
            (28, 28),
            (window, window),
            "row-major",
            scale=window,
            standardize="global",
            stride=(stride, stride),
        )
        encoder.fit(data.train_inputs)
        own = TUNED.network
        rows = (own.phys,) * 7
        network = ftnn.Sequential(
            *(layer(10 * seed + n) for n, layer in enumerate(layers)),
            Dropout(own.dropout, 10 * seed),
            ftnn.Coarsen((FEATURES,) * SITES, rows, own.block_bond, 10 * seed),
            ftnn.Readout(rows, 10, own.readout_bond, 10 * seed),
        )
        ftnn.calibrate(network, encoder.encode(data.train_inputs[:256].astype(np.float64)))
        return encoder, network

    return build


def features(out: int, window: int = 4) -> Callable[[int], ftnn.Layer]:
    """The shared features of that network, with `out` channels."""
    return lambda seed: FeatureMap(
        (window**2 + 1,) * SITES, (out,) * SITES, TUNED.network.hidden, share=True, seed=seed
    )


def products(
    given: int, out: int, hidden: int = HIDDEN, side: int = 7, **arguments: Any
) -> Callable[[int], ftnn.Layer]:
    """Products on a square grid."""
    grid = (side, side)
    return lambda seed: ProductMap(
        (given,) * side**2, (out,) * side**2, hidden, grid, seed=seed, **arguments
    )


def gates(seed: int) -> ftnn.Layer:
    """The gate of the library at bond dimension 1, with own weights for every patch."""
    return Gated((FEATURES,) * SITES, (FEATURES,) * SITES, 1, 1, offset=False, seed=seed)


def blocks(given: int, out: int) -> Callable[[int], ftnn.Layer]:
    """Blocks of 2 x 2 of a grid of 14 x 14."""
    return lambda seed: BlockMap((given,) * 14**2, out, 12, (14, 14), seed=seed)


def between(join: str) -> Callable[[int, Data], Network]:
    """Patches of 2 x 2 pixels, joined with neighbours, coarsened, joined, and nothing else."""
    return front(
        products(5, 13, 40, 14, shifts=NEIGHBOURS, join=join, normalize=False),
        blocks(13, WIDTH),
        products(WIDTH, FEATURES, shifts=NEIGHBOURS, join=join),
        window=2,
        stride=2,
    )


ROWS = {
    "present": Row("two entangling layers with KAN", former()),
    "no-layer": Row("features, coarsening, no layer", former(depth=0)),
    "windows": Row(
        "features of windows of 10 x 10 pixels, no layer",
        front(features(FEATURES, 10), window=10, stride=3),
    ),
    "gated": Row("features, `Gated` at bond 1 with own weights", front(features(FEATURES), gates)),
    "bilinear": Row(
        "products within a patch in place of ReLU, no layer",
        front(products(17, FEATURES, TUNED.network.hidden, normalize=False)),
    ),
    "own": Row(
        "features, products within a patch", front(features(WIDTH), products(WIDTH, FEATURES))
    ),
    "sum": Row(
        "features, sums with neighbours",
        front(features(WIDTH), products(WIDTH, FEATURES, shifts=NEIGHBOURS, join="sum")),
    ),
    "relu": Row(
        "features, ReLU of sums with neighbours",
        front(features(WIDTH), products(WIDTH, FEATURES, shifts=NEIGHBOURS, join="relu")),
    ),
    "product": Row(
        "features, products with neighbours",
        front(features(WIDTH), products(WIDTH, FEATURES, shifts=NEIGHBOURS)),
    ),
    "unscaled": Row(
        "features, products with neighbours, not scaled",
        front(features(WIDTH), products(WIDTH, FEATURES, shifts=NEIGHBOURS, normalize=False)),
    ),
    "two": Row(
        "features, two layers of products",
        front(
            features(WIDTH),
            products(WIDTH, WIDTH, shifts=NEIGHBOURS),
            products(WIDTH, FEATURES, shifts=NEIGHBOURS),
        ),
    ),
    "residual": Row(
        "features, two layers of products, the first a residual",
        front(
            features(WIDTH),
            products(WIDTH, WIDTH, shifts=NEIGHBOURS, residual=True),
            products(WIDTH, FEATURES, shifts=NEIGHBOURS),
        ),
    ),
    "between": Row("**patches of 2 x 2: products, coarsening, products**", between("product")),
    "between-relu": Row(
        "patches of 2 x 2: ReLU of sums, coarsening, ReLU of sums", between("relu")
    ),
    "between-sum": Row("patches of 2 x 2: sums, coarsening, sums", between("sum")),
}


# ---- training ------------------------------------------------------------------------------------


def run(name: str, seed: int, budget: Budget) -> dict[str, float]:
    """Train a row as the experiment is trained, but shorter; kept."""
    file = result_file(name, seed, budget)
    if file.is_file():
        return json.loads(file.read_text())
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    config, data = TUNED.train, load(seed, budget.limit)
    encoder, network = ROWS[name].build(seed, data)
    model, labels = TorchModule(network, "float32"), torch.from_numpy(data.train_targets)
    optimizer = torch.optim.AdamW(model.parameters(), config.lr, weight_decay=config.weight_decay)
    steps = budget.limit // budget.batch
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.lr, budget.epochs * steps, pct_start=config.warmup, cycle_momentum=False
    )
    average = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(config.ema_decay)
    )
    loss = nn.CrossEntropyLoss(label_smoothing=config.label_smoothing)
    rng, begin = np.random.default_rng(seed), time.perf_counter()
    model.train()
    for _ in range(budget.epochs):
        order = rng.permutation(budget.limit)
        for rows in np.split(order, steps):
            optimizer.zero_grad()
            images = mirror_images(data.train_inputs[rows], rng)
            loss(model.apply_cores(_cores(encoder, images)), labels[rows]).backward()
            nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
            optimizer.step()
            scheduler.step()
            average.update_parameters(model)
    seconds = time.perf_counter() - begin
    accuracy, cross_entropy = _score(average.module, encoder, data)
    result = {
        "val_accuracy": accuracy,
        "val_loss": cross_entropy,
        "train_seconds": seconds,
        "num_params": network.num_params(),
    }
    HOME.mkdir(parents=True, exist_ok=True)
    write_json(file, result)
    return result


@cache
def load(seed: int, limit: int) -> Data:
    """Load the images of a seed; all that are held out for validation are used."""
    data = load_fashion_mnist(None, seed)
    return replace(
        data, train_inputs=data.train_inputs[:limit], train_targets=data.train_targets[:limit]
    )


def result_file(name: str, seed: int, budget: Budget) -> Path:
    """Where a result is kept."""
    return HOME / f"{name}-{seed}{budget.suffix}.json"


def _cores(encoder: Encoder, images: np.ndarray) -> tuple[torch.Tensor, ...]:
    return tuple(torch.from_numpy(core) for core in encoder.encode(images))


@torch.no_grad()
def _score(model: TorchModule, encoder: Encoder, data: Data) -> tuple[float, float]:
    """Accuracy and mean cross entropy of the validation images."""
    model.eval()
    parts = np.array_split(data.val_inputs, 20)
    outputs = torch.cat([model.apply_cores(_cores(encoder, part)) for part in parts])
    targets = torch.from_numpy(data.val_targets)
    right = (outputs.argmax(1) == targets).double().mean()
    return float(right), float(nn.functional.cross_entropy(outputs, targets))


# ---- report --------------------------------------------------------------------------------------


def report(budget: Budget) -> None:
    """Write the table of all rows that have been trained with a budget."""
    lines = []
    for name, row in ROWS.items():
        seeds = [seed for seed in SEEDS if result_file(name, seed, budget).is_file()]
        if not seeds:
            continue
        found = [run(name, seed, budget) for seed in seeds]
        # seed by seed against the base, which shares split and order of the images
        base = [run(BASE, seed, budget)["val_accuracy"] for seed in seeds]
        gains = [100 * (r["val_accuracy"] - b) for r, b in zip(found, base, strict=True)]
        lines.append(
            [
                row.title,
                f"{found[0]['num_params']:,}",
                spread([100 * r["val_accuracy"] for r in found], unit=" %"),
                "" if name == BASE else _gain(gains),
                spread([r["val_loss"] for r in found], ".4f"),
            ]
        )
    heads = [
        *("network", "parameters", "validation accuracy", "gain, points"),
        "validation cross entropy",
    ]
    write_table(f"images-products{budget.suffix}-table", heads, lines)


def _gain(gains: list[float]) -> str:
    mean = f"{statistics.mean(gains):+.2f}"
    return mean if len(gains) == 1 else f"{mean} ± {statistics.stdev(gains):.2f}"


def main() -> None:
    """Train or report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("train", "report"))
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--seeds", nargs="+", type=int, choices=SEEDS, default=list(SEEDS))
    parser.add_argument("--budget", choices=BUDGETS, default="small")
    arguments = parser.parse_args()
    keep_freed_memory()
    if arguments.what == "report":
        for budget in BUDGETS.values():
            report(budget)
        return
    for seed in arguments.seeds:
        for name in arguments.rows:
            result = run(name, seed, BUDGETS[arguments.budget])
            print(name, seed, {key: round(value, 4) for key, value in result.items()}, flush=True)


if __name__ == "__main__":
    main()

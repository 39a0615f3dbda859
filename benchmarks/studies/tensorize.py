"""The tables and the picture of docs/tensorize.md.

`python benchmarks/studies/tensorize.py` trains dense networks 784-1024-1024-10 on Fashion-MNIST,
compresses their middle layer in several ways, tunes that layer alone for an epoch, and writes
docs/tensorize-*.md and docs/images/tensorize.png. Moments are gathered on training images; the
test images are read once a row, before and after tuning. Results are kept in
runs/tensorize/results.json. Parts can be chosen: `... middle --seeds 0`.
"""

import argparse
import copy
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

if not __package__:  # run as a script
    sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.pages import DOCS, RUNS, spread, write_readme, write_table
from benchmarks.studies.runs import kept
from ftnn.experiments import get_experiment
from ftnn.measure.memory import keep_freed_memory
from ftnn.measure.timing import Timer, compare
from ftnn.plotting.style import COLORS, figure, save_figure, style
from ftnn.tensorized import Linear, Moments, Tensorizer, plan
from ftnn.tensorized.neurons import order_of, permute

SEEDS = (0, 1, 2)
HOME = RUNS / "tensorize"
RESULTS = HOME / "results.json"
WIDTH, MIDDLE = 1024, "2"
EPOCHS, BATCH, RATE = 10, 256, 1e-3
CALIBRATION = 10_000
TIMES = (512, 256, 128, 64)
"""Times by which the weight of the middle layer is compressed."""

SIZES, BATCHES, SPEED_TIMES = (512, 1024, 2048, 4096), (1, 8, 64, 512), 64
"""Inputs and outputs of layers that are timed, rows, and their compression."""


def network() -> nn.Sequential:
    """Return a network that has not been trained."""
    return nn.Sequential(
        nn.Linear(784, WIDTH),
        nn.ReLU(),
        nn.Linear(WIDTH, WIDTH),
        nn.ReLU(),
        nn.Linear(WIDTH, 10),
    )


def images() -> dict[str, tuple[Tensor, Tensor]]:
    """Return images, with values from 0 to 1, and classes, of every split."""
    experiment = get_experiment("fashion-mnist")
    data = experiment.load(experiment.tuned_options())
    found = {}
    for part in ("train", "val", "test"):
        inputs, targets = data.split(part)
        pixels = torch.from_numpy(np.asarray(inputs, dtype=np.float32)).flatten(1)
        found[part] = (pixels, torch.from_numpy(np.asarray(targets, dtype=np.int64)))
    scale = float(found["train"][0].max())
    return {part: (pixels / scale, targets) for part, (pixels, targets) in found.items()}


def accuracy(model: nn.Module, part: tuple[Tensor, Tensor]) -> float:
    """Return the fraction of right answers."""
    with torch.no_grad():
        found = torch.cat([model(x).argmax(1) for x in part[0].split(1000)])
    return float((found == part[1]).double().mean())


def descend(
    model: nn.Module, parameters: list[Tensor], part: tuple, epochs: int, seed: int
) -> None:
    """Train parameters of a model: Adam, with a rate that falls to zero along a cosine."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(parameters, RATE)
    steps = epochs * -(-len(part[0]) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(epochs):
        for index in torch.randperm(len(part[0]), generator=generator).split(BATCH):
            optimizer.zero_grad()
            cross_entropy(model(part[0][index]), part[1][index]).backward()
            optimizer.step()
            schedule.step()


def dense(seed: int, data: dict[str, tuple[Tensor, Tensor]]) -> nn.Sequential:
    """Train a dense network, unless that is done."""
    path = HOME / f"dense-{seed}.safetensors"
    torch.manual_seed(seed)
    model = network()
    if path.is_file():
        model.load_state_dict(load_file(path))
        return model.eval()
    descend(model, list(model.parameters()), data["train"], EPOCHS, seed)
    HOME.mkdir(parents=True, exist_ok=True)
    save_file(model.state_dict(), path)
    return model.eval()


# ---- ways to compress the middle layer -----------------------------------------------------------


class Inputs:
    """What the middle layer of a dense network gets from training images."""

    def __init__(self, model: nn.Sequential, data: dict[str, tuple[Tensor, Tensor]]):
        self.model = model
        self.layer = model.get_submodule(MIDDLE)
        self.images, self.classes = (part[:CALIBRATION] for part in data["train"])
        with torch.no_grad():
            rows = model[:2](self.images)
        moments = Moments(WIDTH)
        moments.add(rows)
        self.second, self.first = moments.second(), moments.first()
        self.size = rows.abs().double().mean(0)
        self._tensorizers: dict[str, Tensorizer] = {}

    def tensorizer(self, skip: Sequence[str] = (), order: bool = True) -> Tensorizer:
        """Return fits of the layers that are not skipped, for all budgets."""
        key = f"{skip}, {order}"
        if key not in self._tensorizers:
            batches = list(zip(self.images.split(500), self.classes.split(500), strict=True))
            self._tensorizers[key] = Tensorizer(self.model, batches, skip=skip, order=order)
        return self._tensorizers[key]


def tensorized(inputs: Inputs, params: int) -> nn.Module:
    """Let the library choose for the middle layer."""
    rest = sum(p.numel() for p in inputs.model.parameters()) - WIDTH * WIDTH
    found = inputs.tensorizer(skip=("0", "4")).tensorize(params=rest + params)
    print(found, flush=True)
    return found.model


def of(format: str, moments: Callable[[Inputs], Tensor | None], mean: bool = False) -> Callable:
    """Return a way to compress: a format in a metric."""

    def make(inputs: Inputs, params: int) -> nn.Module:
        first = inputs.first if mean else None
        layer = Linear.from_dense(
            inputs.layer, format, params=params, moments=moments(inputs), mean=first
        )
        return replaced(inputs.model, layer)

    return make


METHODS: dict[str, Callable[[Inputs, int], nn.Module]] = {
    "`ftnn.tensorize`": tensorized,
    "SVD in the metric of the inputs (as SVD-LLM)": of("svd", lambda x: x.second),
    "SVD scaled by the size of the inputs (as ASVD)": of("svd", lambda x: x.size),
    "SVD": of("svd", lambda x: None),
    "TT-SVD, two cores": of("mpo", lambda x: None),
}

METRICS: dict[str, tuple[Callable[[Inputs], Tensor | None], bool]] = {
    "Frobenius": (lambda x: None, False),
    "diagonal": (lambda x: x.second.diagonal(), False),
    "full": (lambda x: x.second, False),
    "full, bias for the mean": (lambda x: x.second, True),
    "full, bias for the mean, neurons in order": (lambda x: x.second, True),
}
ORDERED = "full, bias for the mean, neurons in order"
WHOLE_TIMES = (8, 64, 256)
"""Times by which whole networks are compressed, for the ablation."""

FORMATS = ("svd", "mpo", "tt", "ring", "tree")


def replaced(model: nn.Sequential, layer: nn.Module) -> nn.Sequential:
    """Return the network with another middle layer."""
    return nn.Sequential(*(layer if str(n) == MIDDLE else one for n, one in enumerate(model)))


def measure(make: Callable, inputs: Inputs, params: int, data: dict, seed: int) -> dict[str, Any]:
    """Compress the layer; test accuracy before and after an epoch of tuning it."""
    begin = time.perf_counter()
    model = make(inputs, params)
    seconds = time.perf_counter() - begin
    layer = model.get_submodule(MIDDLE)
    untouched = accuracy(model, data["test"])
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    own = list(layer.parameters())
    for parameter in own:
        parameter.requires_grad_(True)
    descend(model, own, data["train"], 1, seed)
    return {
        "untouched": untouched,
        "tuned": accuracy(model, data["test"]),
        "params": sum(core.numel() for core in layer.cores),
        "format": layer.format,
        "seconds": seconds,
    }


def middle(seeds: list[int]) -> None:
    """Measure all methods."""
    data = images()
    for seed in seeds:
        model = dense(seed, data)
        kept(RESULTS, f"dense, {seed}", lambda: accuracy(model, data["test"]))  # noqa: B023
        inputs = Inputs(model, data)
        for times in TIMES:
            params = WIDTH * WIDTH // times
            for name, make in METHODS.items():
                kept(
                    RESULTS,
                    f"{name}, {times}, {seed}",
                    lambda: measure(make, inputs, params, data, seed),  # noqa: B023
                )


def ablation(seeds: list[int]) -> None:
    """Measure formats and metrics, untouched, on validation images."""
    data = images()
    for seed in seeds:
        model = dense(seed, data)
        inputs = Inputs(model, data)
        with_order = Inputs(ordered(inputs), data)
        for times in TIMES:
            for format in FORMATS:
                for metric, (moments, mean) in METRICS.items():
                    make = of(format, moments, mean)
                    own = with_order if metric == ORDERED else inputs

                    def one() -> float:
                        model = make(own, WIDTH * WIDTH // times)  # noqa: B023
                        return accuracy(model, data["val"])

                    kept(RESULTS, f"ablation, {format}, {metric}, {times}, {seed}", one)


def ordered(inputs: Inputs) -> nn.Sequential:
    """Return the network with hidden neurons in an order of clusters."""
    model = copy.deepcopy(inputs.model)
    permute(model, ("0", MIDDLE), order_of([(model[0].weight, None)], inputs.second))
    second = Inputs(model, {"train": (inputs.images, inputs.classes)}).second
    permute(model, (MIDDLE, "4"), order_of([(model[2].weight, second)], None))
    return model


def whole(seeds: list[int]) -> None:
    """Measure what the order of neurons and the choice of sizes earn in whole networks."""
    data = images()
    for seed in seeds:
        inputs = Inputs(dense(seed, data), data)
        for order in (True, False):
            for times in WHOLE_TIMES:
                for way, make in (("by error", by_error), ("one ratio", one_ratio)):

                    def one() -> dict[str, float]:
                        found = make(inputs, order, times)  # noqa: B023
                        ours = sum(p.numel() for p in found.parameters())
                        return {"params": ours, "val": accuracy(found, data["val"])}

                    kept(RESULTS, f"whole, {way}, {order}, {times}, {seed}", one)


def by_error(inputs: Inputs, order: bool, times: int) -> nn.Module:
    """Spend a budget where it lowers the error most."""
    return inputs.tensorizer(order=order).tensorize(ratio=times).model


def one_ratio(inputs: Inputs, order: bool, times: int) -> nn.Module:
    """Compress every layer by one ratio, as far as it can be, in the format of the least error."""
    tensorizer = inputs.tensorizer(order=order)
    tensorizer.tensorize(ratio=times)  # fits the layers
    search = tensorizer._search
    assert search is not None
    budget = search.total // times - search.rest

    def chosen(share: float) -> list:
        layers = []
        for place, options in zip(search.free, search.options, strict=True):
            most = share * place.weight.numel()
            fit = [option for option in options if option.choice.params <= most]
            least = min(options, key=lambda option: option.choice.params)
            layers.append(min(fit or [least], key=lambda option: option.choice.error))
        return layers

    low, high = 0.0, 1.0
    for _ in range(30):
        share = (low + high) / 2
        size = sum(option.choice.params for option in chosen(share))
        low, high = (share, high) if size <= budget else (low, share)
    return search._replaced(chosen(low)).model


# ---- speed ---------------------------------------------------------------------------------------


def speed() -> None:
    """Time layers of equal size against dense ones and, where it is installed, tltorch's."""
    for size in SIZES:
        for batch in BATCHES:
            for gradients in (False, True):
                kept(
                    RESULTS,
                    f"speed, {size}, {batch}, {gradients}",
                    lambda: timed(size, batch, gradients),  # noqa: B023
                )


def subjects(size: int, batch: int, gradients: bool) -> tuple[dict[str, nn.Module], Tensor]:
    """Return layers of every kind, and inputs."""
    params = size * size // SPEED_TIMES
    layers: dict[str, nn.Module] = {"dense": nn.Linear(size, size)}
    for format in ("mpo", "svd"):
        factor = Linear(size, size, format, ranks=1, bias=False).num_params
        layers[format] = Linear(size, size, format, ranks=max(1, params // factor))
    layers |= peers(layers["mpo"])
    return layers, torch.randn(batch, size, requires_grad=gradients)


def timed(size: int, batch: int, gradients: bool) -> dict[str, Any]:
    """Return median seconds of a multiplication by every kind of layer, and our plans."""
    layers, x = subjects(size, batch, gradients)
    timers = {name: Timer(call(layer, x), target=0.05) for name, layer in layers.items()}
    found: dict[str, Any] = dict(compare(timers))
    with torch.set_grad_enabled(gradients):
        for format in ("mpo", "svd"):
            chosen = layers[format]
            assert isinstance(chosen, Linear)
            found[f"{format}, plan"] = plan(chosen, batch).kind
    return found


def call(layer: nn.Module, x: Tensor) -> Callable[[], None]:
    """Return a call of a layer, with the gradients of everything if the inputs have one."""
    inputs = [x, *layer.parameters()]

    def forward() -> None:
        with torch.no_grad():
            layer(x)

    def both() -> None:
        torch.autograd.grad(layer(x).sum(), inputs)

    return both if x.requires_grad else forward


def peers(layer: nn.Module) -> dict[str, nn.Module]:
    """Return tltorch's layers of the same cores, in both of its modes."""
    assert isinstance(layer, Linear)
    try:
        from tltorch import FactorizedLinear
    except ImportError:
        return {}
    outs, ins = layer.dims
    found = {}
    for mode in ("factorized", "reconstructed"):
        other = FactorizedLinear(
            ins, outs, rank=(1, *layer.ranks, 1), factorization="blocktt", implementation=mode
        )
        other.weight.normal_(0, 0.02)
        found[f"tltorch, {mode}"] = other
    return found


# ---- pages ---------------------------------------------------------------------------------------


def report_whole(known: dict[str, Any]) -> None:
    """Write the table of whole networks."""
    lines = []
    for order, first in ((True, "by clusters"), (False, "as trained")):
        for way, second in (("by error", "by error"), ("one ratio", "one ratio for all")):
            cells = []
            for times in WHOLE_TIMES:
                keys = [f"whole, {way}, {order}, {times}, {seed}" for seed in SEEDS]
                values = [100 * known[key]["val"] for key in keys if key in known]
                cells.append(spread(values) if values else "-")
            lines.append([first, second, *cells])
    heads = ["order of neurons", "sizes of layers", *(f"{times} times" for times in WHOLE_TIMES)]
    write_table("tensorize-ablation-whole", heads, lines)


def report() -> None:
    """Write the tables and the picture of what there is."""
    known = known_results()
    heads = ["compression of the layer", "method", "untouched", "tuned for an epoch", "format"]
    lines = []
    for times in TIMES:
        for name in METHODS:
            runs = [known.get(f"{name}, {times}, {seed}") for seed in SEEDS]
            runs = [run for run in runs if run]
            if runs:
                scores = [spread([100 * run[k] for run in runs]) for k in ("untouched", "tuned")]
                kinds = ", ".join(dict.fromkeys(run["format"] for run in runs))
                lines.append([f"{times} times", name, *scores, kinds])
    before = [known[f"dense, {seed}"] for seed in SEEDS if f"dense, {seed}" in known]
    if not before:
        return
    lines.append(["none", "dense", spread([100 * value for value in before]), "", ""])
    write_table("tensorize-table", heads, lines)
    lines = []
    for format in FORMATS:
        for metric in METRICS:
            cells = []
            for times in TIMES:
                keys = [f"ablation, {format}, {metric}, {times}, {seed}" for seed in SEEDS]
                values = [100 * known[key] for key in keys if key in known]
                few = f" ({len(values)})" if len(values) < len(SEEDS) else ""
                cells.append(f"{np.mean(values):.1f}{few}" if values else "-")
            lines.append([format, metric, *cells])
    write_table(
        "tensorize-ablation", ["format", "metric", *(f"{times} times" for times in TIMES)], lines
    )
    report_whole(known)
    draw(known, float(np.mean(before)))
    report_speed(known)
    told = []
    for name in ("`ftnn.tensorize`", "SVD in the metric of the inputs (as SVD-LLM)"):
        runs = [known.get(f"{name}, 256, {seed}") for seed in SEEDS]
        told.append(spread([100 * run["untouched"] for run in runs if run]))
    write_readme(
        "tensorize",
        "Test accuracy with the middle layer of a dense network on Fashion-MNIST "
        f"({np.mean(before):.1%}) compressed 256 times, without any training: {told[0]} %; a "
        f"decomposition in singular values, in the same metric: {told[1]} %.",
    )


def report_speed(known: dict[str, Any]) -> None:
    """Write the table of times, relative to dense layers."""
    names = ("mpo", "svd", "tltorch, factorized", "tltorch, reconstructed")
    heads = ["", "inputs", "rows", "dense", *(f"{name} / dense" for name in names), "plan of mpo"]
    lines: list[list[str]] = []
    for gradients in (False, True):
        what = "forward and backward" if gradients else "forward"
        better = []
        for size in SIZES:
            for batch in BATCHES:
                found = known.get(f"speed, {size}, {batch}, {gradients}")
                if found is None:
                    continue
                ratios = [found[name] / found["dense"] if name in found else None for name in names]
                cells = [f"{ratio:.2f}" if ratio else "-" for ratio in ratios]
                time = f"{1e6 * found['dense']:,.0f} µs"
                lines.append([what, str(size), str(batch), time, *cells, found["mpo, plan"]])
                others = [found[name] for name in names[2:] if name in found]
                if others:
                    better.append(min(others) / found["mpo"])
        if better:
            text = f"median of tltorch's better mode / mpo: {np.median(better):.1f}"
            lines.append([what, "all", "all", "", "", "", text, "", ""])
    if lines:
        write_table("tensorize-speed", heads, lines)


def known_results() -> dict[str, Any]:
    """Return all results so far."""
    import json

    return json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}


def draw(known: dict[str, Any], before: float) -> None:
    """Draw test accuracy against compression, untouched and tuned."""
    with style():
        fig = figure(7.2, 3.2)
        panels = fig.subplots(1, 2, sharey=True)
        for axis, kind in zip(panels, ("untouched", "tuned"), strict=True):
            for n, name in enumerate(METHODS):
                points = []
                for times in TIMES:
                    runs = [known.get(f"{name}, {times}, {seed}") for seed in SEEDS]
                    values = [100 * run[kind] for run in runs if run]
                    if values:
                        points.append((times, np.mean(values), np.std(values)))
                if points:
                    x, y, error = zip(*points, strict=True)
                    label = name.strip("`").partition(" (")[0]
                    axis.errorbar(
                        x, y, error, marker="o", ms=4, capsize=2, color=COLORS[n], label=label
                    )
            axis.axhline(100 * before, ls=":", color="0.4", lw=1)
            axis.set(xscale="log", xlabel="compression of the middle layer")
            axis.set_xticks(TIMES, [str(times) for times in TIMES])
            axis.minorticks_off()
            axis.set_title("untouched" if kind == "untouched" else "tuned for an epoch")
        panels[0].set(ylabel="test accuracy (%)")
        panels[1].legend(fontsize=6.5, loc="lower left")
        save_figure(fig, DOCS / "images" / "tensorize.png")


def main() -> None:
    """Run parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parts = ("middle", "whole", "ablation", "speed", "report")
    parser.add_argument("parts", nargs="*", default=list(parts), help=", ".join(parts))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS), choices=SEEDS)
    given = parser.parse_args()
    if unknown := set(given.parts) - set(parts):
        parser.error(f"parts are {', '.join(parts)}; got {', '.join(sorted(unknown))}")
    keep_freed_memory()
    if "middle" in given.parts:
        middle(given.seeds)
    if "whole" in given.parts:
        whole(given.seeds)
    if "ablation" in given.parts:
        ablation(given.seeds)
    if "speed" in given.parts:
        speed()
    if "report" in given.parts:
        report()


if __name__ == "__main__":
    main()

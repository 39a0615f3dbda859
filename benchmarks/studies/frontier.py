"""The frontier of docs/tensorize.md: accuracy against parameters of whole networks.

`python benchmarks/studies/frontier.py` compresses dense networks trained on Fashion-MNIST, a
perceptron 784-1024-1024-10 and a small residual network, 2 to 512 times, by
{func}`ftnn.tensorize` and by known methods; heals them layer by layer, and as a whole; and writes
docs/tensorize-frontier-*.md and docs/images/tensorize-frontier.png. Everything is fitted and
healed on training images, everything chosen on validation images; accuracies on both are kept in
runs/tensorize/frontier.json, and pages tell those on test images. Parts can be chosen:
`... mlp --seeds 0`.
"""

import argparse
import copy
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div
from torch.nn.utils.fusion import fuse_conv_bn_eval

if not __package__:  # run as a script
    sys.path.insert(0, str(Path(__file__).parents[2]))

import ftnn
from benchmarks.studies.frontier_pages import OURS, STAGES, report
from benchmarks.studies.peers import compressed, peers
from benchmarks.studies.runs import kept
from benchmarks.studies.tensorize import HOME, SEEDS, dense, images
from ftnn.experiments.compression.networks import KINDS, dense_network
from ftnn.measure.memory import keep_freed_memory
from ftnn.tensorized.module import TensorizedModule

RESULTS = HOME / "frontier.json"
BUDGETS = tuple(2**n for n in range(1, 10))
"""Times by which the parameters of a network become fewer."""

EPOCHS, BATCH, RATE, DECAY = 8, 128, 2e-3, 1e-2
"""Training of the dense residual network; the perceptron is that of the other tables."""

CALIBRATION = {"mlp": 10_000, "resnet": 1_024}
HEALING = {"mlp": 5_000, "resnet": 256}
WHOLE = {"mlp": 20_000, "resnet": 10_000}
PROBED = {"mlp": 500, "resnet": 128}
"""Training images by which layers are fitted, are fitted anew, and networks are distilled."""

RATES = {"mlp": (1e-3,), "resnet": (1e-3, 1e-4)}
"""Learning rates of healing as a whole; the larger destroys some decompositions of kernels."""

JUDGED = 2_000
"""Validation images by which one of several networks of a method is chosen."""

Part = tuple[Tensor, Tensor]
Data = dict[str, Part]


def accuracy(model: nn.Module, part: Part) -> float:
    """Return the fraction of right answers."""
    with torch.no_grad():
        found = torch.cat([model(x).argmax(1) for x in part[0].split(250)])
    return float((found == part[1]).double().mean())


# ---- dense networks ------------------------------------------------------------------------------


def trained(kind: str, seed: int, data: Data) -> nn.Module:
    """Return a dense network, trained unless that is done."""
    model = dense_network(kind)
    if kind == "mlp":
        flat = {name: (x.flatten(1), y) for name, (x, y) in data.items()}
        for own, other in zip(model.parameters(), dense(seed, flat).parameters(), strict=True):
            own.data = other.data
        return model.eval()
    path = HOME / f"resnet-{seed}.safetensors"
    if path.is_file():
        model.load_state_dict(load_file(path))
        return model.eval()
    torch.manual_seed(seed)
    model = dense_network(kind).to(memory_format=torch.channels_last)
    x, y = data["train"]
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS * -(-len(x) // BATCH))
    for epoch in range(EPOCHS):
        model.train()
        for index in torch.randperm(len(x), generator=generator).split(BATCH):
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16):
                loss = cross_entropy(model(x[index]).float(), y[index])
            loss.backward()
            optimizer.step()
            schedule.step()
        print(kind, seed, epoch, accuracy(model.eval(), data["val"]), flush=True)
    model = model.to(memory_format=torch.contiguous_format)
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, path)
    return model


def folded(model: nn.Module) -> nn.Module:
    """Return a copy in which convolutions have taken in the normalizations after them."""
    new = copy.deepcopy(model).eval()
    for module in new.modules():
        if not isinstance(module, nn.Sequential):
            continue
        for n in range(len(module) - 1):
            first, second = module[n], module[n + 1]
            if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                module[n], module[n + 1] = fuse_conv_bn_eval(first, second), nn.Identity()
    return new


# ---- one network, compressed ---------------------------------------------------------------------


class Subject:
    """A dense network that is compressed, and the data that all methods get."""

    def __init__(self, kind: str, seed: int, data: Data):
        self.kind, self.seed, self.data = kind, seed, data
        self.model = folded(trained(kind, seed, data))
        self.params = sum(p.numel() for p in self.model.parameters())
        self.calibration = self._batches(CALIBRATION[kind])
        self.healing = self._batches(HEALING[kind])
        self._tensorizer: ftnn.tensorized.Tensorizer | None = None
        self._goals: Tensor | None = None

    def _batches(self, count: int) -> list[Part]:
        x, y = (part[:count] for part in self.data["train"])
        size = PROBED[self.kind]
        return list(zip(x.split(size), y.split(size), strict=True))

    def tensorized(self, params: int) -> nn.Module:
        """Let the library choose; what layers could be is fitted once for all budgets."""
        if self._tensorizer is None:
            self._tensorizer = ftnn.tensorized.Tensorizer(self.model, self.calibration)
        found = self._tensorizer.tensorize(params=params)
        print(found, flush=True)
        return found.model

    def layers_healed(self, model: nn.Module) -> nn.Module:
        """Fit layers anew, to what reaches them."""
        return ftnn.tensorized.heal(model, self.model, self.healing).model

    def goals(self) -> Tensor:
        """Return logarithms of the probabilities of the dense network."""
        if self._goals is None:
            x = self.data["train"][0][: WHOLE[self.kind]]
            with torch.no_grad():
                outputs = torch.cat([self.model(part) for part in x.split(500)])
            self._goals = outputs.log_softmax(1)
        return self._goals

    def distilled(self, model: nn.Module) -> nn.Module:
        """Train for an epoch at every rate; return the best network on validation images."""
        found = [self._distilled(model, rate) for rate in RATES[self.kind]]
        return found[0] if len(found) == 1 else max(found, key=self.judged)

    def judged(self, model: nn.Module) -> float:
        """Return the accuracy by which networks are chosen."""
        return accuracy(model, tuple(part[:JUDGED] for part in self.data["val"]))

    def _distilled(self, model: nn.Module, rate: float) -> nn.Module:
        """Train all parameters, so that outputs are those of the dense network."""
        new = copy.deepcopy(model).train()
        x, goals = self.data["train"][0], self.goals()
        generator = torch.Generator().manual_seed(self.seed)
        optimizer = torch.optim.Adam(new.parameters(), rate)
        steps = -(-len(goals) // BATCH)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for index in torch.randperm(len(goals), generator=generator).split(BATCH):
            optimizer.zero_grad()
            found = new(x[index]).log_softmax(1)
            kl_div(found, goals[index], reduction="batchmean", log_target=True).backward()
            optimizer.step()
            schedule.step()
        return new.eval()

    def measure(self, make: Callable[[int], list[nn.Module]], times: int) -> dict[str, Any]:
        """Compress, and heal; accuracies of every stage on validation and test images.

        Of several networks, the best of every stage on validation images is told.
        """
        budget = self.params // times
        start = time.perf_counter()
        try:
            networks = [self._stages(model) for model in make(budget)]
        except ValueError as error:
            return {"refused": str(error)}
        found: dict[str, Any] = {"params": {}, "val": {}, "test": {}}
        for stage in networks[0]:
            best = max((stages[stage] for stages in networks), key=self.judged)
            params = sum(p.numel() for p in best.parameters())
            assert params <= budget, (params, budget)
            found["params"][stage] = params
            found["val"][stage] = self.judged(best)
            found["test"][stage] = accuracy(best, self.data["test"])
        return found | {"seconds": round(time.perf_counter() - start, 1)}

    def _stages(self, model: nn.Module) -> dict[str, nn.Module]:
        """Return a network in every stage that it has."""
        found = {STAGES[0]: model}
        if any(isinstance(m, TensorizedModule) for m in model.modules()):
            found[STAGES[1]] = model = self.layers_healed(model)
        found[STAGES[2]] = self.distilled(model)
        return found


def frontier(kind: str, seeds: list[int], methods: list[str], budgets: list[int]) -> None:
    """Measure methods and budgets; rows that are there already are left."""
    data = {k: (x.reshape(-1, 1, 28, 28), y) for k, (x, y) in images().items()}
    for seed in seeds:
        subject = Subject(kind, seed, data)
        kept(
            RESULTS,
            f"{kind}, dense, {seed}",
            lambda: {part: accuracy(subject.model, data[part]) for part in ("val", "test")},  # noqa: B023
        )
        ways = peers(subject.model, subject.calibration)
        for name in methods or [OURS, *ways]:
            layers = ways[name]() if name != OURS else None
            for times in budgets:

                def make(params: int) -> list[nn.Module]:
                    if layers is None:  # noqa: B023
                        return [subject.tensorized(params)]  # noqa: B023
                    both = compressed(subject.model, layers, params)  # noqa: B023
                    return both if kind == "mlp" else both[-1:]

                row = kept(
                    RESULTS,
                    f"{kind}, {name}, {times}, {seed}",
                    lambda: subject.measure(make, times),  # noqa: B023
                )
                print(kind, name, times, seed, row.get("val"), row.get("seconds"), flush=True)


def main() -> None:
    """Run parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=[*KINDS, "report"])
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS), choices=SEEDS)
    parser.add_argument("--methods", nargs="+", default=[])
    parser.add_argument("--budgets", nargs="+", type=int, default=list(BUDGETS))
    given = parser.parse_args()
    keep_freed_memory()
    for kind in KINDS:
        if kind in given.parts:
            frontier(kind, given.seeds, given.methods, given.budgets)
    if "report" in given.parts:
        report(json.loads(RESULTS.read_text()))


if __name__ == "__main__":
    main()

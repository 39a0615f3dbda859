"""Tables and picture of the frontier: accuracy against parameters of whole networks.

Written by `python benchmarks/studies/frontier.py report` of whatever rows there are.
"""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.pages import DOCS
from ftnn.plotting.style import COLORS, MARKERS, figure, save_figure, style

OURS = "ftnn.tensorize"
STAGES = ("untouched", "healed by layer", "healed as a whole")
METHODS = (OURS, "whitened SVD", "ASVD", "SVD", "TT-SVD", "Tucker", "CP", "tltorch")
NETWORKS = {"mlp": "perceptron", "resnet": "residual network"}
SEEDS = 3

Known = dict[str, Any]


class Score(NamedTuple):
    """Test accuracies in percent, one a seed, and the mean number of parameters."""

    values: tuple[float, ...]
    params: float

    @property
    def mean(self) -> float:
        """Return the mean over seeds."""
        return statistics.mean(self.values)

    @property
    def deviation(self) -> float:
        """Return the standard deviation over seeds; zero of one."""
        return statistics.stdev(self.values) if len(self.values) > 1 else 0.0

    def __str__(self) -> str:
        told = f"{self.mean:.1f}"
        if len(self.values) > 1:
            told += f" ± {self.deviation:.1f}"
        return told if len(self.values) == SEEDS else f"{told} ({len(self.values)})"


def score(known: Known, kind: str, method: str, times: int, stage: str) -> Score | None:
    """Return what is known of a method at a budget in a stage; None if nothing is.

    Healing that lowers the accuracy on validation images is not taken: the stage before counts.
    """
    rows = [known.get(f"{kind}, {method}, {times}, {seed}", {}) for seed in range(SEEDS)]
    rows = [row for row in rows if stage in row.get("test", {})]
    if not rows:
        return None
    taken = [_taken(row, stage) for row in rows]
    values = tuple(100 * row["test"][own] for row, own in zip(rows, taken, strict=True))
    params = [row["params"][own] for row, own in zip(rows, taken, strict=True)]
    return Score(values, statistics.mean(params))


def _taken(row: dict[str, Any], stage: str) -> str:
    """Return the stage of the best accuracy on validation images up to one; the last of equals."""
    so_far = [own for own in STAGES[: STAGES.index(stage) + 1] if own in row["val"]]
    return max(reversed(so_far), key=lambda own: row["val"][own])


def budgets_of(known: Known, kind: str) -> list[int]:
    """Return the budgets that were measured, as times of compression."""
    keys = [key.split(", ") for key in known]
    return sorted({int(key[2]) for key in keys if key[0] == kind and len(key) == 4})


def level(scores: Sequence[Score]) -> list[bool]:
    """Tell which scores are the best, or below it by no more than either's deviation."""
    best = max(scores, key=lambda one: one.mean)
    return [best.mean - one.mean <= max(best.deviation, one.deviation) for one in scores]


def dense_score(known: Known, kind: str) -> Score:
    """Return the accuracy of the dense networks."""
    rows = [known.get(f"{kind}, dense, {seed}") for seed in range(SEEDS)]
    return Score(tuple(100 * row["test"] for row in rows if row), 0.0)


def table(known: Known, kind: str, stage: str) -> str:
    """Return a table in Markdown: methods in rows, budgets in columns, the best in bold."""
    budgets = budgets_of(known, kind)
    scores = {(m, t): score(known, kind, m, t, stage) for m in METHODS for t in budgets}
    bold = set()
    for times in budgets:
        found = [(key, one) for key, one in scores.items() if key[1] == times and one]
        if found:
            marks = level([one for _, one in found])
            bold |= {key for (key, _), mark in zip(found, marks, strict=True) if mark}
    lines = [["method", *(f"{times} times" for times in budgets)]]
    lines.append(["---"] * len(lines[0]))
    for method in METHODS:
        cells = []
        for times in budgets:
            one = scores[method, times]
            text = _missing(known, kind, method, times) if one is None else str(one)
            cells.append(f"**{text}**" if (method, times) in bold else text)
        if any(scores[method, times] for times in budgets):
            lines.append([f"`{method}`" if method == OURS else method, *cells])
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _missing(known: Known, kind: str, method: str, times: int) -> str:
    """Tell why there is no score: the budget cannot be met, or was not tried."""
    rows = [known.get(f"{kind}, {method}, {times}, {seed}", {}) for seed in range(SEEDS)]
    return "-" if any("refused" in row for row in rows) else ""


def behind(known: Known, kind: str) -> list[str]:
    """Tell where another method is above ours by more than the spread."""
    found = []
    for stage in STAGES:
        for times in budgets_of(known, kind):
            own = score(known, kind, OURS, times, stage)
            rivals = {m: score(known, kind, m, times, stage) for m in METHODS if m != OURS}
            there = {method: one for method, one in rivals.items() if one}
            if own is None or not there:
                continue
            best = max(there, key=lambda method: there[method].mean)
            if not level([own, there[best]])[0]:
                gap = there[best].mean - own.mean
                found.append(f"{stage}, {times} times, {best} by {gap:.1f}")
    return found


CAPTION = (
    f"Test accuracy in percent: mean ± standard deviation over {SEEDS} seeds, or over as many as "
    "are told in brackets; in bold the best, and what is below it by no more than the deviation; - "
    "a budget that cannot be met; nothing: not measured.\n"
)


def page(known: Known, kind: str) -> str:
    """Return the tables of a network, in Markdown."""
    parts = [CAPTION]
    for stage in STAGES:
        title = stage[0].upper() + stage[1:]
        parts += [f"**{title}**\n", table(known, kind, stage)]
    parts.append(f"Dense: {dense_score(known, kind)}.")
    worse = behind(known, kind)
    told = "; ".join(worse) if worse else "nowhere"
    parts.append(f"`{OURS}` is below another method by more than the spread: {told}.\n")
    return "\n".join(parts)


def draw(known: Known, path: Path) -> None:
    """Draw accuracy against parameters: networks in rows, stages in columns."""
    kinds = [kind for kind in NETWORKS if budgets_of(known, kind)]
    with style():
        fig = figure(10, 0.7 + 2.7 * len(kinds))
        axes = fig.subplots(len(kinds), len(STAGES), sharey="row", sharex="row", squeeze=False)
        handles: dict[str, Any] = {}
        for own, kind in zip(axes, kinds, strict=True):
            for axis, stage in zip(own, STAGES, strict=True):
                handles |= _panel(axis, known, kind, stage)
                if kind == kinds[0]:
                    axis.set_title(stage)
                if kind == kinds[-1]:
                    axis.set_xlabel("parameters")
            own[0].set_ylabel(f"{NETWORKS[kind]}\ntest accuracy in %")
        order = [name for name in (*METHODS, "dense") if name in handles]
        marks = [handles[name] for name in order]
        fig.legend(marks, order, loc="outside upper center", ncols=len(order), columnspacing=1.2)
        save_figure(fig, path)


def _panel(axis: Any, known: Known, kind: str, stage: str) -> dict[str, Any]:
    """Draw a stage of a network; errors, 100 % less the accuracy, have a logarithmic scale."""
    axis.set_xscale("log")
    axis.set_yscale(
        "function",
        functions=(lambda y: -np.log(np.clip(100 - y, 1, None)), lambda y: 100 - np.exp(-y)),
    )
    handles = {}
    for n, method in reversed(list(enumerate(METHODS))):
        found = [score(known, kind, method, times, stage) for times in budgets_of(known, kind)]
        there = [one for one in found if one]
        if not there:
            continue
        x = [one.params for one in there]
        y = np.array([one.mean for one in there])
        width = np.array([one.deviation for one in there])
        color = (*COLORS[1:], "#8C8C8C")[n - 1] if n else COLORS[0]
        line = axis.plot(
            x, y, marker=MARKERS[n], color=color, lw=2.4 if n == 0 else 1.2, zorder=3 - n / 10
        )
        axis.fill_between(x, y - width, y + width, color=color, alpha=0.2, lw=0)
        handles[method] = line[0]
    handles["dense"] = axis.axhline(
        dense_score(known, kind).mean, color="#404040", ls="--", lw=1.0, zorder=1
    )
    ticks = [10, 50, 70, 80, 85, 90, 93]
    axis.set_yticks(ticks, [str(tick) for tick in ticks])
    axis.set_ylim(0, 94)
    axis.minorticks_off()
    return handles


def report(known: Known) -> None:
    """Write the pages and the picture of what there is."""
    for kind in NETWORKS:
        if budgets_of(known, kind):
            text = page(known, kind)
            (DOCS / f"tensorize-frontier-{kind}.md").write_text(text)
            print(text)
    draw(known, DOCS / "images" / "tensorize-frontier.png")

"""The tables and the picture of docs/structure.md: orders of sites and bonds from data.

`python benchmarks/studies/site_order.py` draws training and held-out samples with every seed,
finds orders and bonds from the training samples, and truncates the held-out ones; results are kept
in runs/structure/site_order.json. It writes docs/structure-*-table.md and
docs/images/site-order.png.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

if not __package__:  # run as a script
    sys.path.insert(0, str(Path(__file__).parents[2]))

import ftnn
from benchmarks.pages import DOCS, RUNS, write_table
from benchmarks.studies.runs import kept
from benchmarks.studies.site_order_data import (
    BITS,
    DIMS,
    FAMILIES,
    SITES,
    TABLES,
    drawn,
    mean_states,
)
from benchmarks.studies.spin_chains import CHAINS, ground_states
from ftnn.chains.bonds import cut_bonds
from ftnn.chains.entanglement import entanglement_entropies
from ftnn.plotting.style import COLORS, MARKERS, figure, save_figure, style
from ftnn.structure import bond_profile, num_params, permute_sites, site_information, site_order

SEEDS = (0, 1, 2)
RESULTS = RUNS / "structure" / "site_order.json"
BONDS = (4, 8)
ROW_MAJOR = np.arange(SITES)
INTERLEAVED = ROW_MAJOR.reshape(2, BITS).T.ravel()
NO_GAP = 0.01
"""Where the exact order lowers the error by less than this share, there is no gap to close."""

BUDGETS = (2, 3, 4, 5, 6, 8, 11, 16)
"""Uniform bonds whose parameters are the budgets of the picture."""

TABLE_BONDS = (2, 4)

# ---- measurements ----------------------------------------------------------------------------


def moment_error(x: ftnn.MPS, order: np.ndarray, bond: int) -> float:
    """Error of a mean state truncated in an order, relative to all of it but the constant 1."""
    y = permute_sites(x, order)
    dense = y.to_dense()
    near = ftnn.MPS.from_dense(dense, y.phys_dims, max_bond=bond).to_dense()
    return float(np.linalg.norm(near - dense) / np.linalg.norm(dense[:, 1:]))


def error(x: ftnn.MPS, order: np.ndarray, bonds: Any) -> float:
    """Mean relative error of states truncated in an order, by TT-SVD."""
    y = permute_sites(x, order)
    dense = y.to_dense()
    near = ftnn.MPS.from_dense(dense, y.phys_dims, max_bond=bonds).to_dense()
    return float((np.linalg.norm(near - dense, axis=1) / np.linalg.norm(dense, axis=1)).mean())


def orders(family: str, bond: int, seed: int) -> dict[str, Any]:
    """Held-out errors by order, and the order that was found."""
    train, held = drawn(family, seed)
    found = {
        "row-major": ROW_MAJOR,
        "interleaved": INTERLEAVED,
        "information": site_order(train, "spectral"),
        "sifting": site_order(train, "sifting", bond),
        "exact": site_order(train, "exact", max_bond=bond),
        "own": site_order(held, "exact", max_bond=bond),
    }
    errors = {name: error(held, order, bond) for name, order in found.items()}
    return errors | {"order": found["information"].tolist()}


def table_orders(name: str, bond: int, seed: int) -> dict[str, Any]:
    """Held-out errors of the mean state of a table by order of the columns."""
    rows, train, held = mean_states(name, seed)
    rng = np.random.default_rng(seed)
    found = {
        "file": np.arange(train.L),
        "information": site_order(rows, "spectral"),
        "sifting": site_order(rows, "sifting", bond),
        "exact": site_order(train, "exact", max_bond=bond),
        "own": site_order(held, "exact", max_bond=bond),
    }
    errors = {name: moment_error(held, order, bond) for name, order in found.items()}
    random = [moment_error(held, rng.permutation(train.L), bond) for _ in range(20)]
    return errors | {"random": float(np.mean(random)), "order": found["information"].tolist()}


def spins(chain: str, sites: int, seed: int) -> dict[str, Any]:
    """Whether shuffled ground states are put back in order, and their bonds."""
    states = ground_states(chain, sites, seed)  # (batch, 2, 2, ...)
    shuffle = np.random.default_rng(1000 + seed).permutation(sites)
    dense = states.transpose(0, *(shuffle + 1)).reshape(len(states), -1)
    x = ftnn.MPS.from_dense(dense, (2,) * sites, rtol=1e-6)
    result: dict[str, Any] = {"shuffled": max(x.bond_dims)}
    own = entropy(states, np.arange(sites))
    for method in ("spectral", "sifting", "exact") if sites <= 12 else ("spectral",):
        line = shuffle[site_order(x, method)]
        result[method] = line.tolist() in (list(range(sites)), list(range(sites))[::-1])
        result[f"{method}, entropy"] = entropy(states, line) / own
        if method == "spectral":
            back = states.transpose(0, *(line + 1)).reshape(len(states), -1)
            result["restored"] = max(ftnn.MPS.from_dense(back, x.phys_dims, rtol=1e-6).bond_dims)
    return result


def entropy(states: np.ndarray, order: np.ndarray) -> float:
    """Sum of the entropies over the cuts, mean over the states, of sites in an order."""
    dense = states.transpose(0, *(order + 1)).reshape(len(states), -1)
    x = ftnn.MPS.from_dense(dense, states.shape[1:], rtol=1e-8)
    return float(entanglement_entropies(x.cores).sum(1).mean())


def bonds(family: str, order: str, bond: int, seed: int) -> dict[str, Any]:
    """Held-out errors with uniform bonds, and with bonds from training data at equal parameters."""
    train, held = drawn(family, seed)
    sites = ROW_MAJOR if order == "row-major" else site_order(train, "spectral")
    uniform = cut_bonds(DIMS, bond)[1:-1]
    params = num_params(DIMS, uniform)
    x = permute_sites(train, sites)
    profiles = {"uniform": uniform}
    profiles |= {by: bond_profile(x, params, by=by) for by in ("spectra", "entropy")}
    errors = {name: error(held, sites, own) for name, own in profiles.items()}
    return errors | {"params": params, "bonds": list(profiles["spectra"])}


FOUND = ("information", "sifting", "exact", "own")
FOUND_HEADS = ("mutual information", "and sifting", "exact optimum", "of the held-out data",
               "gap closed by information", "by sifting")  # fmt: skip

# ---- tables ----------------------------------------------------------------------------------


def closed(results: list[dict[str, Any]], standard: tuple[str, ...], by: str) -> str:
    """Return the share of the gap that a way to order closes, over the seeds.

    From the better standard order, on average, to the exact optimum: of the training data or of the
    held-out data themselves, whichever has the lower error.
    """
    mean = {name: np.mean([r[name] for r in results]) for name in (*standard, "exact", "own")}
    start = min(standard, key=lambda name: mean[name])
    end = min(("exact", "own"), key=lambda name: mean[name])
    if mean[start] - mean[end] < NO_GAP * mean[start]:
        return "no gap"
    shares = [(r[start] - r[by]) / (mean[start] - mean[end]) for r in results]
    return f"{100 * np.mean(shares):.0f} ± {100 * np.std(shares, ddof=1):.0f} %"


def cell(values: list[float]) -> str:
    """Return mean and standard deviation in percent."""
    return f"{100 * np.mean(values):.2f} ± {100 * np.std(values, ddof=1):.2f} %"


def write_orders(seeds: list[int]) -> None:
    lines = []
    for family in FAMILIES:
        for bond in BONDS:
            results = found_orders(family, bond, seeds)
            standard = ("row-major", "interleaved")
            cells = [cell([r[name] for r in results]) for name in (*standard, *FOUND)]
            shares = [closed(results, standard, by) for by in FOUND[:2]]
            lines.append([family, str(bond), *cells, *shares])
    heads = ["data", "bond", "row-major", "interleaved", *FOUND_HEADS]
    write_table("structure-order-table", heads, lines)


def found_orders(family: str, bond: int, seeds: list[int]) -> list[dict[str, Any]]:
    """Results of :func:`orders` that are kept, or measured now."""
    return [
        kept(RESULTS, f"orders, {family}, {bond}, {n}", lambda: orders(family, bond, n))  # noqa: B023
        for n in seeds
    ]


def write_tables(seeds: list[int]) -> None:
    lines = []
    for name, title in TABLES.items():
        for bond in TABLE_BONDS:
            results = [
                kept(RESULTS, f"table, {name}, {bond}, {n}", lambda: table_orders(name, bond, n))  # noqa: B023
                for n in seeds
            ]
            standard = ("file", "random")
            cells = [cell([r[name] for r in results]) for name in (*standard, *FOUND)]
            shares = [closed(results, standard, by) for by in FOUND[:2]]
            lines.append([title, str(bond), *cells, *shares])
    heads = ["table", "bond", "as in the file", "random, mean of 20", *FOUND_HEADS]
    write_table("structure-columns-table", heads, lines)


def write_spins(seeds: list[int]) -> None:
    lines = []
    for chain, title in CHAINS.items():
        for sites in (10, 12, 16):
            results = [
                kept(RESULTS, f"spins, {chain}, {sites}, {n}", lambda: spins(chain, sites, n))  # noqa: B023
                for n in seeds
            ]
            counts = []
            for method in ("spectral", "sifting", "exact"):
                right = [r.get(method, False) for r in results]
                known = method == "spectral" or sites <= 12
                counts.append(f"{sum(right)} of {len(right)}" if known else "–")
            ratio = max(r["spectral, entropy"] for r in results)
            ends = [", ".join(str(r[key]) for r in results) for key in ("shuffled", "restored")]
            lines.append([title, str(sites), *counts, f"{ratio:.6f}", *ends])
    heads = ["chain", "sites", "restored by mutual information", "and sifting",
             "by the exact optimum", "entropies, of those of the chain", "largest bond, shuffled",
             "largest bond, by information"]  # fmt: skip
    write_table("structure-spins-table", heads, lines)


def found_bonds(family: str, order: str, bond: int, seeds: list[int]) -> list[dict[str, Any]]:
    """Results of :func:`bonds` that are kept, or measured now."""
    return [
        kept(
            RESULTS,
            f"bonds, {family}, {order}, {bond}, {n}",
            lambda: bonds(family, order, bond, n),  # noqa: B023
        )
        for n in seeds
    ]


def write_bonds(seeds: list[int]) -> None:
    lines = []
    for family in FAMILIES:
        for order in ("row-major", "mutual information"):
            for bond in BONDS:
                results = found_bonds(family, order, bond, seeds)
                cells = [cell([r[by] for r in results]) for by in ("uniform", "spectra", "entropy")]
                change = [100 * (r["spectra"] / r["uniform"] - 1) for r in results]
                share = f"{np.mean(change):+.0f} ± {np.std(change, ddof=1):.0f} %"
                params = f"{results[0]['params']:,}"
                lines.append([family, order, str(bond), params, *cells, share])
    heads = ["data", "order", "uniform bond", "parameters", "uniform", "by spectra", "by entropy",
             "spectra against uniform"]  # fmt: skip
    write_table("structure-bonds-table", heads, lines)


# ---- picture ---------------------------------------------------------------------------------


def draw(seeds: list[int]) -> None:
    """Draw errors by order, the mutual information of one family, and errors by parameters."""
    with style():
        fig = figure(10.2, 3.6)
        left, middle, right = fig.subplots(1, 3, width_ratios=(1.25, 0.9, 1.0))
        _draw_orders(left, seeds)
        _draw_information(fig, middle)
        _draw_bonds(right, seeds)
        save_figure(fig, DOCS / "images" / "site-order.png")


def _draw_orders(axis: Any, seeds: list[int]) -> None:
    names = {
        "row-major": "row-major",
        "interleaved": "interleaved",
        "information": "mutual information",
        "sifting": "and sifting",
        "exact": "exact optimum",
    }
    for place, family in enumerate(FAMILIES):
        results = found_orders(family, BONDS[-1], seeds)
        means = {name: np.mean([r[name] for r in results]) for name in names}
        base = min(("row-major", "interleaved"), key=lambda name: means[name])
        for n, name in enumerate(names):
            values = np.array([r[name] / r[base] for r in results])
            height = place + 0.15 * (n - 2)
            axis.errorbar(
                values.mean(),
                height,
                xerr=values.std(ddof=1),
                fmt=MARKERS[n],
                color=COLORS[n],
                ms=4.5,
                lw=1.0,
                label=names[name] if place == 0 else None,
            )
    axis.axvline(1.0, color="0.6", lw=0.8, zorder=0)
    axis.set_xscale("log")
    axis.set_xticks([0.8, 1, 1.5, 2, 3], ["0.8", "1", "1.5", "2", "3"])
    axis.minorticks_off()
    axis.set_yticks(range(len(FAMILIES)), [name.replace(", ", ",\n") for name in FAMILIES])
    axis.invert_yaxis()
    axis.set(xlabel="held-out error / that of the better standard order")
    axis.set_title(f"a  Orders of 10 bits, bond {BONDS[-1]}")
    axis.legend(
        loc="upper center",
        bbox_to_anchor=(0.4, -0.17),
        ncols=3,
        handletextpad=0.1,
        columnspacing=0.8,
    )


def _draw_information(fig: Any, axis: Any) -> None:
    family = next(iter(FAMILIES))
    train, _ = drawn(family, SEEDS[0])
    order = site_order(train)
    shown = site_information(train)[np.ix_(order, order)]
    np.fill_diagonal(shown, np.nan)
    image = axis.imshow(shown, cmap="cividis")
    names = [f"${'yx'[k // BITS]}_{k % BITS + 1}$" for k in order]
    axis.set_xticks(range(SITES), names)
    axis.set_yticks(range(SITES), names)
    axis.grid(False)
    axis.set_title("b  Mutual information")
    axis.set_xlabel("bits, in the order found")
    bar = fig.colorbar(image, ax=axis, shrink=0.85)
    bar.set_label("nats")
    bar.outline.set_visible(False)


def _draw_bonds(axis: Any, seeds: list[int]) -> None:
    family = next(iter(FAMILIES))
    rows = [
        ("row-major", "uniform", "--", 0),
        ("row-major", "spectra", "-", 0),
        ("mutual information", "uniform", "--", 2),
        ("mutual information", "spectra", "-", 2),
    ]
    base = [found_bonds(family, "row-major", bond, seeds) for bond in BUDGETS]
    params = [own[0]["params"] for own in base]
    for order, by, line, color in rows:
        results = [found_bonds(family, order, bond, seeds) for bond in BUDGETS]
        errors = np.array(
            [
                [r[by] / b["uniform"] for r, b in zip(own, standard, strict=True)]
                for own, standard in zip(results, base, strict=True)
            ]
        )
        axis.plot(
            params,
            errors.mean(1),
            line,
            marker=MARKERS[color],
            ms=3.5,
            color=COLORS[color],
            label=f"{order}, {by if by == 'uniform' else 'by ' + by}",
        )
        low, high = (errors.mean(1) + s * errors.std(1, ddof=1) for s in (-1, 1))
        axis.fill_between(params, low, high, color=COLORS[color], alpha=0.15, lw=0)
    axis.set_xscale("log")
    axis.set_xticks([100, 200, 500, 1000, 2000], ["100", "200", "500", "1000", "2000"])
    axis.minorticks_off()
    axis.set_ylim(0, 1.12)
    axis.set(xlabel="parameters of a state", ylabel="held-out error / row-major, uniform")
    axis.set_title("c  Bonds at equal parameters")
    axis.legend(loc="lower left", handlelength=3.2)


def main() -> None:
    """Measure what is not measured yet, and write the tables and the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    seeds = parser.parse_args().seeds
    write_orders(seeds)
    write_tables(seeds)
    write_spins(seeds)
    write_bonds(seeds)
    draw(seeds)


if __name__ == "__main__":
    main()

"""The page of a version's benchmarks, from what asv has measured.

`python benchmarks/results.py` reads the results of the current commit under .asv/results, writes
them to docs/results/VERSION.json, and the page docs/results/VERSION.md from that file. With
`--pages` only the pages are written again. A value that an earlier version has, too, is followed
by the ratio of the two, below one where it went down.
"""

import argparse
import json
import math
import platform
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import version
from itertools import product
from pathlib import Path

from asv.util import human_value

if not __package__:  # run as a script
    sys.path.insert(0, str(Path(__file__).parents[1]))

import ftnn
from benchmarks.pages import DOCS, ROOT

ASV = ROOT / ".asv" / "results"
HOME = DOCS / "results"
PACKAGES = ("numpy", "torch", "quimb", "autoray")
ORDER = ("bench_training", "bench_truncation", "bench_nonlinear", "bench_start")


# ---- from asv to one file a version --------------------------------------------------------------


def collected(commit: str) -> dict:
    """Results of a commit on the machine they were measured on; what could not run is left out."""
    found = sorted(ASV.glob(f"*/{commit[:8]}-*.json"))
    if not found:
        raise SystemExit(
            f"{ASV.relative_to(ROOT)} has no results of {commit[:8]}; run\n"
            "asv run --set-commit-hash $(git rev-parse HEAD)"
        )
    raw = json.loads(found[-1].read_text())
    known = json.loads((ASV / "benchmarks.json").read_text())
    benchmarks = {}
    for name, values in raw["results"].items():
        row = dict(zip(raw["result_columns"], values, strict=False))  # asv cuts empty columns
        cases = zip(product(*row["params"]), row["result"] or [], strict=False)
        benchmarks[name] = {
            "unit": known[name].get("unit", ""),
            "parameters": known[name]["param_names"],
            "cases": [
                # asv keeps the repr of a parameter, NaN for what was skipped, null for what failed
                [[parameter.strip("'") for parameter in case], value]
                for case, value in cases
                if value is None or not math.isnan(value)
            ],
        }
    machine = json.loads((found[-1].parent / "machine.json").read_text())
    packages = {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}
    return {
        "commit": commit,
        "machine": {key: machine[key] for key in ("cpu", "num_cpu", "ram", "arch")},
        "packages": packages,
        "benchmarks": benchmarks,
    }


# ---- from the file to a page ---------------------------------------------------------------------


def page(name: str, data: dict, earlier: dict | None) -> str:
    """Lay out all results of a version as tables."""
    machine, packages = data["machine"], data["packages"]
    lines = [
        f"# ftnn {name}",
        "",
        f"{machine['cpu']}, {machine['num_cpu']} cores, {int(machine['ram']) / 2**30:.0f} GiB; "
        + ", ".join(f"{package} {number}" for package, number in packages.items())
        + f"; commit {data['commit'][:8]}.",
    ]
    if earlier:
        lines += ["", f"In brackets: the ratio to ftnn {earlier['name']}."]
    names = sorted(data["benchmarks"], key=lambda key: (ORDER.index(key.split(".")[0]), key))
    headed = ""
    for key in names:
        now = data["benchmarks"][key]
        before = earlier["benchmarks"].get(key, {"cases": []}) if earlier else {"cases": []}
        if not now["cases"]:
            continue
        heading, label = _words(key)
        if heading != headed:
            lines += ["", f"## {heading}", ""]
        elif now["parameters"]:
            lines.append("")
        if now["parameters"]:
            lines += [f"{label[0].upper()}{label[1:]}:", "", *_table(now, dict(_keyed(before)))]
        else:
            value, was = (dict(_keyed(each)).get(()) for each in (now, before))
            lines.append(f"- {label}: {_cell(value, was, now['unit'])}")
        headed = heading
    return "\n".join(lines) + "\n"


def _words(key: str) -> tuple[str, str]:
    """Name what is run, in the words of its class or module, and what of it is measured."""
    module, *owner, function = key.split(".")
    kind, _, rest = function.partition("_")
    source = import_module(f"benchmarks.{module}")
    rest = rest.replace("_", " ")
    if owner:
        source = getattr(source, owner[0])
        rest = {"time": "time", "peakmem": "peak memory of the process"}.get(kind, rest)
    return source.__doc__.split("\n")[0].rstrip("."), rest


def _keyed(benchmark: dict) -> Iterator[tuple[tuple[str, ...], float | None]]:
    return ((tuple(case), value) for case, value in benchmark["cases"])


def _table(benchmark: dict, before: dict) -> list[str]:
    """Rows of a table whose columns are the values of the last parameter, if there are several."""
    values, names = dict(_keyed(benchmark)), benchmark["parameters"]
    columns = list(dict.fromkeys(case[-1:] for case in values))
    if len(names) < 2 or len(columns) < 2:
        columns = [()]
    fixed = len(names) - len(columns[0])
    lines = [[*names[:fixed], *(column[0] if column else "value" for column in columns)]]
    lines.append(["---"] * len(lines[0]))
    for row in dict.fromkeys(case[:fixed] for case in values):
        cells = [
            _cell(values[row + column], before.get(row + column), benchmark["unit"])
            if row + column in values
            else ""
            for column in columns
        ]
        lines.append([*row, *cells])
    return ["| " + " | ".join(line) + " |" for line in lines]


def _cell(value: float | None, before: float | None, unit: str) -> str:
    if value is None:
        return "failed"
    text = f"{value:.1e}" if unit == "relative" else human_value(value, unit)
    return f"{text} ({value / before:.2f})" if before else text


def main() -> None:
    """Collect what asv has of this version, and write the pages of all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pages", action="store_true", help="only lay the pages out again")
    if not parser.parse_args().pages:
        commit = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=ROOT, text=True).strip()
        HOME.mkdir(exist_ok=True)
        found = json.dumps(collected(commit))
        (HOME / f"{ftnn.__version__}.json").write_text(found + "\n")
    files = sorted(HOME.glob("*.json"), key=lambda path: [*map(int, path.stem.split("."))])
    earlier = None
    for path in files:
        data = json.loads(path.read_text())
        path.with_suffix(".md").write_text(page(path.stem, data, earlier))
        earlier = {"name": path.stem, **data}
    print(f"{len(files)} pages in {HOME.relative_to(ROOT)}")


if __name__ == "__main__":
    main()

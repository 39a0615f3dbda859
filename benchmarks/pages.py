"""What the scripts that write pages share: folders, tables, lines of the README, pictures."""

import re
import shutil
import statistics
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
RUNS = ROOT / "runs"
DOCS = ROOT / "docs"


def spread(values: Sequence[float], spec: str = ".2f", unit: str = "") -> str:
    """Mean and standard deviation over seeds, and the single values."""
    values = list(values)
    if len(values) == 1:
        return f"{values[0]:{spec}}{unit} (one run)"
    mean, deviation = statistics.mean(values), statistics.stdev(values)
    single = ", ".join(format(value, spec) for value in values)
    return f"{mean:{spec}} ± {deviation:{spec}}{unit} ({single})"


def write_table(name: str, heads: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    """Write ``docs/NAME.md`` and print it."""
    rows = [heads, ["---"] * len(heads), *lines]
    text = "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"
    (DOCS / f"{name}.md").write_text(text)
    print(text)


def write_readme(name: str, text: str) -> None:
    """Replace what stands in the README between the marks of an experiment."""
    readme = ROOT / "README.md"
    marked = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
    readme.write_text(marked.sub(lambda m: f"{m[1]}{text}\n{m[2]}", readme.read_text()))


def copy_picture(source: Path, name: str) -> None:
    """Copy a picture of a run into the images of the documentation."""
    (DOCS / "images").mkdir(exist_ok=True)
    shutil.copy(source, DOCS / "images" / name)

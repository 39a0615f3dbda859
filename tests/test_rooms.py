"""The order of the rooms: what each module of ftnn may import, and what importing ftnn loads."""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import ftnn

ROOT = Path(ftnn.__file__).parent
ROOMS = (
    "arrays",
    "chains",
    "truncation",
    "layers",
    "nonlinear",
    "encoding",
    "growth",
    "structure",
    "interpret",
    "training",
    "measure",
    "plotting",
    "tensorized",
    "sklearn",
    "experiments",
    "cli",
)
"""A room imports from itself and from those before it."""


def module_name(path, root):
    parts = path.relative_to(root.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_modules(path, name, modules):
    """Names of the modules of ``modules`` that a file imports, inside functions too."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found = set()

    def add(target, names=()):
        inner = {f"{target}.{n}" for n in names} & modules
        plain = [n for n in names if f"{target}.{n}" not in modules]
        found.update(inner | ({target} if plain or not names else set()))

    def walk(node):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.orelse:
                walk(child)
            return
        if isinstance(node, ast.Import):
            for alias in node.names:
                add(alias.name)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")
                base = ".".join([*parts[: len(parts) - node.level + 1], *filter(None, [base])])
            add(base, [alias.name for alias in node.names])
        for child in ast.iter_child_nodes(node):
            walk(child)

    walk(ast.parse(path.read_text()))
    return (found & modules) - {name}


def import_graph(root):
    """Module to the modules it imports, of a package folder."""
    paths = {module_name(path, root): path for path in sorted(root.rglob("*.py"))}
    modules = set(paths)
    return {name: imported_modules(path, name, modules) for name, path in paths.items()}


def cycle(graph):
    """Modules of some circle of imports, or none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def room_of(module):
    """Room of a module; None for ftnn itself and its main."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] != "__main__" else None


def downward_imports(graph):
    """Imports of a room by one that comes before it."""
    return [
        f"{module} imports {other}"
        for module, others in graph.items()
        for other in sorted(others)
        if room_of(module) and room_of(other)
        if ROOMS.index(room_of(other)) > ROOMS.index(room_of(module))
    ]


GRAPH = import_graph(ROOT)


def test_every_module_is_in_a_room():
    assert {room_of(module) for module in GRAPH} - {None} <= set(ROOMS)


def test_modules_do_not_import_each_other_in_circles():
    assert cycle(GRAPH) == []


def test_rooms_import_only_rooms_before_them():
    assert downward_imports(GRAPH) == []


def test_what_breaks_the_order_is_seen(tmp_path):
    # the two tests above can fail: imports inside functions count, those for types do not
    files = {
        "__init__.py": "",
        "arrays/__init__.py": "",
        "arrays/one.py": "def f():\n    from . import two\n",
        "arrays/two.py": "from ..arrays.one import f\nfrom ..chains.states import MPS\n",
        "chains/__init__.py": "",
        "chains/states.py": (
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ..cli import app\n"
            "import ftnn.arrays.one\nMPS = 1\n"
        ),
        "cli.py": "app = 1\n",
    }
    root = tmp_path / "ftnn"
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    graph = import_graph(root)
    assert graph["ftnn.arrays.one"] == {"ftnn.arrays.two"}
    assert graph["ftnn.chains.states"] == {"ftnn.arrays.one"}
    assert set(cycle(graph)) >= {"ftnn.arrays.one", "ftnn.arrays.two"}
    assert downward_imports(graph) == ["ftnn.arrays.two imports ftnn.chains.states"]


def run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.parametrize(
    "code", ["import ftnn", "import ftnn; ftnn.MPS, ftnn.Linear, ftnn.compress"]
)
def test_importing_ftnn_loads_no_backend(code):
    out = run(
        code + "; import sys; print([m for m in ('torch', 'cupy', 'jax') if m in sys.modules])"
    )
    assert out.strip() == "[]"


NUMPY_ONLY = """
import sys
for name in ("torch", "cupy", "jax"):
    sys.modules[name] = None  # importing it raises ImportError
import numpy as np, ftnn
from ftnn.nonlinear import KAN, Elementwise, Gated, LayerNorm, Pointwise, RMSNorm
dims = (2, 3, 2)
model = ftnn.Sequential(
    ftnn.Linear(dims, dims, 2, 3), KAN(dims), RMSNorm(), Gated(dims, dims, 1, 3),
    LayerNorm(dims, 3), Pointwise("gelu"), ftnn.Residual(ftnn.Linear(dims, dims, 2, 3), 3),
    ftnn.Readout(dims, 4, 2),
)
x = ftnn.MPS.from_dense(np.random.default_rng(0).standard_normal((5, 12)), dims)
assert model(x).shape == (5, 4)
for method in ("direct", "dm", "zipup", "fit", "src", "src-oversample", "sdc"):
    assert ftnn.compress(x + x * x, method=method, rtol=0.1).L == 3
"""


def test_models_of_numpy_need_no_other_backend():
    run(NUMPY_ONLY)

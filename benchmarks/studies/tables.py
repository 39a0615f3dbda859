"""Estimators on scikit-learn's tables, beside linear models: the table of docs/scikit-learn.md.

`python benchmarks/studies/tables.py run` fits every fold of every seed and keeps the scores in
runs/tables; what is there already is skipped. `... report` writes docs/tables-table.md. `... why`
measures how chains of product states collapse when they are trained without care, and what mends
it. Nothing is tuned here: the defaults of the estimators were chosen on made-up data (see the
page), and each fit sees its training fold only.
"""

import argparse
import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from sklearn import datasets
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import r2_score
from sklearn.model_selection import KFold, StratifiedKFold, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

if not __package__:  # run as a script
    sys.path.insert(0, str(Path(__file__).parents[2]))

import ftnn
from ftnn.encoding import TableEncoder
from ftnn.experiments import Experiment, get_experiment
from ftnn.experiments.setup import objective_for, prepare
from ftnn.experiments.table.options import TableOptions
from ftnn.sklearn import TensorNetworkClassifier, TensorNetworkRegressor
from ftnn.training import TorchModule, Trainer
from ftnn.training.options import replace_values

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "runs" / "tables"
PAGE = range(20)
"""Seeds of the page; others serve for development."""
FOLDS = 5
CLASSIFICATION = ("breast cancer", "wine", "iris", "digits")
LOADERS: dict[str, Callable] = {
    "breast cancer": datasets.load_breast_cancer,
    "wine": datasets.load_wine,
    "iris": datasets.load_iris,
    "digits": datasets.load_digits,
    "diabetes": datasets.load_diabetes,
    "California housing": lambda return_X_y: datasets.fetch_california_housing(
        return_X_y=return_X_y, download_if_missing=False
    ),
}
LARGE = ("digits", "California housing")
SEEDS = {"California housing": 1}


def load(name: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Data (n, columns) and targets (n,); None if they are not on this machine."""
    try:
        return LOADERS[name](return_X_y=True)
    except OSError:
        return None


def run(names: list[str], seeds: range) -> None:
    """Fit network and linear model to every fold of every seed."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds):
        for name in names:
            path = RESULTS / f"{name.replace(' ', '-')}-{seed}.json"
            if path.exists() or number >= SEEDS.get(name, len(seeds)):
                continue
            data = load(name)
            if data is None:
                print(f"{name}: not on this machine")
                continue
            folds = [
                fold(name, *data, train, test, seed) for train, test in _split(name, data, seed)
            ]
            path.write_text(json.dumps(folds))
            means = {key: statistics.mean(f[key] for f in folds) for key in ("network", "linear")}
            print(name, seed, {key: round(mean, 4) for key, mean in means.items()}, flush=True)


def fold(
    name: str, X: np.ndarray, y: np.ndarray, train: np.ndarray, test: np.ndarray, seed: int
) -> dict:
    """Scores of one fold, and the seconds of the network's fit."""
    if name in CLASSIFICATION:
        network = TensorNetworkClassifier(random_state=seed)
        baseline = LogisticRegression(max_iter=5000)
        floor = float(np.mean(y[test] == np.bincount(y[train]).argmax()))
    else:
        network = TensorNetworkRegressor(random_state=seed)
        baseline, floor = RidgeCV(np.logspace(-3, 4, 22)), 0.0
    linear = make_pipeline(StandardScaler(), baseline).fit(X[train], y[train])
    begin, cpu = time.perf_counter(), time.process_time()
    network.fit(X[train], y[train])
    return {
        "network": network.score(X[test], y[test]),
        "linear": linear.score(X[test], y[test]),
        "floor": floor,
        "epochs": network.n_iter_,
        "features": network.encoder_.features,
        "seconds": time.perf_counter() - begin,
        "cpu_seconds": time.process_time() - cpu,
    }


def collapsed(result: dict) -> bool:
    """Whether a fold is near the majority class, or far below the linear model."""
    near = result["network"] < result["floor"] + 0.1 if result["floor"] else result["network"] < 0
    return near or result["network"] < 0.8 * result["linear"]


def report() -> None:
    """Write the table."""
    lines = [
        "| data | score | folds | network | linear model | difference | collapsed folds | "
        "trained beyond the start | seconds a fit |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name in LOADERS:
        paths = [RESULTS / f"{name.replace(' ', '-')}-{seed}.json" for seed in PAGE]
        runs = [json.loads(path.read_text()) for path in paths if path.exists()]
        if not runs:
            lines.append(f"| {name} | | 0 | not on this machine | | | | | |")
            continue
        folds = [f for one in runs for f in one]
        gaps = [statistics.mean(f["network"] - f["linear"] for f in one) for one in runs]
        cells = [
            name,
            "accuracy" if name in CLASSIFICATION else "R²",
            str(len(folds)),
            *(_spread(runs, folds, key) for key in ("network", "linear")),
            f"{statistics.mean(gaps):+.4f}" + _error(gaps),
            str(sum(map(collapsed, folds))),
            f"{100 * np.mean([f['epochs'] > 0 for f in folds]):.0f} %",
            f"{statistics.median(f['cpu_seconds'] for f in folds):.1f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    (ROOT / "docs" / "tables-table.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def _spread(runs: list[list[dict]], folds: list[dict], key: str, what: str = "fold") -> str:
    """Mean, deviation over the seeds of five-fold means, and the worst fold."""
    means = [statistics.mean(f[key] for f in one) for one in runs]
    spread = f" ± {statistics.stdev(means):.4f}" if len(means) > 1 else ""
    return f"{statistics.mean(means):.4f}{spread} (worst {what} {min(f[key] for f in folds):.3f})"


def _error(values: list[float]) -> str:
    if len(values) < 2:
        return ""
    return f" ± {statistics.stdev(values) / len(values) ** 0.5:.4f}"


def _split(name: str, data: tuple[np.ndarray, np.ndarray], seed: int):
    kind = StratifiedKFold if name in CLASSIFICATION else KFold
    return kind(FOLDS, shuffle=True, random_state=seed).split(*data)


# ---- made-up data ------------------------------------------------------------------------------


def _normal(n: int, columns: int, seed: int) -> tuple[np.ndarray, np.random.Generator]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, columns)), rng


def _noisy(seed: int) -> tuple[np.ndarray, np.ndarray]:
    X, rng = _normal(440, 10, seed)
    return X, X @ rng.normal(size=10) + 2.6 * rng.normal(size=440)


def _one_product(seed: int) -> tuple[np.ndarray, np.ndarray]:
    X, rng = _normal(400, 8, seed)
    return X, X @ rng.normal(size=8) + 0.7 * X[:, 0] * X[:, 5] + 1.5 * rng.normal(size=400)


def _logistic(seed: int) -> tuple[np.ndarray, np.ndarray]:
    X, rng = _normal(400, 12, seed)
    return X, (X @ rng.normal(size=12) + 2.0 * rng.logistic(size=400) > 0).astype(int)


def _clusters(seed: int) -> tuple[np.ndarray, np.ndarray]:
    return datasets.make_classification(
        600, 12, n_informative=6, n_clusters_per_class=3, random_state=seed
    )


MADE_UP: dict[str, Callable] = {
    "Friedman 1, 500 rows": lambda seed: datasets.make_friedman1(500, noise=1.0, random_state=seed),
    "Friedman 2, 400 rows": lambda seed: datasets.make_friedman2(400, noise=1e2, random_state=seed),
    "Friedman 3, 400 rows": lambda seed: datasets.make_friedman3(400, noise=0.2, random_state=seed),
    "2 classes of 3 clusters, 600 rows": _clusters,
    "linear and one small product, 400 rows": _one_product,
    "linear with much noise, 440 rows": _noisy,
    "2 classes, linear, 400 rows": _logistic,
}


def made_up(seeds: int) -> None:
    """Fit network and linear model to data whose nature is known."""
    rows = [
        "| data | score | draws | network | linear model | difference | trained | quadratic |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, draw in MADE_UP.items():
        runs = []
        for seed in range(seeds):
            X, y = draw(seed)
            classes = name if np.issubdtype(y.dtype, np.floating) else CLASSIFICATION[0]
            train, test = train_test_split(np.arange(len(y)), test_size=0.3, random_state=seed)
            runs.append([fold(classes, X, y, train, test, seed)])
        folds = [f for one in runs for f in one]
        gaps = [f["network"] - f["linear"] for f in folds]
        cells = [
            name,
            "accuracy" if classes in CLASSIFICATION else "R²",
            str(seeds),
            *(_spread(runs, folds, key, "draw") for key in ("network", "linear")),
            f"{statistics.mean(gaps):+.4f}" + _error(gaps),
            str(sum(f["epochs"] > 0 for f in folds)),
            str(sum(f["features"] == "polynomial" for f in folds)),
        ]
        rows.append(f"| {' | '.join(cells)} |")
        print(rows[-1], flush=True)
    (ROOT / "docs" / "tables-made-up.md").write_text("\n".join(rows) + "\n")


# ---- ftnn train table ---------------------------------------------------------------------------


def command(names: list[str], seeds: int) -> None:
    """Train as `ftnn train table` does, on files with their rows in another order every time."""
    experiment = get_experiment("table")
    rows = [
        "| data | score | orders | ftnn train table | linear model, same rows | difference |",
        "|---|---|---|---|---|---|",
    ]
    for name in names:
        data = load(name)
        if data is None or name in LARGE:
            continue
        runs = []
        for seed in range(seeds):
            with TemporaryDirectory() as folder:
                path = Path(folder) / "table.csv"
                _write(path, *data, np.random.default_rng(seed))
                values = {"data": str(path), "target": "target", "seed": seed}
                options = replace_values(experiment.tuned_options(), values)
                runs.append([_trained(experiment, options, name)])
            print(name, seed, runs[-1], flush=True)
        gaps = [one["network"] - one["linear"] for [one] in runs]
        folds = [f for one in runs for f in one]
        cells = [
            name,
            "accuracy" if name in CLASSIFICATION else "R²",
            str(seeds),
            *(_spread(runs, folds, key, "order") for key in ("network", "linear")),
            f"{statistics.mean(gaps):+.4f}" + _error(gaps),
        ]
        rows.append(f"| {' | '.join(cells)} |")
    (ROOT / "docs" / "tables-command.md").write_text("\n".join(rows) + "\n")
    print("\n".join(rows))


def _write(path: Path, X: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> None:
    """Write a table with its rows in a random order."""
    order = rng.permutation(len(y))
    header = ",".join([*(f"x{k}" for k in range(X.shape[1])), "target"])
    table = np.concatenate([X, y[:, None]], axis=1)[order]
    np.savetxt(path, table, "%.17g", ",", header=header, comments="")


def _trained(experiment: Experiment, options: TableOptions, name: str) -> dict:
    """Scores of the test rows, of a trained network and of a linear model of all other rows."""
    setup = prepare(experiment, options)
    data = setup.data
    objective = objective_for(data.score)
    own = experiment.callbacks(options, data) if experiment.callbacks else ()
    trainer = Trainer(setup.model, setup.encoder, options.train, None, True, objective, own)
    fitted = trainer.fit(data)
    outputs = trainer.evaluate(data.test_inputs, data.test_targets).outputs
    X = np.concatenate([data.train_inputs, data.val_inputs]).astype(float)
    y = np.concatenate([data.train_targets, data.val_targets])
    kind = name in CLASSIFICATION
    baseline = LogisticRegression(max_iter=5000) if kind else RidgeCV(np.logspace(-3, 4, 22))
    linear = make_pipeline(StandardScaler(), baseline).fit(X, y)
    if kind:
        network = float(np.mean(outputs.argmax(axis=1) == data.test_targets))
    else:
        network = float(r2_score(data.test_targets, outputs[:, 0]))
    return {
        "network": network,
        "epochs": fitted.epochs,
        "linear": linear.score(data.test_inputs.astype(float), data.test_targets),
    }


# ---- why chains collapse -------------------------------------------------------------------------


def why(seeds: int, epochs: int = 10) -> None:
    """Train the obvious network on breast cancer: product states, one Linear, a Readout."""
    scales = (("scale=1", 1.0), ("scale=1, no clipping", 1.0), ("default, 1/√30", None))
    rows = [
        "| TableEncoder | log norm of a state: deviation over samples | accuracy, every seed | "
        "largest loss of a step | last loss |",
        "|---|---|---|---|---|",
    ]
    X, y = datasets.load_breast_cancer(return_X_y=True)
    for title, scale in scales:
        clip = 100.0 if "no clipping" in title else 3.0
        encoder = TableEncoder(scale=scale, clip=clip)
        results = [_obvious(X, y, encoder, seed, epochs) for seed in range(seeds)]
        accuracy = ", ".join(f"{r['accuracy']:.2f}" for r in results)
        rows.append(
            f"| {title} | {statistics.mean(r['spread'] for r in results):.2f} | {accuracy} | "
            f"{max(r['largest'] for r in results):.3g} | "
            f"{statistics.median(r['last'] for r in results):.2g} |"
        )
    (ROOT / "docs" / "tables-collapse.md").write_text("\n".join(rows) + "\n")
    print("\n".join(rows))


def _obvious(X: np.ndarray, y: np.ndarray, encoder: TableEncoder, seed: int, epochs: int) -> dict:
    train, test = next(iter(_split("breast cancer", (X, y), seed)))
    sites = encoder.fit(X[train]).encode(X.astype(np.float32))
    cores = tuple(torch.from_numpy(site) for site in sites)  # (n, 1, 2, 1)
    dims, hidden = (2,) * len(cores), (3,) * len(cores)
    layers = [ftnn.Linear(dims, hidden, 3, 4, seed=seed), ftnn.Readout(hidden, 2, 4, seed=seed)]
    model = ftnn.Sequential(*layers).to("torch", "float32")
    rows, labels = torch.from_numpy(train), torch.from_numpy(y)
    with torch.no_grad():
        ftnn.calibrate(model, tuple(core[rows] for core in cores))
    module = TorchModule(model)
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-2)
    generator, losses = torch.Generator().manual_seed(seed), []
    for _ in range(epochs):
        for batch in rows[torch.randperm(len(rows), generator=generator)].split(64):
            outputs = module.apply_cores(tuple(core[batch] for core in cores))
            loss = torch.nn.functional.cross_entropy(outputs, labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    with torch.no_grad():
        outputs = module.apply_cores(tuple(core[test] for core in cores)).numpy()
    squares = np.stack([site[train, 0, 1, 0] ** 2 for site in sites])  # (L, n)
    log_norms = 0.5 * np.log1p(squares).sum(axis=0)
    return {
        "accuracy": float(np.mean(outputs.argmax(axis=1) == y[test])),
        "spread": float(log_norms.std()),
        "largest": max(losses),
        "last": losses[-1],
    }


def main() -> None:
    """Run, report, or measure the collapse."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("run", "report", "made-up", "command", "why"))
    parser.add_argument("--data", nargs="+", choices=LOADERS, default=list(LOADERS))
    parser.add_argument("--seeds", type=int, default=len(PAGE), help="how many")
    parser.add_argument("--first-seed", type=int, default=PAGE.start, help="of other seeds")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.what == "run":
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            first = arguments.first_seed
            run(arguments.data, range(first, first + arguments.seeds))
    elif arguments.what == "report":
        report()
    elif arguments.what == "made-up":
        made_up(arguments.seeds)
    elif arguments.what == "command":
        command(arguments.data, arguments.seeds)
    else:
        why(arguments.seeds)


if __name__ == "__main__":
    main()

"""Runs and results that the studies share: made once, kept in runs/."""

import json
import resource
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from ftnn.experiments import get_experiment, run
from ftnn.experiments.cache import end_with_parent
from ftnn.experiments.folder import has_begun, read_summary
from ftnn.training.files import write_json
from ftnn.training.options import replace_values


def trained(folder: Path, experiment: str, **changes: Any) -> dict[str, Any]:
    """Train into a folder, unless a complete run is there already, and return its summary.

    Parameters
    ----------
    folder : path
    experiment : str
    **changes
        Options that are to differ from those the experiment was tuned with; a run that was
        interrupted keeps its own.
    """
    summary = read_summary(folder)
    if "experiment" in summary:
        return summary
    resume = has_begun(folder)
    tuned = get_experiment(experiment).tuned_options()
    options = None if resume else replace_values(tuned, changes)
    result = run(experiment, options, folder, resume)
    if result.outcome == "stopped":
        raise KeyboardInterrupt
    return result.summary


def kept(path: Path, name: str, measure: Callable[[], Any]) -> Any:
    """Return a result kept in a file of JSON by name, or measure and keep it."""
    results = _read(path)
    if name not in results:
        result = measure()
        results = _read(path) | {name: result}  # others may have written meanwhile
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, results)
        print(name, results[name] if isinstance(results[name], (float, dict)) else "", flush=True)
    return results[name]


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.is_file() else {}


def in_process(function: Callable[..., Any], *args: Any) -> tuple[Any, float]:
    """Call a function in a process of its own; return the result, and that process's peak in GiB.

    The peak is that of its resident memory, some 0.3 GiB of which are libraries.
    """
    with ProcessPoolExecutor(1, get_context("spawn"), end_with_parent) as pool:
        return pool.submit(_with_peak, function, args).result()


def _with_peak(function: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Any, float]:
    result = function(*args)
    return result, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20

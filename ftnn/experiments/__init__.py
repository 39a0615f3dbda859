"""Experiments: data, a model, options; and one function that runs them.

Each shipped experiment is a folder with its options, its data, its model, its conclusion, and its
tuned values, ``config.toml``. It is imported on demand, and the names below when first used (PEP
562).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..training.inputs import select_rows
    from ..training.options import option
    from .experiment import Experiment, resolve
    from .folder import load_run
    from .options import ExperimentOptions
    from .registry import experiment_names, experiment_of_file, get_experiment, register
    from .runner import Result, run
    from .splits import Data, NewSamples, hold_out

__all__ = [
    "Data",
    "Experiment",
    "ExperimentOptions",
    "NewSamples",
    "Result",
    "experiment_names",
    "experiment_of_file",
    "get_experiment",
    "hold_out",
    "load_run",
    "option",
    "register",
    "resolve",
    "run",
    "select_rows",
]

_HOMES = {
    "Data": ".splits",
    "Experiment": ".experiment",
    "ExperimentOptions": ".options",
    "NewSamples": ".splits",
    "Result": ".runner",
    "experiment_names": ".registry",
    "experiment_of_file": ".registry",
    "get_experiment": ".registry",
    "hold_out": ".splits",
    "load_run": ".folder",
    "option": "..training.options",
    "register": ".registry",
    "resolve": ".experiment",
    "run": ".runner",
    "select_rows": "..training.inputs",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name], __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

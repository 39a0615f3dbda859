"""Registry of experiments: shipped, registered, or defined in a user's file."""

import os
import sys
from dataclasses import replace
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from .experiment import Experiment

SHIPPED = {
    "digits": "digits",
    "fashion-mnist": "fashion_mnist",
    "fashion-mnist-quantics": "fashion_mnist_quantics",
    "quantum-phases": "quantum_phases",
    "quantics": "quantics",
    "burgers": "burgers",
    "two-scale": "two_scale",
    "quantum-dynamics": "quantum_dynamics",
    "compression": "compression",
    "table": "table",
    "images": "images",
}
"""Command-line name of every shipped experiment, and its package."""

_REGISTERED: dict[str, Experiment] = {}


def experiment_names() -> tuple[str, ...]:
    """Return the names of all experiments, registered ones last."""
    return (*SHIPPED, *_REGISTERED)


def register(experiment: Experiment) -> Experiment:
    """Register an experiment, so that :func:`get_experiment` and the command line find it by name.

    Parameters
    ----------
    experiment : Experiment

    Returns
    -------
    Experiment
        The one given.

    Raises
    ------
    TypeError
        If it is not an experiment.
    ValueError
        If its name is invalid, or that of a shipped experiment.

    Examples
    --------
    >>> from ftnn.experiments import Experiment, ExperimentOptions, get_experiment, register
    >>> mine = Experiment("mine", "Nothing yet.", ExperimentOptions, load=None, build=None)
    >>> register(mine) is get_experiment("mine")
    True
    """
    if not isinstance(experiment, Experiment):
        raise TypeError(f"experiment is a {type(experiment).__name__}, expected an Experiment")
    name = experiment.name
    if name in SHIPPED:
        raise ValueError(f"there is an experiment {name!r} in ftnn; choose another name")
    if not name.replace("-", "").replace("_", "").isalnum():
        raise ValueError(f"name is {name!r}, expected letters, digits, - and _")
    _REGISTERED[name] = experiment
    return experiment


def get_experiment(name: str) -> Experiment:
    """Return the experiment called ``name``, shipped or registered.

    Examples
    --------
    >>> get_experiment("mnist")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    ValueError: there is no experiment 'mnist'; choose one of digits, ...
    """
    if name in SHIPPED:
        return import_module(f".{SHIPPED[name]}", __package__).EXPERIMENT
    if name in _REGISTERED:
        return _REGISTERED[name]
    raise ValueError(
        f"there is no experiment {name!r}; choose one of {', '.join(experiment_names())}, or give "
        "a Python file that defines one"
    )


def find_experiment(name: str) -> Experiment:
    """Return the experiment called ``name``, or the one in a file if ``name`` is its path."""
    is_path = name.endswith(".py") or os.sep in name
    return experiment_of_file(name) if is_path else get_experiment(name)


def experiment_of_file(path: str | os.PathLike[str]) -> Experiment:
    """Import a Python file and return the experiment that it defines.

    Parameters
    ----------
    path : path
        The file has an ``EXPERIMENT``; or a dataclass ``Options`` with functions ``load`` and
        ``build``, from which an :class:`Experiment` with the name of the file is made. The code of
        the file is run.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ValueError
        If it cannot be imported, or defines no experiment.
    """
    path = Path(path).absolute()
    if not path.is_file():
        raise FileNotFoundError(f"experiment file {path} does not exist")
    name = f"ftnn_experiment_{path.stem}"
    spec = spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} is not a Python file; give the path of a .py file")
    module = module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their annotations up there
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ValueError(f"{path}: cannot be imported: {type(error).__name__}: {error}") from error
    parts = vars(module)
    experiment = parts.get("EXPERIMENT")
    if experiment is None and parts.keys() >= {"Options", "load", "build"}:
        description = (module.__doc__ or path.name).strip().splitlines()[0]
        experiment = Experiment(
            path.stem, description, parts["Options"], parts["load"], parts["build"]
        )
    if not isinstance(experiment, Experiment):
        raise ValueError(
            f"{path} defines no experiment; give it an EXPERIMENT = ftnn.experiments.Experiment("
            "...), or a dataclass Options with functions load and build"
        )
    if experiment.name in SHIPPED:
        raise ValueError(
            f"{path}: there is an experiment {experiment.name!r} in ftnn; choose another name"
        )
    return replace(experiment, file=path)

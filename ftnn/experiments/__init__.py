"""The shipped experiments: data set, model and configuration of each.

An experiment is a module with an attribute ``EXPERIMENT``; it is imported when asked for.
"""

from importlib import import_module

from .base import Config, Data, Experiment, resolve

EXPERIMENTS = {
    "digits": "digits",
    "fashion-mnist": "fashion_mnist",
    "fashion-mnist-quantics": "fashion_mnist_quantics",
    "quantum-phases": "quantum_phases",
    "quantics": "quantics",
    "burgers": "burgers",
}
"""Name of every experiment, as typed, and its module."""

__all__ = ["EXPERIMENTS", "Config", "Data", "Experiment", "get_experiment", "resolve"]


def get_experiment(name: str) -> Experiment:
    """Experiment called ``name``.

    Examples
    --------
    >>> get_experiment("mnist")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    ValueError: there is no experiment 'mnist'; choose one of digits, ...
    """
    if name not in EXPERIMENTS:
        raise ValueError(f"there is no experiment {name!r}; choose one of {', '.join(EXPERIMENTS)}")
    return import_module(f".{EXPERIMENTS[name]}", __name__).EXPERIMENT

"""Training with torch: the adapter to :class:`torch.nn.Module`, the trainer, its checkpoints.

The names below are imported when first used (PEP 562): what needs no torch can be had without.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .config import TrainConfig
    from .data import TrainingData
    from .module import TorchModule, cores_to_torch
    from .objective import Classification, Objective, StateRegression
    from .state import FitResult
    from .trainer import Trainer
    from .update import DivergenceError, Evaluation

__all__ = [
    "Classification",
    "DivergenceError",
    "Evaluation",
    "FitResult",
    "Objective",
    "StateRegression",
    "TorchModule",
    "TrainConfig",
    "Trainer",
    "TrainingData",
    "cores_to_torch",
]

_HOMES = {
    "Classification": "objective",
    "DivergenceError": "update",
    "Evaluation": "update",
    "FitResult": "state",
    "Objective": "objective",
    "StateRegression": "objective",
    "TorchModule": "module",
    "TrainConfig": "config",
    "Trainer": "trainer",
    "TrainingData": "data",
    "cores_to_torch": "module",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        import torch  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise ImportError("ftnn.training needs torch; `pip install 'ftnn[torch]'`") from None
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""Training with torch: the adapter to :class:`torch.nn.Module`, the trainer, its checkpoints.

The names below are imported when first used (PEP 562): parts that do not need torch work without
it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .callbacks import Callback
    from .config import TrainConfig
    from .data import TrainingData
    from .evaluation import Evaluation, evaluate, predict
    from .fit import Fit
    from .module import TorchModule, cores_to_torch
    from .objective import Classification, Objective, Regression, StateRegression
    from .progress import FitResult
    from .step_stats import DivergenceError
    from .tensorboard import TensorBoard
    from .trainer import Trainer

__all__ = [
    "Callback",
    "Classification",
    "DivergenceError",
    "Evaluation",
    "Fit",
    "FitResult",
    "Objective",
    "Regression",
    "StateRegression",
    "TensorBoard",
    "TorchModule",
    "TrainConfig",
    "Trainer",
    "TrainingData",
    "cores_to_torch",
    "evaluate",
    "predict",
]

_HOMES = {
    "Callback": "callbacks",
    "Classification": "objective",
    "DivergenceError": "step_stats",
    "Evaluation": "evaluation",
    "Fit": "fit",
    "FitResult": "progress",
    "Objective": "objective",
    "Regression": "objective",
    "StateRegression": "objective",
    "TensorBoard": "tensorboard",
    "TorchModule": "module",
    "TrainConfig": "config",
    "Trainer": "trainer",
    "TrainingData": "data",
    "cores_to_torch": "module",
    "evaluate": "evaluation",
    "predict": "evaluation",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "torch":
            raise
        message = f"ftnn.training.{name} needs torch; `pip install 'ftnn[torch]'`"
        raise ImportError(message) from None
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

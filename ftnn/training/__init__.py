"""Training with torch: the adapter to :class:`torch.nn.Module`, the trainer, its checkpoints."""

try:
    import torch  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    raise ImportError("ftnn.training needs torch; `pip install 'ftnn[torch]'`") from None

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

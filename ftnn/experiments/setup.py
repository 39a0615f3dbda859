"""Setup: everything a training needs, checked and ready."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..arrays.backend import check_backend
from ..encoding import Encoder
from ..layers.files import load
from ..layers.layer import Layer
from ..training.score import Score
from .experiment import Experiment
from .folder import MODEL, START
from .splits import Data

if TYPE_CHECKING:
    from ..training import Objective


@dataclass(frozen=True, eq=False)
class Setup:
    """Everything a training needs, checked and ready.

    ``options`` are those of the whole run; ``stage``, the data and the model are those of a stage
    of it, which may have ``started`` with the weights of another run.
    """

    experiment: Experiment
    options: Any
    stage: Any
    data: Data
    encoder: Encoder | None
    model: Layer
    started: bool


def prepare(experiment: Experiment, options: Any, run_dir: Path | None = None) -> Setup:
    """Check options, load the data, build encoder and model.

    Parameters
    ----------
    experiment : Experiment
    options : dataclass of options
    run_dir : Path, optional
        Run to resume: it keeps what it started with, whatever became of the run it is from.

    Raises
    ------
    ValueError, TypeError, FileNotFoundError
        If an option is wrong, torch is missing, or the data are nowhere.
    """
    check_torch()
    from ..training.optimizer import resolve_device

    resolve_device(options.train.device)
    experiment.check(options)
    data = experiment.load(options)
    encoder, model = experiment.build(options, data)
    if options.start is not None:
        start = options.start if run_dir is None else run_dir / START
        model = start_with(experiment, start, trained_model(start), model)
    return Setup(experiment, options, options, data, encoder, model, options.start is not None)


def trained_model(start: str | Path) -> Layer:
    """Load the model of a run folder or of a model file, to start with."""
    path = Path(start)
    try:
        return load(path / MODEL if path.is_dir() else path)
    except FileNotFoundError:
        raise FileNotFoundError(f"start is {str(start)!r}, but there is no model") from None
    except ValueError as error:
        raise ValueError(f"start is {str(start)!r}: {error}") from None


def start_with(experiment: Experiment, start: str | Path, trained: Layer, built: Layer) -> Layer:
    """Return the model to train: the one built, with the weights of a trained one.

    Raises
    ------
    ValueError
        If its network is not that of the options; ``start`` names it.
    """
    try:
        if experiment.carry is not None:
            return experiment.carry(trained, built)
        arrays = trained.named_arrays()
        missing = built.named_arrays().keys() - arrays.keys()
        if missing:
            raise ValueError(f"it has no array {min(missing)!r}")
        built.set_arrays(arrays)
    except ValueError as error:
        raise ValueError(
            f"start is {str(start)!r}, whose network does not fit: {error}; "
            "give the options it was trained with"
        ) from None
    return built


def check_torch() -> None:
    """Raise ``ValueError`` where torch, which trains, is not installed."""
    check_backend("torch")


def objective_for(score: Score) -> "Objective":
    """Return the objective with a score: classes, numbers or states are learned."""
    from ..training import Classification, Regression, StateRegression

    objectives = (Classification(), Regression(), StateRegression())
    return next(objective for objective in objectives if objective.score == score)

"""The run folder of an experiment: its name, its contents, and how to load it.

A run folder holds ``config.json``, ``metrics.jsonl``, ``model.safetensors`` (with the encoder),
the checkpoint to resume from, ``summary.json``, the figures, and ``start.safetensors`` if it
started with the weights of another run.
"""

import hmac
import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..training.options import flat, specs_of
from .experiment import Experiment, with_values
from .registry import experiment_of_file, get_experiment

if TYPE_CHECKING:
    from ..encoding import Encoder
    from ..layers.layer import Layer

CONFIG, MODEL, SUMMARY = "config.json", "model.safetensors", "summary.json"

START = "start.safetensors"
"""File with the initial model of a run, unless that is a new one."""

_REMEDY = "restore the file, or train again in a new folder"


@dataclass(frozen=True, eq=False)
class Run:
    """A run folder, loaded; the model is on NumPy."""

    path: Path
    experiment: Experiment
    options: Any
    encoder: "Encoder | None"
    model: "Layer"

    def fitted_encoder(self) -> "Encoder":
        """Return the encoder, or raise ``ValueError`` if the model file holds none."""
        if self.encoder is None:
            raise ValueError(
                f"{self.path / MODEL} holds no encoder, which experiment {self.experiment.name} "
                f"needs for its inputs; {_REMEDY}"
            )
        return self.encoder

    def check_inputs(self, inputs: Any) -> None:
        """Raise ``ValueError`` unless encoder and model take these inputs; one is tried."""
        from ..chains.states import MPS
        from ..training.inputs import check_inputs, check_states, select_rows

        one = select_rows(inputs, slice(1))
        if isinstance(inputs, (MPS, tuple)):
            cores = check_states(one, "inputs")
        else:
            encoder = self.fitted_encoder()
            try:
                check_inputs(one, encoder, "inputs")
                cores = encoder.encode(one)
            except (LookupError, TypeError, ValueError) as error:
                raise ValueError(
                    f"the encoder of {self.path / MODEL} does not take the inputs of experiment "
                    f"{self.experiment.name} ({error}); {_REMEDY}"
                ) from None
        dims = tuple(core.shape[2] for core in cores)
        if self.model.in_dims is not None and dims != self.model.in_dims:
            raise ValueError(
                f"the model of {self.path / MODEL} takes states of phys_dims "
                f"{self.model.in_dims}, but the inputs of experiment {self.experiment.name} are "
                f"states of phys_dims {dims}; {_REMEDY}"
            )


def new_run_dir(name: str, root: str | os.PathLike[str] = "runs") -> Path:
    """Return the path of a folder for a new run, named after the time; it is not created."""
    stem = f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    path, number = Path(root) / stem, 1
    while path.exists():
        number += 1
        path = Path(root) / f"{stem}-{number}"
    return path


def check_free(run_dir: Path) -> None:
    """Raise ``ValueError`` if training into this folder would overwrite a run."""
    place = next((path for path in (run_dir, *run_dir.parents) if path.exists()), run_dir)
    if place.exists() and not place.is_dir():
        raise ValueError(f"{place} is a file; choose a folder with --out DIR")
    if has_begun(run_dir) or (run_dir / MODEL).exists():
        raise ValueError(
            f"{run_dir} holds a run already; resume with `--resume {run_dir}`, "
            "or choose another folder with --out DIR"
        )


def stage_path(run_dir: Path, number: int) -> Path:
    """Return the folder of a stage before the last one, by its number from 1.

    Examples
    --------
    >>> stage_path(Path("runs/mine"), 2).name
    'stage-2'
    """
    return run_dir / f"stage-{number}"


def can_resume(run_dir: Path) -> bool:
    """Return whether a run, in its last stage if it has several, can be resumed."""
    return (run_dir / "checkpoint.json").is_file()


def has_begun(run_dir: Path) -> bool:
    """Return whether the run or its first stage can be resumed."""
    return can_resume(run_dir) or can_resume(stage_path(run_dir, 1))


def check_same_options(run_dir: Path, saved: Any, options: Any) -> None:
    """Raise ``ValueError`` if a run is resumed with options that change its result."""
    from ..training import same_run

    free = [spec.name for spec in specs_of(type(options)).values() if spec.free]
    try:
        same_run.check_same(flat(saved), flat(options), free)
    except ValueError as error:
        raise ValueError(f"cannot resume {run_dir}: {error}") from None


def write_config(run_dir: Path, experiment: Experiment, options: Any) -> None:
    """Create a run folder that records the experiment and its options."""
    from ..training.files import write_json

    content: dict[str, Any] = {"experiment": experiment.name}
    if experiment.file is not None:
        content |= {"file": str(experiment.file), "seal": _seal(experiment.file)}
    run_dir.mkdir(parents=True, exist_ok=True)
    write_json(run_dir / CONFIG, content | {"options": flat(options)})


def load_options(run_dir: Path, given: Experiment | str | None = None) -> tuple[Experiment, Any]:
    """Return experiment and options of a run folder, or raise a clear error.

    Parameters
    ----------
    run_dir : Path
    given : Experiment or path, optional
        The experiment of the run, or the user's file that defines it.
    """
    if not run_dir.is_dir():
        raise FileNotFoundError(f"run folder {run_dir} does not exist")
    path = run_dir / CONFIG
    if not path.is_file():
        raise FileNotFoundError(f"{run_dir} is not a run folder: it has no {CONFIG}")
    content = read_object(path)
    name, values = content.get("experiment"), content.get("options")
    if not isinstance(name, str):
        raise ValueError(f"{path}: names no experiment; it is not the config of a run")
    if not isinstance(values, dict):
        raise ValueError(
            f"{path}: has no table of options, it was written by an earlier version of ftnn; "
            "read the run with that version, or train again"
        )
    experiment = _experiment(name, content, path, given)
    return experiment, with_values(experiment.options(), values, f"{path}: ")


def load_run(run_dir: Path, given: Experiment | str | None = None) -> Run:
    """Load the model of a run folder with everything needed to use it."""
    from ..layers.files import load, load_encoder

    experiment, options = load_options(run_dir, given)
    path = run_dir / MODEL
    if not path.is_file():
        raise FileNotFoundError(f"{run_dir} has no model yet; it is written after the first epoch")
    return Run(run_dir, experiment, options, load_encoder(path), load(path))


def read_summary(run_dir: Path) -> dict[str, Any]:
    """Read ``summary.json``; empty if it does not exist."""
    path = run_dir / SUMMARY
    return read_object(path) if path.exists() else {}


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object, or raise an error that names the file; empty for another value."""
    from ..training.files import read_json

    content = read_json(path, _REMEDY)
    return content if isinstance(content, dict) else {}


def _experiment(
    name: str, content: dict[str, Any], path: Path, given: Experiment | str | None
) -> Experiment:
    own = content.get("file")
    if isinstance(given, Experiment) and given.name == name:
        return given
    if isinstance(given, str):
        if own is None:
            raise ValueError(f"{path}: {name} is not from a file; leave --experiment out")
        return experiment_of_file(given)
    if own is None:
        try:
            return get_experiment(name)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
    # a config.json from elsewhere must not make us run any file it names
    seal = content.get("seal")
    if not (isinstance(own, str) and isinstance(seal, str) and _sealed(own, seal)):
        raise ValueError(
            f"{path}: its experiment is in the file {own}, and the run was not made here by you; "
            "to import the file give it with --experiment FILE"
        )
    if not Path(own).is_file():
        raise FileNotFoundError(
            f"{path}: the file {own} of its experiment is missing; give it with --experiment FILE"
        )
    return experiment_of_file(own)


def _sealed(file: str, seal: str) -> bool:
    own = _seal(file)
    return bool(own) and hmac.compare_digest(own.encode(), seal.encode())


def _seal(file: str | Path) -> str:
    """Return a code of the path that only this account can make; empty without a secret."""
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    path = Path(base) / "ftnn" / "secret"
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as new:
                new.write(secrets.token_bytes(32))
        except FileExistsError:
            pass
        secret = path.read_bytes()
    except OSError:
        return ""
    return hmac.new(secret, str(file).encode(), "sha256").hexdigest() if secret else ""

"""Runs of the experiments that the studies share: trained once, kept in runs/."""

from pathlib import Path
from typing import Any

from ftnn.experiments import get_experiment, run
from ftnn.experiments.folder import has_begun, read_summary
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

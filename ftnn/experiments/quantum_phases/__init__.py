"""Phases of the cluster-Ising chain, from its ground states as MPS."""

from pathlib import Path

from ..experiment import Experiment, imported
from .options import PhasesOptions

EXPERIMENT = Experiment(
    name="quantum-phases",
    description="Ground states of a spin chain as MPS; finds a symmetry-protected phase.",
    options=PhasesOptions,
    load=imported(".data:load", __name__),
    build=imported(".model:build", __name__),
    tuned=Path(__file__).with_name("config.toml"),
    samples="states",
    augment_states=imported(".dressing:dress", __name__),
    conclude=imported(".conclusion:conclude", __name__),
)

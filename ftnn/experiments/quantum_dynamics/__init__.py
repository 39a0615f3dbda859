"""The evolution operator of a spin chain, from pairs of product states and evolved states."""

from pathlib import Path

from ..experiment import Experiment, imported
from .options import DynamicsOptions

EXPERIMENT = Experiment(
    name="quantum-dynamics",
    description="The evolution operator of 40 interacting spins, from evolved product states.",
    options=DynamicsOptions,
    load=imported(".data:load", __name__),
    build=imported(".model:build", __name__),
    tuned=Path(__file__).with_name("config.toml"),
    samples="states",
    carry=imported(".model:carry", __name__),
    fit=imported(".model:fit", __name__),
    stages=imported(".options:stages", __name__),
    callbacks=imported(".training:callbacks", __name__),
    conclude=imported(".conclusion:conclude", __name__),
)

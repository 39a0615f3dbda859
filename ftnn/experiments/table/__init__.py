"""User's table: one column predicted from the others, as classes or numbers."""

from pathlib import Path

from ..experiment import Experiment, imported
from .options import TableOptions

EXPERIMENT = Experiment(
    name="table",
    description="Your own CSV file: --data FILE --target COLUMN; classes or numbers.",
    options=TableOptions,
    load=imported(".data:load", __name__),
    build=imported(".model:build", __name__),
    tuned=Path(__file__).with_name("config.toml"),
    samples="rows",
    callbacks=imported(".model:callbacks", __name__),
    conclude=imported(".conclusion:conclude", __name__),
    read=imported(".data:read", __name__),
)

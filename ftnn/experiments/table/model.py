"""A network on product states of columns."""

from ...encoding import Encoder, TableEncoder
from ...layers.layer import Layer
from ..networks import image_network
from .data import TableData
from .options import TableOptions


def build(options: TableOptions, data: TableData) -> tuple[Encoder, Layer]:
    """Build a network with one site per column or group of columns."""
    kinds = TableEncoder().fit(data.train_inputs).schema.kinds
    columns = dict(zip(data.column_names, kinds, strict=True))
    encoder = TableEncoder(columns, group=options.columns_per_site).fit(data.train_inputs)
    outputs, seed = max(1, len(data.class_names)), options.train.seed
    inputs = data.train_inputs[:256]
    return encoder, image_network(encoder, options.network, inputs, outputs, True, seed)

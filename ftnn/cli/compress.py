"""The command ``ftnn compress``: a trained torch model, in a file or a run, becomes smaller."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .paths import typed_path

if TYPE_CHECKING:
    import numpy as np

ModelFile = Annotated[
    Path,
    typer.Argument(
        metavar="MODEL.pt2|RUN",
        parser=typed_path,
        help="File of torch.export.save, or run folder of `ftnn train compression`.",
    ),
]


def compress(
    model: ModelFile,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            parser=typed_path,
            help="Inputs of the training data: .npy, or .npz or .safetensors with the array "
            "`inputs` and, for classifiers, integer `labels`. By default those of the run.",
        ),
    ] = None,
    out: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            parser=typed_path,
            help="The smaller model: .pt2, which torch.export.load reads without any code, or "
            ".safetensors, which ftnn.tensorized.load reads into the dense architecture.",
        ),
    ] = Path("compressed.pt2"),
    params: Annotated[
        float | None,
        typer.Option(help="Parameters of the model: a fraction if less than 1, else a number."),
    ] = None,
    ratio: Annotated[float | None, typer.Option(help="Times fewer parameters.")] = None,
    max_error: Annotated[
        float | None,
        typer.Option(help="Largest relative error of the outputs; with labels, nats."),
    ] = None,
    formats: Annotated[
        str, typer.Option(help="auto, or formats to try, such as svd,mpo,tucker.")
    ] = "auto",
    skip: Annotated[
        list[str] | None, typer.Option(help="Name of a layer that stays dense; repeatable.")
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Most samples that are used.")] = 4096,
    batch_size: Annotated[int, typer.Option(min=1, help="Samples at a time.")] = 256,
    heal: Annotated[
        bool, typer.Option(help="Fit the layers once more to what reaches them.")
    ] = True,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads of torch.")] = None,
) -> None:
    """Replace the weights of a trained torch model by tensor networks.

    Layers are fitted in the metric of their inputs, and the budget is spent where it lowers the
    difference of the outputs most.
    """
    import torch

    from ..experiments.display import console
    from ..tensorized import heal as healed
    from ..tensorized import save, tensorize
    from ..tensorized.exported import load_exported, save_exported

    if out.suffix not in (".pt2", ".safetensors"):
        raise ValueError(f"--out {out}: expected a name that ends in .pt2 or .safetensors")
    if not out.parent.is_dir():
        raise ValueError(f"--out {out}: folder {out.parent} does not exist; create it")
    if out.exists():
        raise ValueError(f"{out} exists; choose another file with --out FILE")
    if threads is not None:
        torch.set_num_threads(threads)
    if model.is_dir():
        dense, program, batches = _of_run(model, samples, batch_size)
    else:
        dense, program = load_exported(model)
        if data is None:
            raise ValueError("--data is missing; give a file with inputs of the training data")
    if data is not None:
        batches = _batches(data, program, samples, batch_size)
    names = formats if formats == "auto" else [name.strip() for name in formats.split(",")]
    screen = console()
    with warnings.catch_warnings(), screen.status("layers") as status:
        warnings.filterwarnings("ignore", category=FutureWarning)  # torch copies its own graphs
        found = tensorize(
            dense,
            batches,
            params,
            ratio,
            max_error,
            names,
            skip or (),
            progress=lambda text: status.update(f"layers; {text}"),
        )
        result = found.model
        line = ""
        if heal and any(row.format != "dense" for row in found.rows):
            again = healed(found, dense, batches, difference=found.difference)
            result = again.model
            line = f"healed by layers: from {again.errors['start']:.3g} to "
            line += f"{min(again.errors.values()):.3g}"
        if out.suffix == ".pt2":
            save_exported(result, program, out)
        else:
            save(result, out)
    print(found.table())
    if line:
        print(line)
    size = f"{out}: {out.stat().st_size:,} bytes"
    print(size if model.is_dir() else f"{size}, {model}: {model.stat().st_size:,}")


def _of_run(folder: Path, samples: int, batch_size: int) -> tuple[Any, Any, list[Any]]:
    """Return the dense network of a run, its program, and batches of its training data."""
    import torch

    from ..experiments.compression.frontier import batches_of
    from ..experiments.compression.model import DenseNetwork
    from ..experiments.folder import load_run
    from ..training.data import Samples
    from .runs import load_data

    run = load_run(folder)
    if not isinstance(run.model, DenseNetwork):
        raise ValueError(
            f"{folder} is a run of {run.experiment.name}, whose weights are tensor networks "
            "already; give a run of compression, or a file of torch.export.save"
        )
    dense, data = run.model.module(), load_data(run, None)
    arrays = (data.train_inputs[0], data.train_targets)
    train = Samples(*((torch.from_numpy(array),) for array in arrays))
    batches = batches_of(train, batch_size, next(dense.parameters()), samples)
    example = batches[0][0][:1].expand(2, -1, -1, -1)  # of one, torch would fix the size
    shapes = ({0: torch.export.Dim("batch", min=1)},)
    return dense, torch.export.export(dense, (example,), dynamic_shapes=shapes), batches


def _batches(path: Path, program: Any, samples: int, batch_size: int) -> list[Any]:
    """Read inputs, and labels if there are any, in batches that the program takes."""
    import torch

    inputs, labels = _arrays(path)
    args, kwargs = program.example_inputs
    if len(args) + len(kwargs) != 1:
        raise ValueError(
            f"the model takes {len(args) + len(kwargs)} inputs, expected one; tensorize it in "
            "Python, with ftnn.tensorize(model, batches)"
        )
    example = args[0] if args else next(iter(kwargs.values()))
    if inputs.shape[1:] != tuple(example.shape[1:]):
        raise ValueError(
            f"{path}: samples have shape {inputs.shape[1:]}, expected {tuple(example.shape[1:])}"
        )
    placeholder = next(
        node
        for node in program.graph.nodes
        if node.op == "placeholder" and node.name in program.graph_signature.user_inputs
    )
    count = min(len(inputs), samples)
    if isinstance(placeholder.meta["val"].shape[0], int):  # a batch of another size is refused
        batch_size = len(example)
        count -= count % batch_size
        if not count:
            raise ValueError(
                f"--data {path} has {len(inputs)} samples, but the model was exported for batches "
                f"of {batch_size}; give as many, or export it with a dynamic batch"
            )
    parts = list(torch.from_numpy(inputs[:count].copy()).to(example.dtype).split(batch_size))
    if labels is None:
        return parts if args else [{next(iter(kwargs)): part} for part in parts]
    targets = torch.from_numpy(labels[:count].astype("int64")).split(batch_size)
    return list(zip(parts, targets, strict=False))


def _arrays(path: Path) -> "tuple[np.ndarray, np.ndarray | None]":
    """Read inputs and labels of a file; nothing in it is executed."""
    import numpy as np

    if not path.is_file():
        raise FileNotFoundError(f"--data {path} does not exist, or is not a file")
    kind = path.suffix.lower()
    try:
        if kind == ".npy":
            arrays = {"inputs": np.load(path, allow_pickle=False)}
        elif kind == ".npz":
            arrays = dict(np.load(path, allow_pickle=False))
        elif kind == ".safetensors":
            from ..layers.containers import read_tensors

            arrays = read_tensors(path)[0]
        else:
            raise ValueError(f"--data {path}: expected .npy, .npz or .safetensors")
    except (OSError, EOFError) as error:
        raise ValueError(f"--data {path} cannot be read ({error})") from None
    if "inputs" not in arrays:
        raise ValueError(f"--data {path} has {', '.join(sorted(arrays))}, but no array 'inputs'")
    inputs, labels = arrays["inputs"], arrays.get("labels")
    if labels is not None and len(labels) != len(inputs):
        raise ValueError(f"--data {path} has {len(inputs)} inputs and {len(labels)} labels")
    if not len(inputs):
        raise ValueError(f"--data {path} has no samples")
    return inputs, labels

"""Programs saved by `torch.export.save`: `pt2:FILE`."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import fx, nn
from torch.export import ExportedProgram

from ...engine.network import Network, without_notices
from ...registry import LimenError, registered


@registered("loader", version=1, citation="none")
def pt2(argument: str) -> Network:
    """Load an exported classifier that takes (N, 3, S, S) for any N; its layers keep the names they had.

    Pictures are scaled to [0, 1] and not normalised further: export the normalisation with the network.

    Raises
    ------
    LimenError
        If the file is missing, is no exported program, or was exported for one batch size only.
    """
    path = Path(argument).expanduser()
    where = f"network 'pt2:{argument}'"
    if not path.is_file():
        raise LimenError(f"{where}: no such file.")
    try:
        with without_notices():
            program = torch.export.load(path)
    except Exception as error:
        reason = str(error).split("\n", 1)[0].rstrip(".")
        raise LimenError(f"{where}: not a program of torch.export ({type(error).__name__}: {reason}).") from None
    inputs, outputs = _shapes(program)
    if len(inputs) != 1 or len(inputs[0]) != 4 or len(outputs) != 1 or len(outputs[0]) != 2:
        raise LimenError(
            f"{where}: maps {_text(inputs)} to {_text(outputs)}, allowed is one input (N, 3, S, S) to logits (N, K)."
        )
    if isinstance(inputs[0][0], int):
        raise LimenError(
            f"{where}: exported for batches of {inputs[0][0]} only; allowed is a free first dimension "
            "(dynamic_shapes of torch.export.export)."
        )
    side, count = inputs[0][2], outputs[0][1]
    with without_notices():
        module = torch.export.unflatten(program)
    return Network(
        name=f"pt2:{argument}",
        module=_copyable(module),
        classes=tuple(f"class {index}" for index in range(int(count))),
        size=side if isinstance(side, int) else None,
    )


def _copyable(module: nn.Module) -> nn.Module:
    """Drop what the export noted of each step: sizes that were left open, which cannot be copied."""
    for part in module.modules():
        graph = getattr(part, "graph", None)
        for node in graph.nodes if isinstance(graph, fx.Graph) else ():
            node.meta.clear()
    return module


def _shapes(program: ExportedProgram) -> tuple[list[torch.Size], list[torch.Size]]:
    """Return the shapes of a program's inputs and outputs, free dimensions as symbols."""
    signature = program.graph_signature
    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    inputs = [values.get(str(name)) for name in signature.user_inputs]
    outputs = [values.get(str(name)) for name in signature.user_outputs]
    return (
        [value.shape for value in inputs if isinstance(value, torch.Tensor)],
        [value.shape for value in outputs if isinstance(value, torch.Tensor)],
    )


def _text(shapes: list[torch.Size]) -> str:
    return " and ".join(str(tuple(str(side) for side in shape)).replace("'", "") for shape in shapes) or "nothing"

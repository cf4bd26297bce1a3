"""What torch.export makes of a module, and of a loss for each of its rows."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ._errors import ExportError
from ._losses import RowLoss
from ._module import Subject, duplicate, grown
from ._smallest import MOST_ROWS, cannot_trace, explained, exported, first_line

# What the targets are called in the data.
TARGETS = "y"


class Program(nn.Module):
    """The module with its inputs under names of ours, and with its loss for each row where that is traced too.

    Everything of the module has `module.` before its name.
    """

    def __init__(self, subject: Subject, loss: RowLoss | None = None, targets: Any = None) -> None:
        super().__init__()
        self.subject, self.loss_of_rows = subject, loss
        self.module = subject.module
        self.values = list(subject.values)
        if loss is not None:
            self.values.append(_targets(targets, subject))
            if isinstance(loss.function, nn.Module):
                self.row_loss = duplicate(loss.function).cpu()
                self.loss_of_rows = RowLoss(self.row_loss, loss.of_pytorch)
        # Buffers, by name, that the module writes in eval mode: each pass starts from their values.
        self.fresh: list[str] = []
        names = [f"{TARGETS}_input" if name == TARGETS else name for name in subject.arguments]
        names += [] if loss is None else [TARGETS]
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        signature = inspect.Signature([inspect.Parameter(name, kind) for name in names])

        def forward(*values: Tensor) -> Any:
            return self.passed(values)

        forward.__signature__ = signature  # type: ignore[attr-defined]
        self.forward = forward

    def passed(self, values: tuple[Tensor, ...]) -> Any:
        """What the module returns, or its output and the losses."""
        buffers = {name: self.module.get_buffer(name).clone() for name in self.fresh}
        result = self.subject.call(self.module, values[: len(self.subject.arguments)], buffers)
        if self.loss_of_rows is None:
            return _tensors(result)
        of_pytorch = self.loss_of_rows.of_pytorch
        losses = self.loss_of_rows.function(logits(result) if of_pytorch else result, values[-1])
        losses = _per_row(losses, of_pytorch)
        output = logits(result, None)
        return losses if output is None else (output, losses)

    def of_eval_mode(self) -> Any:
        """The program of eval mode.

        Raises `ExportError` where there is none, with the smallest part that fails.
        """
        self.eval()
        try:
            program = self._exported()
            self.fresh = _written(program)
            return self._exported() if self.fresh else program
        except ExportError:
            raise
        except Exception as error:  # torch.export's own, of many kinds
            raise self._explained(error) from error

    def check_rows(self) -> None:
        """The error of a loss whose value for a row depends on the other rows: flatness takes rows in groups of any size."""
        *values, targets = self.values
        if self.loss_of_rows is None or len(targets) < 3:
            return
        loss = self.loss_of_rows.function
        with torch.no_grad():
            outputs = self.subject.call(duplicate(self.module), values)
            if not isinstance(outputs, Tensor):
                return
            try:
                whole, part = loss(outputs, targets)[:-1].double(), loss(outputs[:-1], targets[:-1]).double()
            except Exception as error:
                hint = "try loss(module(inputs), targets) with these rows"
                raise ExportError(f"the loss fails on outputs of the module: {first_line(error)}", hint) from error
        # Far above the roundings of half precision, far below what a mean over other rows changes.
        if whole.shape != part.shape or not torch.allclose(whole, part, rtol=0.03, atol=1e-4, equal_nan=True):
            hint = "write it so that f(outputs, targets)[i] is of row i alone, without means or sums over the rows"
            raise ExportError("the loss of a row depends on the other rows", hint)

    def of_training_mode(self) -> Any:
        """The program of training mode, or why there is none; without it, everything but training works."""
        self.fresh = []
        self.train()
        try:
            program = self._exported()
        except Exception as error:  # whatever a module does
            return first_line(error)
        finally:
            self.eval()
        # Counts of batches, which normalisation keeps, are of no consequence.
        written = [name for name in _written(program) if not name.endswith("num_batches_tracked")]
        return f"it writes its buffers {', '.join(written)}" if written else program

    def _exported(self) -> Any:
        rows = torch.export.Dim("rows", min=2, max=MOST_ROWS)
        return exported(self, tuple(self.values), {}, tuple({0: rows} for _ in self.values))

    def _explained(self, error: Exception) -> ExportError:
        if self.loss_of_rows is not None:
            try:
                Program(self.subject).of_eval_mode()
            except ExportError as failure:
                return failure
            return cannot_trace("the loss", error)
        rows = len(self.values[0])
        return explained(duplicate(self.module), lambda module: self.subject.call(module, self.values), rows, error)


def own(name: str) -> str:
    """A name in the module, from that in [`Program`]."""
    return name.removeprefix("module.")


def logits(result: Any, otherwise: Any = ...) -> Any:
    """The output that losses are of: the only one of floats, or that named `logits`; else `otherwise`, if it is given."""
    if isinstance(result, Tensor):
        return result
    fields = result.items() if isinstance(result, Mapping) else enumerate(result)
    floats = {k: x for k, x in fields if isinstance(x, Tensor) and x.is_floating_point()}
    if "logits" in floats or len(floats) == 1:
        return floats.get("logits", next(iter(floats.values())))
    if otherwise is not ...:
        return otherwise
    names = ", ".join(map(str, floats)) or "none"
    raise ExportError(f"the module has several outputs ({names})", "return the one that the loss is of")


def _targets(targets: Any, subject: Subject) -> Tensor:
    """Targets as flatness gives them to a program: whole numbers of 64 bits, or floats."""
    if targets is None:
        raise ExportError("a loss that is a function is traced with targets", "pass targets=, of the rows of `inputs`")
    found, rows = grown(subject.cast(torch.as_tensor(targets))), len(subject.values[0])
    if len(found) != rows:
        raise ExportError(f"there are {len(found)} targets for {rows} rows of inputs", "every row needs its own")
    return found if found.is_floating_point() else found.to(torch.int64)


def _tensors(result: Any) -> Any:
    """What a module returns; of a dict, such as a model output of transformers, the tensors, not the caches."""
    if isinstance(result, Mapping):
        return {key: value for key, value in result.items() if isinstance(value, Tensor)}
    return result


def _per_row(losses: Any, of_pytorch: bool) -> Tensor:
    """`[N]`, from `[N, …]` by the mean where PyTorch's own `reduction="mean"` is that."""
    if not isinstance(losses, Tensor):
        hint = "it has to give a tensor [N], a loss for each row"
        raise ExportError(f"the loss gives a {type(losses).__name__}", hint)
    if losses.dim() == 0:
        raise ExportError(
            "the loss gives one number for all rows",
            "give a loss for each row, [N]: with reduction='none', and without .mean() over the rows",
        )
    if losses.dim() > 1 and not of_pytorch:
        raise ExportError(
            f"the loss gives {losses.dim()} axes, but should give [N], one loss for each row",
            "end it with .flatten(1).mean(1), or .sum(1), as the objective has it",
        )
    return losses.flatten(1).mean(1) if losses.dim() > 1 else losses


def _written(program: Any) -> list[str]:
    """Names of the module's buffers that a program writes in place."""
    names = program.graph_signature.inputs_to_buffers
    graph = program.graph_module
    owners = {node: names[node.name] for node in graph.graph.nodes if node.op == "placeholder" and node.name in names}
    return list(dict.fromkeys(own(name) for name in _writes(graph, owners)))


def _writes(graph: Any, owners: dict[Any, str]) -> Iterator[str]:
    """Names of the `owners` that are written, also through views and in blocks with a graph of their own."""
    for node in graph.graph.nodes:
        if node.op != "call_function":
            continue
        schema = getattr(node.target, "_schema", None)
        if schema is None:
            for place, value in enumerate(node.args):
                block = getattr(graph, str(value.target), None) if getattr(value, "op", "") == "get_attr" else None
                if isinstance(block, torch.fx.GraphModule):
                    inner = [entry for entry in block.graph.nodes if entry.op == "placeholder"]
                    pairs = zip(inner, node.args[place + 1 :])
                    yield from _writes(block, {into: owners[value] for into, value in pairs if value in owners})
            continue
        values = [*zip(schema.arguments, node.args)]
        values += [(a, node.kwargs[a.name]) for a in schema.arguments if a.name in node.kwargs]
        for argument, value in values:
            if argument.alias_info is not None and isinstance(value, torch.fx.Node) and value in owners:
                owners[node] = owners[value]
                if argument.alias_info.is_write:
                    yield owners[value]

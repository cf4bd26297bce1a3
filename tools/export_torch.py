"""Exports a PyTorch module for flatness: its weights and what it computes, in eval and in training mode, in one file.

    python export_torch.py package.module:factory --input-shape 3,32,32 --out net.safetensors [--state-dict net.pth]

writes net.safetensors, and net.reference.safetensors with inputs and the outputs that PyTorch gives for them in eval mode:
`flatness check net.safetensors --against net.reference.safetensors` compares. From Python: `export(module, inputs, path)`.
Needs torch 2.5 or later and safetensors.

The graphs are those of torch.export, with a dynamic batch axis; the metadata of the file carry them as JSON. flatness reads
the operations and never executes Python.
"""

import argparse
import copy
import importlib
import importlib.util
import json
import sys
from pathlib import Path

import sympy
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch._export.serde import schema, serialize

# torch.export.export itself leaves fewer operations in older versions: batch norm, for one, comes in two others.
EXPORT = getattr(torch.export, "export_for_training", torch.export.export)
# The losses and their settings, with PyTorch's defaults.
LOSSES = {
    nn.CrossEntropyLoss: ("cross_entropy", {"weight": None, "ignore_index": -100, "label_smoothing": 0.0}),
    nn.MSELoss: ("mse", {}),
    nn.L1Loss: ("l1", {}),
    nn.HuberLoss: ("huber", {"delta": 1.0}),
    nn.SmoothL1Loss: ("smooth_l1", {"beta": 1.0}),
    nn.BCEWithLogitsLoss: ("bce_with_logits", {"pos_weight": None}),
}


class ExportError(ValueError):
    """A module that cannot be exported, and the way out."""


def export(module, inputs, path, loss=None, name=None, normalisation=None, weight_decay=0.0):
    """Writes `module` to `path` (.safetensors) and its outputs on `inputs` beside it; returns both paths.

    `inputs` is a tensor, a tuple of tensors, or a dict of them by the names of `forward`'s arguments; rows lie along axis 0.
    `loss` is a name such as `cross_entropy`, a table of it with settings, PyTorch's module, or None where --loss will say it.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ExportError(f"{path} must end in .safetensors")
    while isinstance(module, nn.DataParallel) or hasattr(module, "_orig_mod"):
        module = module.module if isinstance(module, nn.DataParallel) else module._orig_mod
    module, inputs = copy.deepcopy(module).cpu(), _rows(inputs)
    try:
        analysis = _program(module.eval(), inputs)
    except Exception as error:  # torch.export's own, of many kinds
        raise ExportError(
            f"torch.export cannot trace the module ({_first_line(error)}): rewrite what depends on values of the inputs, "
            "such as `if x.sum() > 0`, with torch.where; a size that the batch must not change has to be a number"
        ) from error
    try:
        training = _program(module.train(), inputs)
    except Exception as error:  # whatever a module does: without it, everything but training works
        print(f"note: not exported in training mode ({_first_line(error)})", file=sys.stderr)
        training = None
    tensors, tied = {}, {}
    for key, tensor in {**analysis.constants, **(training.constants if training else {}), **analysis.state_dict}.items():
        if not isinstance(tensor, torch.Tensor):
            raise ExportError(f"`{key}` is a constant of the type {type(tensor).__name__}")
        twin = next((k for k, t in tensors.items() if _same(t, tensor)), None)
        if twin is None:
            tensors[key] = tensor.detach()
        else:
            tied[key] = twin
    content = {
        "analysis": _graph(analysis),
        "training": training and _graph(training),
        "frozen": [key for key, tensor in analysis.state_dict.items() if not _trains(module, key)],
        "tied": tied,
        "name": name or type(module).__name__,
        "loss": _loss(loss),
        "normalisation": normalisation,
        "weight_decay": weight_decay,
    }
    save_file({key: _plain(t) for key, t in tensors.items()}, path, metadata={"flatness.export": json.dumps(content)})
    reference = path.with_suffix(".reference.safetensors")
    save_file(_reference(module.eval(), analysis, inputs), reference)
    return path, reference


def _rows(inputs):
    """The inputs by position or by name, with two rows at least: a batch of one makes torch.export fix the size."""
    if isinstance(inputs, torch.Tensor):
        inputs = (inputs,)
    grow = lambda x: x if len(x) > 1 else torch.cat([x, x])
    return {k: grow(x) for k, x in inputs.items()} if isinstance(inputs, dict) else tuple(map(grow, inputs))


def _program(module, inputs):
    rows = torch.export.Dim("rows", min=2)
    args, kwargs = ((), inputs) if isinstance(inputs, dict) else (inputs, {})
    shapes = {k: {0: rows} for k in kwargs} if kwargs else tuple({0: rows} for _ in args)
    return EXPORT(module, args, kwargs, dynamic_shapes=shapes, strict=False)


def _graph(program):
    """torch.export's own JSON of the graph, without places in source files, and sizes in the form of torch 2.15."""
    serializer = serialize.GraphModuleSerializer(program.graph_signature, program.module_call_graph)
    graph = serialize._dataclass_to_dict(serializer.serialize(program.graph_module))
    for node in graph["graph"]["nodes"]:
        node["metadata"] = {k: v for k, v in node["metadata"].items() if k == "nn_module_stack"}
    major, minor = schema.SCHEMA_VERSION
    calls = [{"signature": {"out_spec": graph["module_call_graph"][0]["signature"]["out_spec"]}}]
    graph = {"graph": graph["graph"], "signature": graph["signature"], "module_call_graph": calls}
    graph = {"graph_module": graph, "schema_version": {"major": major, "minor": minor}}
    return json.loads(json.dumps(graph, cls=serialize.EnumEncoder), object_hook=_size)


def _size(found):
    text = found.get("expr_str", "Symbol")
    return found if "Symbol" in text else {**found, "expr_str": sympy.srepr(sympy.sympify(text))}


def _same(a, b):
    return a.data_ptr() == b.data_ptr() and a.shape == b.shape and a.stride() == b.stride() and a.numel() > 0


def _trains(module, key):
    owner, _, leaf = key.rpartition(".")
    tensor = getattr(module.get_submodule(owner), leaf, None)
    return isinstance(tensor, nn.Parameter) and tensor.requires_grad


def _plain(tensor):
    """Floats as they are, everything else as 64-bit whole numbers or bytes."""
    if tensor.dtype == torch.bool:
        tensor = tensor.to(torch.uint8)
    elif not tensor.is_floating_point():
        tensor = tensor.to(torch.int64)
    return tensor.cpu().clone(memory_format=torch.contiguous_format)


def _reference(module, program, inputs):
    """Inputs under the program's names, and outputs: in float64 where the module allows it."""
    names = program.graph_signature.user_inputs
    values = list(inputs.values()) if isinstance(inputs, dict) else list(inputs)

    def outputs(module, values):
        with torch.no_grad():
            result = module(**dict(zip(inputs, values))) if isinstance(inputs, dict) else module(*values)
        return _logits(result)

    try:
        wide = [x.double() if x.is_floating_point() else x for x in values]
        result = outputs(copy.deepcopy(module).double(), wide)
        values = wide
    except RuntimeError:
        result = outputs(module, values)
    return {**{name: _plain(x) for name, x in zip(names, values)}, "outputs": _plain(result)}


def _logits(result):
    """The output that losses are of: the only one, or that named `logits`."""
    if isinstance(result, torch.Tensor):
        return result
    fields = result.items() if hasattr(result, "items") else enumerate(result)
    floats = {k: x for k, x in fields if isinstance(x, torch.Tensor) and x.is_floating_point()}
    if "logits" in floats or len(floats) == 1:
        return floats.get("logits", next(iter(floats.values())))
    raise ExportError(f"the module has several outputs ({', '.join(map(str, floats))}): return the one that the loss is of")


def _loss(loss):
    """The loss as docs/models.md describes it: its kind, and settings that are not PyTorch's defaults."""
    if loss is None:
        return None
    if isinstance(loss, nn.Module):
        kind, fields = LOSSES.get(type(loss), (None, {}))
        rescaled = kind == "bce_with_logits" and loss.weight is not None
        if kind is None or loss.reduction != "mean" or rescaled:
            known = ", ".join(known.__name__ for known in LOSSES)
            raise ExportError(f"the loss {loss} is not supported: use {known} with reduction='mean', or --loss later")
        values = {key: getattr(loss, key) for key in fields}
        values = {key: v.flatten().tolist() if isinstance(v, torch.Tensor) else v for key, v in values.items()}
        return {"kind": kind, **{key: value for key, value in values.items() if value != fields[key]}}
    loss = {"kind": loss} if isinstance(loss, str) else dict(loss)
    known = dict(LOSSES.values())
    if loss.get("kind") not in known or set(loss) - {"kind", *known[loss["kind"]]}:
        raise ExportError(f"the loss {loss} is unknown: use {', '.join(known)} with PyTorch's settings")
    return loss


def _first_line(error):
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _load(factory):
    """`package.module:name` or `file.py:name`: the module, or a function without arguments that makes it."""
    where, _, name = factory.rpartition(":")
    if where.endswith(".py"):
        spec = importlib.util.spec_from_file_location(Path(where).stem, where)
        source = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = source
        spec.loader.exec_module(source)
    else:
        sys.path.insert(0, "")
        source = importlib.import_module(where)
    made = getattr(source, name)
    return made if isinstance(made, nn.Module) else made()


def _state(path):
    """A state dict from .safetensors or .pth, also below `state_dict` or `model`, without `module.`."""
    if path.suffix == ".safetensors":
        return load_file(path)
    state = torch.load(path, map_location="cpu", weights_only=True)
    state = next((state[key] for key in ("state_dict", "model_state_dict", "model") if key in state), state)
    return {key.removeprefix("module."): tensor for key, tensor in state.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("factory", help="package.module:factory or file.py:factory")
    sample = parser.add_mutually_exclusive_group(required=True)
    sample.add_argument("--input-shape", help="shape of one sample of floats, such as 3,32,32")
    sample.add_argument("--inputs", type=Path, help=".safetensors with a small batch under the names of forward's arguments")
    parser.add_argument("--out", type=Path, required=True, help="the .safetensors file to write")
    parser.add_argument("--state-dict", type=Path, help="weights to load, .pth or .safetensors")
    parser.add_argument("--loss", choices=[kind for kind, _ in LOSSES.values()])
    parser.add_argument("--label-smoothing", type=float, default=0.0)
    parser.add_argument("--weight-decay", type=float, default=0.0)
    arguments = parser.parse_args()
    try:
        module = _load(arguments.factory)
        if arguments.state_dict:
            module.load_state_dict(_state(arguments.state_dict))
        if arguments.inputs:
            inputs = load_file(arguments.inputs)
        else:
            shape = [int(size) for size in arguments.input_shape.split(",")]
            inputs = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
        loss = arguments.loss
        if arguments.label_smoothing:
            loss = {"kind": loss or "cross_entropy", "label_smoothing": arguments.label_smoothing}
        paths = export(module, inputs, arguments.out, loss=loss, weight_decay=arguments.weight_decay)
    except Exception as error:
        raise SystemExit(f"error: {_first_line(error)}") from (None if isinstance(error, ExportError) else error)
    print("wrote " + " and ".join(map(str, paths)))


if __name__ == "__main__":
    main()

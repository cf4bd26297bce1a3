"""Exports a PyTorch network for flatness: architecture, weights, and reference outputs to check against.

    python export_torch.py package.module:factory --input-shape 3,32,32 --out DIR [--state-dict FILE]

writes DIR/model.json (the layers; docs/models.md describes the format), DIR/weights.safetensors (the state dict, with
the architecture in its metadata) and DIR/logits.safetensors (inputs `x` and float64 outputs `logits` in eval mode).
From Python: `export(model, example_input, folder)`. Needs torch and safetensors.

The network is traced with torch.fx in eval mode, on a float64 copy. Its graph becomes a nested list: for each sum or
concatenation, the nearest value that all its inputs come from opens a `residual` or `concat`, and each way from there
is a list of its own. The description is then evaluated by a small interpreter that knows nothing of the graph, and
nothing is written unless both agree.
"""

import argparse
import collections
import copy
import importlib
import importlib.util
import inspect
import json
import math
import operator
import sys
from pathlib import Path

import torch
import torch.fx
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

TOLERANCE = 1e-5  # of the self-check; in float64, two correct evaluations agree to about 1e-14

SUPPORTED = """\
  Linear, Conv2d (groups, dilation, symmetric zero padding), BatchNorm1d/2d with running statistics, GroupNorm,
  LayerNorm on [N, C]; ReLU, GELU, SiLU, Tanh, Sigmoid, Softplus (beta 1); MaxPool2d, AvgPool2d, AdaptiveAvgPool2d and
  AdaptiveMaxPool2d (where they have equal windows), mean over (2, 3); flatten, view or reshape to [N, -1], squeeze;
  Dropout, Identity; sums of two branches (+, +=, torch.add), torch.cat; x[:, :, ::s, ::s] and F.pad with zero channels"""

# Arguments of each operation after its input, in PyTorch's order; modules have attributes of the same names.
ARGUMENTS = {
    "linear": "weight bias",
    "conv2d": "weight bias stride padding dilation groups",
    "batch_norm": "running_mean running_var weight bias training momentum eps",
    "group_norm": "num_groups weight bias eps",
    "layer_norm": "normalized_shape weight bias eps",
    "relu": "inplace",
    "gelu": "approximate",
    "silu": "inplace",
    "tanh": "",
    "sigmoid": "",
    "softplus": "beta threshold",
    "max_pool2d": "kernel_size stride padding dilation ceil_mode return_indices",
    "avg_pool2d": "kernel_size stride padding ceil_mode count_include_pad divisor_override",
    "adaptive_avg_pool2d": "output_size",
    "adaptive_max_pool2d": "output_size return_indices",
    "mean": "dim keepdim dtype",
    "reshape": "",
    "identity": "",
    "dropout": "p training inplace",
    "getitem": "index",
    "pad": "pad mode value",
    "add": "other alpha",
    "cat": "dim",
}
# What a function may leave out; attributes of a module override these.
DEFAULTS = {
    "stride": None, "padding": 0, "dilation": 1, "groups": 1, "bias": None, "weight": None, "eps": 1e-5, "momentum": 0.1,
    "approximate": "none", "beta": 1, "threshold": 20, "ceil_mode": False, "return_indices": False,
    "count_include_pad": True, "divisor_override": None, "keepdim": False, "dtype": None, "p": 0.5, "training": False,
    "inplace": False, "mode": "constant", "value": None, "alpha": 1, "dim": 0,
}  # fmt: skip
DEFAULTS_OF = {"conv2d": {"stride": 1}, "dropout": {"training": True}}
ALIASES = {
    "iadd": "add", "concat": "cat", "concatenate": "cat", "view": "reshape", "flatten": "reshape", "squeeze": "reshape",
    "unflatten": "reshape", "contiguous": "identity", "clone": "identity", "detach": "identity",
}  # fmt: skip
MODULES = {
    nn.Linear: "linear", nn.Conv2d: "conv2d", nn.BatchNorm1d: "batch_norm", nn.BatchNorm2d: "batch_norm",
    nn.GroupNorm: "group_norm", nn.LayerNorm: "layer_norm", nn.ReLU: "relu", nn.GELU: "gelu", nn.SiLU: "silu",
    nn.Tanh: "tanh", nn.Sigmoid: "sigmoid", nn.Softplus: "softplus", nn.MaxPool2d: "max_pool2d",
    nn.AvgPool2d: "avg_pool2d", nn.AdaptiveAvgPool2d: "adaptive_avg_pool2d",
    nn.AdaptiveMaxPool2d: "adaptive_max_pool2d", nn.Flatten: "reshape", nn.Unflatten: "reshape",
    nn.Identity: "identity", nn.Dropout: "dropout",
}  # fmt: skip
JOINS = ("add", "cat")


def _known(module):
    """The operation of a module that runs the forward of a known one; None for any other."""
    same = (name for kind, name in MODULES.items() if isinstance(module, kind) and type(module).forward is kind.forward)
    return next(same, None)


class _Tracer(torch.fx.Tracer):
    def is_leaf_module(self, module, name):
        return _known(module) is not None or super().is_leaf_module(module, name)


class ExportError(ValueError):
    """A network that the description cannot hold."""


def export(model, example_input, folder, loss="cross_entropy", name=None, normalisation=None, weight_decay=0.0):
    """Writes model.json, weights.safetensors and logits.safetensors into `folder`; returns the description.

    `example_input` is a batch [N, ...] in the units that the network sees, N of at least 2. `loss` is a name,
    a table such as {"kind": "cross_entropy", "label_smoothing": 0.1} (docs/models.md), or PyTorch's loss module. `normalisation` is {"mean": [...], "std": [...]} of the training data, one per channel.

    Raises ExportError for what the description cannot hold, and where description and network disagree.
    """
    if not (isinstance(example_input, torch.Tensor) and example_input.is_floating_point() and example_input.ndim >= 2):
        raise ExportError("example_input must be a float tensor [N, ...]")
    if example_input.shape[0] < 2:
        raise ExportError("example_input must have at least 2 samples: with one, shapes do not show the batch axis")
    while isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        model = model.module
    double = copy.deepcopy(model).cpu().double().eval()
    x = example_input.detach().cpu().clone()
    with torch.no_grad():
        graph = _Graph(double, x.double())
    if not isinstance(graph.logits, torch.Tensor) or graph.logits.ndim != 2:
        got = getattr(graph.logits, "shape", type(graph.logits).__name__)
        raise ExportError(f"the network returns {got}, but losses need one tensor [N, outputs]")
    description = {
        "name": name or type(model).__name__,
        "layers": graph.layers(),
        "loss": _loss(loss),
        "input_shape": list(x.shape[1:]),
        "param_order": [n for n in (graph.names[id(p)] for p in double.parameters()) if n in graph.used],
        "normalisation": normalisation,
        "weight_decay": weight_decay,
        "batch_norm_mode": "eval",
    }
    description = json.loads(json.dumps({k: v for k, v in description.items() if v is not None}))  # as a reader sees it
    state = {stripped(n): t for n, t in model.state_dict().items() if isinstance(t, torch.Tensor)}
    counters = {n.removesuffix("running_mean") + "num_batches_tracked" for n in graph.used}
    weights = {n: t.detach().cpu().contiguous().clone() for n, t in state.items() if n in graph.used | counters}
    difference = _difference(description, weights, x, graph.logits)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.json").write_text(json.dumps(description, indent=1) + "\n")
    save_file(weights, folder / "weights.safetensors", metadata={"flatness.arch": json.dumps(description)})
    save_file({"x": x.contiguous(), "logits": graph.logits.contiguous()}, folder / "logits.safetensors")
    count = sum(weights[n].numel() for n in description["param_order"])
    print(f"{folder}: {count} parameters; description and network differ by at most {difference:.1e}", file=sys.stderr)
    if unused := sorted(set(state) - set(weights) - graph.second_names):
        print(f"note: left out, since the outputs do not depend on it: {', '.join(unused)}", file=sys.stderr)
    if repeated := [node.name for node, times in graph.listed.items() if times > 1]:
        print(f"note: computed more than once, in branches that share it: {', '.join(repeated)}", file=sys.stderr)
    if frozen := [stripped(n) for n, p in model.named_parameters() if not p.requires_grad]:
        print(f"note: frozen in PyTorch, but parameters to flatness: {', '.join(frozen)}", file=sys.stderr)
    return description


def _difference(description, weights, x, logits):
    """The self-check: the largest absolute difference between the network's outputs and the description's."""
    with torch.no_grad():
        found = evaluate(description["layers"], {n: t.double() for n, t in weights.items()}, x.double())
    difference = (found - logits).abs().max().item() if found.shape == logits.shape else math.inf
    if not difference <= TOLERANCE:  # written so that NaN fails
        raise ExportError(
            f"self-check failed: the outputs of description and network differ by {difference}. Does the network hold "
            "NaN, change a view of a tensor in place, depend on the input's values, or behave randomly in eval mode?"
        )
    return difference


# The losses and their settings, with PyTorch's defaults.
_LOSSES = {
    nn.CrossEntropyLoss: ("cross_entropy", {"weight": None, "ignore_index": -100, "label_smoothing": 0.0}),
    nn.MSELoss: ("mse", {}),
    nn.L1Loss: ("l1", {}),
    nn.HuberLoss: ("huber", {"delta": 1.0}),
    nn.SmoothL1Loss: ("smooth_l1", {"beta": 1.0}),
    nn.BCEWithLogitsLoss: ("bce_with_logits", {"pos_weight": None}),
}


def _loss(loss):
    if isinstance(loss, nn.Module):
        kind, fields = _LOSSES.get(type(loss), (None, {}))
        rescaled = kind == "bce_with_logits" and loss.weight is not None
        if kind is None or loss.reduction != "mean" or rescaled:
            known = ", ".join(known.__name__ for known in _LOSSES)
            raise ExportError(f"loss {loss} is unsupported: use {known} with reduction='mean'")
        values = {name: getattr(loss, name) for name in fields}
        values = {n: v.flatten().tolist() if isinstance(v, torch.Tensor) else v for n, v in values.items()}
        loss = {"kind": kind, **{name: value for name, value in values.items() if value != fields[name]}}
    loss = {"kind": loss} if isinstance(loss, str) else dict(loss)
    known = dict(_LOSSES.values())
    if loss.get("kind") not in known or set(loss) - {"kind", *known[loss["kind"]]}:
        raise ExportError(f"loss {loss} is unknown: use {', '.join(known)} with PyTorch's settings")
    return loss



def stripped(name):
    """A name without DataParallel's `module.`, which readers drop."""
    while name.startswith("module."):
        name = name.removeprefix("module.")
    return name


class _Graph:
    """The traced network: its nodes with their values, inputs and dominators."""

    def __init__(self, model, x):
        self.names, self.second_names, self.used = {}, set(), set()
        tensors = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
        for name, tensor in tensors:
            if (name := stripped(name)) != self.names.setdefault(id(tensor), name):
                self.second_names.add(name)
        if len(set(self.names.values())) < len(self.names):
            raise ExportError("two tensors have the same name once `module.` is dropped")
        try:
            traced = torch.fx.GraphModule(model, _Tracer().trace(model, _defaults(model)))
        except Exception as error:  # tracing runs the user's forward, which may raise anything
            raise ExportError(
                f"torch.fx cannot trace the network: {error}\nUsual causes: forward branches on a tensor's value or "
                "shape, or makes a module; move the one out of forward, the other into __init__."
            ) from error
        self.logits = model(x.clone())
        interpreter = torch.fx.Interpreter(traced, garbage_collect_values=False)
        interpreter.run(x.clone())
        self.traced, self.values = traced, interpreter.env
        self.operations, self.inputs, self.dominator, self.depth = {}, {}, {}, {}
        self.latest = {}  # node -> the node that has overwritten it in place
        self.cats = {}  # (axis, inputs) -> node
        for node in traced.graph.nodes:
            self._place(node)

    def layers(self):
        """The nested list."""
        source = next(node for node in self.traced.graph.nodes if node.op == "placeholder")
        output = next(node for node in self.traced.graph.nodes if node.op == "output")
        ancestors, pending = set(), [output]
        while pending:
            pending.extend(new := [n for n in pending.pop().all_input_nodes if n not in ancestors])
            ancestors.update(new)
        for node, operation in self.operations.items():  # in the order of the network
            if node in ancestors and isinstance(operation, ExportError):
                raise operation
        self.listed = collections.Counter()
        return _public(self._between(source, self._current(output.args[0])))

    def _current(self, node):
        while node in self.latest:
            node = self.latest[node]
        return node

    def _place(self, node):
        """Finds a node's operation, its data inputs, and the nearest value that all of them come from."""
        if node.op == "placeholder":
            self.dominator[node], self.depth[node] = None, 0
        if node.op in ("placeholder", "get_attr", "output") or not isinstance(self.values[node], torch.Tensor):
            return
        # Faults are kept until the output is traced back: nodes that it does not depend on may be anything.
        try:
            operation, operands, arguments = self._read(node)
        except ExportError as error:
            self.operations[node] = error
            operation, operands, arguments = None, list(node.all_input_nodes), {}
        else:
            self.operations[node] = operation, arguments
        operands = [self._current(operand) for operand in operands]
        if operation == "cat":
            operands = self._shared_cat(node, operands, arguments["dim"] % self.values[node].ndim)
        while operation == "reshape" and self._is_reshape(operands[0]):
            operands = self.inputs[operands[0]]
        self.inputs[node] = operands
        depends = [operand for operand in operands if operand in self.depth]
        if len(depends) == len(operands) > 0:
            common = depends[0]
            for other in depends[1:]:
                while common is not other:  # the deeper one cannot be an ancestor of the other
                    if self.depth[common] < self.depth[other]:
                        common, other = other, common
                    common = self.dominator[common]
            self.dominator[node], self.depth[node] = common, self.depth[common] + 1
        target = "" if node.op == "call_module" else _target(node)
        in_place = arguments.get("inplace") or target == "iadd" or target.strip("_") + "_" == target
        if in_place and operands and operation != "dropout":
            self.latest[operands[0]] = node

    def _is_reshape(self, node):
        known = self.operations.get(node)
        return isinstance(known, tuple) and known[0] == "reshape"

    def _shared_cat(self, node, operands, axis):
        """Starts from an earlier cat of the first operands, as dense networks need it: cat(cat(a, b), c)."""
        self.cats.setdefault((axis, *operands), node)
        for count in range(len(operands) - 1, 1, -1):
            if earlier := self.cats.get((axis, *operands[:count])):
                return [earlier, *operands[count:]]
        return operands

    def _read(self, node):
        """A node as (operation, data inputs, arguments by name), whether module, function or method."""
        if node.op == "call_module":
            module = self.traced.get_submodule(node.target)
            operation = _known(module)
            if operation is None:
                raise self.fault(node, f"{type(module).__name__} is unsupported")
            if getattr(module, "padding_mode", "zeros") != "zeros":
                raise self.fault(node, f"padding_mode {module.padding_mode!r} is unsupported")
            names = ARGUMENTS[operation].split()
            return operation, node.all_input_nodes, {n: getattr(module, n, DEFAULTS.get(n)) for n in names}
        target = _target(node)
        if target == "stochastic_depth" and not node.kwargs.get("training", True):
            return "identity", [node.args[0]], {}
        operation = ALIASES.get(target.strip("_"), target.strip("_"))
        if operation not in ARGUMENTS:
            hint = "; end the network with logits, the loss includes it" if "softmax" in operation else ""
            raise self.fault(node, f"{target} is unsupported{hint}")
        arguments = dict(zip(["input", *ARGUMENTS[operation].split()], node.args), **node.kwargs)
        arguments |= {"dim": arguments.pop("axis")} if "axis" in arguments else {}
        operands = arguments.pop("input", arguments.pop("tensors", None))
        operands = list(operands) if isinstance(operands, (list, tuple)) else [operands]
        if operation == "add":
            operands.append(arguments.pop("other"))
        if operation == "add" and operands[0] == 0:  # Python's sum() starts at 0
            operands = operands[1:]
        if not all(isinstance(o, torch.fx.Node) and isinstance(self.values[o], torch.Tensor) for o in operands):
            raise self.fault(node, f"takes {operands}, but only tensors that the network computes are supported")
        if operation in JOINS and len(operands) == 1:
            return "identity", operands, {}
        if operation == "reshape":
            return operation, operands[:1], {}
        arguments = torch.fx.node.map_arg(arguments, lambda n: self.values[n])
        defaults = DEFAULTS | DEFAULTS_OF.get(operation, {})
        return operation, operands, {n: arguments.get(n, defaults.get(n)) for n in ARGUMENTS[operation].split()}

    def _between(self, start, end):
        """The layers from one value to another that it dominates."""
        layers, node = [], end
        while node is not start:
            if node not in self.depth:
                raise self.fault(node, "uses a tensor that does not come from the network's input")
            self.listed[node] += 1
            if self.listed.total() > 2 * len(self.operations):
                raise self.fault(node, "goes into many sums or cats that do not lie inside one another")
            if isinstance(self.operations[node], ExportError):  # in place, with a result that nothing reads
                raise self.operations[node]
            operation, arguments = self.operations[node]
            if operation in JOINS:
                layers[:0] = self._join(node, operation, arguments)
                node = self.dominator[node]
            else:
                layers[:0] = _layer(self, node, operation, arguments)
                node = self.inputs[node][0]
        return layers

    def _join(self, node, operation, arguments):
        start, inputs = self.dominator[node], self.inputs[node]
        shapes = [tuple(self.values[i].shape) for i in inputs]
        if operation == "add":
            if arguments["alpha"] != 1 or shapes[0] != shapes[1]:
                raise self.fault(node, f"only plain sums of equal shapes are supported, not {shapes}")
            shortcut, main = sorted((self._between(start, i) for i in reversed(inputs)), key=len)
            return [{"kind": "residual", "main": main, "shortcut": shortcut}]
        axis = arguments["dim"] % len(shapes[0])
        if axis == 0:
            raise self.fault(node, "concatenates samples")
        return [{"kind": "concat", "branches": [self._between(start, i) for i in inputs], "axis": axis}]

    def tensor(self, node, tensor):
        """The name of a parameter or buffer."""
        if tensor is None:
            return None
        if id(tensor) not in self.names:
            raise self.fault(node, "has a weight that is computed from others, not a plain parameter")
        self.used.add(self.names[id(tensor)])
        return self.names[id(tensor)]

    def fault(self, node, reason):
        return ExportError(f"node `{node.name}` ({node.op} {_target(node)}): {reason}\nsupported:\n{SUPPORTED}")


def _target(node):
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))


def _defaults(model):
    """Arguments of forward that have a default keep it."""
    parameters = inspect.signature(model.forward).parameters.values()
    return {p.name: p.default for p in list(parameters)[1:] if p.default is not p.empty}


def _pair(value):
    height, width = value if isinstance(value, (tuple, list)) else (value, value)
    return int(height) if height == width else [int(height), int(width)]


def _both(value):
    return value if isinstance(value, list) else [value, value]


def _layer(graph, node, operation, a):
    """The layers, none or one, of an operation on one value."""
    source = graph.values[graph.inputs[node][0]]
    before, after = tuple(source.shape), tuple(graph.values[node].shape)
    tensors = {n: graph.tensor(node, a[n]) for n in ("weight", "bias", "running_mean", "running_var") if n in a}

    def need(condition, reason):
        if not condition:
            raise graph.fault(node, reason)

    match operation:
        case "identity":
            return []
        case "reshape":
            need(after in (before, (before[0], math.prod(before[1:]))), f"gives {after} from {before}, not [N, ...]")
            return [] if after == before else [{"kind": "flatten"}]
        case "linear":
            out, inputs = a["weight"].shape
            return [{"kind": "linear", "in": inputs, "out": out, **tensors}]
        case "conv2d":
            kernel, dilation = list(a["weight"].shape[2:]), _both(_pair(a["dilation"]))
            reach = [d * (k - 1) for d, k in zip(dilation, kernel)]
            padding = {"valid": [0, 0], "same": [r // 2 for r in reach]}.get(str(a["padding"]), a["padding"])
            need(a["padding"] != "same" or all(r % 2 == 0 for r in reach), "padding 'same' is not symmetric here")
            need(len(before) == 4, f"expects images [N, C, H, W], not {before}")
            channels = {"in": before[1], "out": after[1], "kernel": _pair(kernel), "stride": _pair(a["stride"])}
            rest = {"padding": _pair(padding), "dilation": _pair(dilation), "groups": a["groups"]}
            return [{"kind": "conv2d", **channels, **rest, **tensors}]
        case "batch_norm":
            need(a["running_mean"] is not None and not a["training"], "has no running statistics")
            # Without a momentum PyTorch averages over all batches; in eval mode it makes no difference.
            momentum = 0.1 if a["momentum"] is None else a["momentum"]
            kind = "batch_norm2d" if len(before) == 4 else "batch_norm1d"
            return [{"kind": kind, "channels": before[1], "eps": a["eps"], "momentum": momentum, **tensors}]
        case "group_norm":
            sizes = {"groups": a["num_groups"], "channels": before[1], "eps": a["eps"]}
            return [{"kind": "group_norm", **sizes, **tensors}]
        case "layer_norm":
            need(len(before) == 2, f"layer normalisation is supported on [N, C], not {before}")
            return [{"kind": "group_norm", "groups": 1, "channels": before[1], "eps": a["eps"], **tensors}]
        case "gelu":
            return [{"kind": "gelu", "form": "tanh" if a["approximate"] == "tanh" else "erf"}]
        case "softplus":
            need(a["beta"] == 1 and a["threshold"] >= 20, "only beta 1 and threshold 20 are supported")
            return [{"kind": "softplus"}]
        case "relu" | "silu" | "tanh" | "sigmoid":
            return [{"kind": operation}]
        case "max_pool2d" | "avg_pool2d":
            need(_pair(a.get("dilation", 1)) == 1 and not a.get("return_indices"), "only plain windows are supported")
            need(a.get("divisor_override") is None, "divisor_override is unsupported")
            kernel = _pair(a["kernel_size"])
            # A module without stride has the kernel's, a function None or an empty list.
            stride = _pair(a["stride"]) if a["stride"] not in (None, [], ()) else kernel
            layer = {"kind": operation, "kernel": kernel, "stride": stride, "padding": _pair(a["padding"])}
            sides = zip(before[2:], _both(kernel), _both(stride), _both(layer["padding"]))
            need(after[2:] == tuple((n + 2 * p - k) // s + 1 for n, k, s, p in sides), "ceil_mode adds windows here")
            if operation == "avg_pool2d":
                layer |= {"count_include_pad": a["count_include_pad"]}
                layer["_whole"] = _both(kernel) == list(before[2:]) and layer["padding"] == 0
            return [layer]
        case "adaptive_avg_pool2d" | "adaptive_max_pool2d":
            need(len(before) == 4 and not a.get("return_indices"), f"expects images [N, C, H, W], not {before}")
            need(all(n % m == 0 for n, m in zip(before[2:], after[2:])), f"{before} to {after} has unequal windows")
            kernel = _pair([n // m for n, m in zip(before[2:], after[2:])])
            layer = {"kind": operation.removeprefix("adaptive_"), "kernel": kernel, "stride": kernel, "padding": 0}
            return [] if kernel == 1 else [layer | {"_whole": "avg" in operation and after[2:] == (1, 1)}]
        case "mean":
            dims = a["dim"] if isinstance(a["dim"], (tuple, list)) else [a["dim"]]
            over_image = len(before) == 4 and None not in dims and sorted(d % 4 for d in dims) == [2, 3]
            need(over_image and a["dtype"] is None, "means are supported over height and width together")
            pool = {"kernel": _pair(before[2:]), "stride": _pair(before[2:]), "padding": 0, "_whole": True}
            return [{"kind": "avg_pool2d", **pool} if a["keepdim"] else {"kind": "global_avg_pool2d"}]
        case "dropout":
            need(not a["training"], "F.dropout without training=self.training is random in eval mode too")
            return [{"kind": "dropout", "p": a["p"]}]
        case "getitem":
            index = a["index"] if isinstance(a["index"], tuple) else ()
            slices = all(isinstance(i, slice) and i.start in (None, 0) and i.stop is None for i in index)
            steps = [i.step or 1 for i in index] if slices else []
            need(len(before) == 4 == len(steps) and steps[:2] == [1, 1], "of slices, x[:, :, ::s, ::s] is supported")
            need(steps[2] == steps[3], "only equal steps are supported")
            return [{"kind": "subsample_pad", "in": before[1], "out": before[1], "stride": steps[2]}]
        case "pad":
            zeros = a["mode"] == "constant" and not a["value"] and len(before) == 4 and len(a["pad"]) >= 6
            front, back = list(a["pad"])[4:6] if zeros else (1, 0)
            need(not any([*a["pad"][:4], *a["pad"][6:]]) and front == (front + back) // 2 and front >= 0,
                 "only zero channels, half of them on either side, are supported")  # fmt: skip
            return [{"kind": "subsample_pad", "in": before[1], "out": after[1], "stride": 1}]
    raise graph.fault(node, f"{operation} is unsupported")


def _public(layers):
    """Puts neighbours together that one layer expresses, and drops what only helped to find them."""
    result = []
    for layer in layers:
        last = result[-1] if result else {}
        if layer["kind"] == "flatten" and last.get("_whole"):
            result[-1] = {"kind": "global_avg_pool2d"}
        elif layer["kind"] == "subsample_pad" == last.get("kind") and last["in"] == last["out"] and layer["stride"] == 1:
            last["out"] = layer["out"]
        else:
            lists = {k: _public(layer[k]) for k in ("main", "shortcut") if k in layer}
            if "branches" in layer:
                lists["branches"] = [_public(branch) for branch in layer["branches"]]
            result.append(layer | lists)
    return [{k: v for k, v in layer.items() if k != "_whole"} for layer in result]


def evaluate(layers, tensors, x):
    """The output of a description, in eval mode."""
    for layer in layers:
        a = {k: tuple(v) if k in ("kernel", "stride", "padding", "dilation") and isinstance(v, list) else v
             for k, v in layer.items()}  # fmt: skip
        get = lambda key: tensors[a[key]] if a.get(key) else None  # noqa: E731
        match a["kind"]:
            case "linear":
                x = x @ get("weight").T + (0 if get("bias") is None else get("bias"))
            case "conv2d":
                x = F.conv2d(x, get("weight"), get("bias"), a["stride"], a["padding"], a["dilation"], a["groups"])
            case "batch_norm2d" | "batch_norm1d":
                shape = [1, -1] + [1] * (x.ndim - 2)
                x = (x - get("running_mean").view(shape)) / (get("running_var").view(shape) + a["eps"]).sqrt()
                x = x if get("weight") is None else x * get("weight").view(shape)
                x = x if get("bias") is None else x + get("bias").view(shape)
            case "group_norm":
                grouped = x.reshape(x.shape[0], a["groups"], -1)
                centred = grouped - grouped.mean(2, keepdim=True)
                grouped = centred / (centred.square().mean(2, keepdim=True) + a["eps"]).sqrt()
                shape = [1, -1] + [1] * (x.ndim - 2)
                x = grouped.reshape(x.shape)
                x = x if get("weight") is None else x * get("weight").view(shape)
                x = x if get("bias") is None else x + get("bias").view(shape)
            case "relu":
                x = x.clamp(min=0)
            case "gelu":
                x = F.gelu(x, approximate="none" if a["form"] == "erf" else "tanh")
            case "silu":
                x = x * torch.sigmoid(x)
            case "tanh":
                x = torch.tanh(x)
            case "sigmoid":
                x = torch.sigmoid(x)
            case "softplus":
                x = torch.logaddexp(x, torch.zeros_like(x))
            case "max_pool2d":
                x = F.max_pool2d(x, a["kernel"], a["stride"], a["padding"])
            case "avg_pool2d":
                include = a.get("count_include_pad", True)
                x = F.avg_pool2d(x, a["kernel"], a["stride"], a["padding"], count_include_pad=include)
            case "global_avg_pool2d":
                x = x.mean((2, 3))
            case "flatten":
                x = x.reshape(x.shape[0], -1)
            case "dropout":
                pass
            case "subsample_pad":
                extra, small = a["out"] - a["in"], x[:, :, :: a["stride"], :: a["stride"]]
                x = F.pad(small, (0, 0, 0, 0, extra // 2, extra - extra // 2))
            case "residual":
                x = evaluate(a["main"], tensors, x) + evaluate(a["shortcut"], tensors, x)
            case "concat":
                x = torch.cat([evaluate(branch, tensors, x) for branch in a["branches"]], a["axis"])
    return x


def _load(factory):
    place, _, attribute = factory.partition(":")
    if not attribute:
        raise ExportError(f"`{factory}` is not of the form package.module:factory or file.py:factory")
    if place.endswith(".py"):
        spec = importlib.util.spec_from_file_location(Path(place).stem, place)
        module = importlib.util.module_from_spec(spec)
        sys.path.insert(0, str(Path(place).parent))
        spec.loader.exec_module(module)
    else:
        sys.path.insert(0, ".")
        module = importlib.import_module(place)
    made = operator.attrgetter(attribute)(module)
    return made if isinstance(made, nn.Module) else made()


def _load_state(model, path):
    state = load_file(path) if path.endswith(".safetensors") else torch.load(path, "cpu", weights_only=True)
    for key in ("state_dict", "model_state_dict", "model", "net"):
        state = state[key] if isinstance(state.get(key), dict) else state
    wrapped = all(name.startswith("module.") for name in state)
    model.load_state_dict({name.removeprefix("module.") if wrapped else name: t for name, t in state.items()})


def shape(text):
    return [int(size) for size in text.split(",")]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("factory", help="package.module:name or file.py:name of a function without arguments")
    parser.add_argument("--input-shape", type=shape, required=True, help="of one sample, such as 3,32,32")
    parser.add_argument("--out", required=True, help="folder to write")
    parser.add_argument("--state-dict", help="trained weights: .safetensors, or what torch.save wrote")
    parser.add_argument("--loss", default="cross_entropy", choices=[kind for kind, _ in _LOSSES.values()])
    parser.add_argument("--label-smoothing", type=float, default=0.0)
    parser.add_argument("--name", help="for titles; the class where absent")
    parser.add_argument("--num-samples", type=int, default=8, help="standard normal inputs of logits.safetensors")
    parser.add_argument("--seed", type=int, default=0, help="of these inputs")
    arguments = parser.parse_args()
    try:
        model = _load(arguments.factory)
        if arguments.state_dict:
            _load_state(model, arguments.state_dict)
        generator = torch.Generator().manual_seed(arguments.seed)
        x = torch.randn([arguments.num_samples, *arguments.input_shape], generator=generator)
        smoothing = {"label_smoothing": arguments.label_smoothing} if arguments.label_smoothing else {}
        loss = {"kind": arguments.loss, **smoothing}
        export(model, x, arguments.out, loss, arguments.name)
    except (ExportError, OSError, ImportError, AttributeError, RuntimeError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()

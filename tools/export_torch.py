"""Exports a PyTorch module for flatness: its weights and what it computes, in eval and in training mode, in one file.

    python export_torch.py package.module:factory --input-shape 3,32,32 --out net.safetensors [--state-dict net.pth]

writes net.safetensors, and net.reference.safetensors with inputs and the outputs that PyTorch gives for them in eval mode:
`flatness check net.safetensors --against net.reference.safetensors` compares. From Python: `export(module, inputs, path)`.
Needs torch 2.5 or later, NumPy, and safetensors for files of that format that it reads.

It is a command in front of python/flatness/_export.py, for those who have not installed the Python package. The graphs are
those of torch.export, with a dynamic batch axis; flatness reads the operations and never executes Python.
"""

import argparse
import importlib
import importlib.util
import sys
import types
import warnings
from pathlib import Path

import torch
from torch import nn

# The package's sources, without its native library.
_package = types.ModuleType("flatness_sources")
_package.__path__ = [str(Path(__file__).resolve().parents[1] / "python" / "flatness")]
sys.modules[_package.__name__] = _package
from flatness_sources._errors import ExportError, FlatnessError
from flatness_sources._export import export
from flatness_sources._losses import KINDS

__all__ = ["ExportError", "export"]


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


def _load_file(path):
    from safetensors.torch import load_file  # here: not everyone needs it

    return load_file(path)


def _state(path):
    """A state dict from .safetensors or .pth, also below `state_dict` or `model`, without `module.`."""
    if path.suffix == ".safetensors":
        return _load_file(path)
    state = torch.load(path, map_location="cpu", weights_only=True)
    state = next((state[key] for key in ("state_dict", "model_state_dict", "model") if key in state), state)
    return {key.removeprefix("module."): tensor for key, tensor in state.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("factory", help="package.module:factory or file.py:factory")
    sample = parser.add_mutually_exclusive_group(required=True)
    sample.add_argument("--input-shape", help="shape of one sample of floats, such as 3,32,32")
    sample.add_argument(
        "--inputs", type=Path, help=".safetensors with a small batch under the names of forward's arguments"
    )
    parser.add_argument("--out", type=Path, required=True, help="the .safetensors file to write")
    parser.add_argument("--state-dict", type=Path, help="weights to load, .pth or .safetensors")
    parser.add_argument("--loss", choices=list(KINDS))
    parser.add_argument("--label-smoothing", type=float, default=0.0)
    parser.add_argument("--weight-decay", type=float, default=0.0)
    arguments = parser.parse_args()
    try:
        module = _load(arguments.factory)
        if arguments.state_dict:
            module.load_state_dict(_state(arguments.state_dict))
        if arguments.inputs:
            inputs = _load_file(arguments.inputs)
        else:
            shape = [int(size) for size in arguments.input_shape.split(",")]
            inputs = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
        loss = arguments.loss
        if arguments.label_smoothing:
            loss = {"kind": loss or "cross_entropy", "label_smoothing": arguments.label_smoothing}
        with warnings.catch_warnings(record=True) as notes:
            warnings.simplefilter("always")
            paths = export(module, inputs, arguments.out, loss=loss, weight_decay=arguments.weight_decay)
    except FlatnessError as error:
        raise SystemExit(f"error: {error}") from None
    except Exception as error:  # whatever a factory or a file of weights does
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise SystemExit(f"error: {first}") from error
    for note in notes:
        print(f"note: {note.message}", file=sys.stderr)
    print("wrote " + " and ".join(map(str, paths)))


if __name__ == "__main__":
    main()

"""`flatness.Monitor` inside the training loops of others."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from ._monitor import Monitor


def lightning(monitor: Monitor) -> Any:
    """A callback of Lightning that logs what `monitor` measures: `Trainer(callbacks=[lightning(monitor)])`."""
    name = "lightning.pytorch" if find_spec("lightning") else "pytorch_lightning"
    base: Any = import_module(name).Callback

    class Flatness(base):  # type: ignore[misc]
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            found = monitor(trainer.global_step)
            for logger in trainer.loggers if found else ():
                logger.log_metrics(found, step=trainer.global_step)

    return Flatness()


def attach(trainer: Any, monitor: Monitor) -> None:
    """Lets a `Trainer` of transformers log what `monitor` measures, to wherever it reports."""
    base: Any = import_module("transformers").TrainerCallback

    class Flatness(base):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            found = monitor(state.global_step)
            if found:
                trainer.log(found)

    trainer.add_callback(Flatness())

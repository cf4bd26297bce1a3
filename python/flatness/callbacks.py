"""`flatness.Monitor` inside the training loops of others."""

from __future__ import annotations

from typing import Any

from ._monitor import Monitor


def lightning(monitor: Monitor) -> Any:
    """A callback of Lightning that logs what `monitor` measures: `Trainer(callbacks=[lightning(monitor)])`."""
    try:
        from lightning.pytorch import Callback
    except ImportError:
        from pytorch_lightning import Callback

    class Flatness(Callback):  # type: ignore[misc]
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            found = monitor(trainer.global_step)
            for logger in trainer.loggers if found else ():
                logger.log_metrics(found, step=trainer.global_step)

    return Flatness()


def attach(trainer: Any, monitor: Monitor) -> None:
    """Lets a `Trainer` of transformers log what `monitor` measures, to wherever it reports."""
    from transformers import TrainerCallback

    class Flatness(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            found = monitor(state.global_step)
            if found:
                trainer.log(found)

    trainer.add_callback(Flatness())

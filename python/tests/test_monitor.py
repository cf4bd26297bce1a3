"""Curvature while a module trains."""

import numpy as np
import pytest
import torch
from test_objective import network, rows

import flatness

pytest.importorskip("flatness._native")


def test_a_flat_dict_of_the_current_weights():
    model, (x, y) = network(), rows()
    monitor = flatness.Monitor(
        model, (x, y), every=2, quantities=("lambda_max", "lambda_min", "ggn_lambda_max", "trace", "loss", "gradient_norm", "parameter_norm"), dtype="float64", products=200
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for step in range(3):
        found = monitor(step)
        assert bool(found) == (step % 2 == 0)
        if found:
            assert all(type(value) is float for value in found.values())
            dense = flatness.Hessian(model, (x, y), dtype="float64") @ np.eye(472)
            values = np.linalg.eigvalsh(dense)
            assert abs(found["flatness/lambda_max"] - values[-1]) <= found["flatness/lambda_max_residual"] + 1e-9
            assert abs(found["flatness/lambda_min"] - values[0]) <= found["flatness/lambda_min_residual"] + 1e-9
            assert abs(found["flatness/trace"] - values.sum()) < 5 * found["flatness/trace_std_err"]
            norm = torch.cat([p.detach().flatten() for p in model.parameters()]).norm().item()
            assert found["flatness/parameter_norm"] == pytest.approx(norm, rel=1e-5)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()


def test_quantities_are_known():
    with pytest.raises(flatness.FlatnessError, match="no quantity `sharpness`"):
        flatness.Monitor(network(), rows(), quantities=("sharpness",))
    with pytest.raises(flatness.FlatnessError, match="every is 0"):
        flatness.Monitor(network(), rows(), every=0)


def test_lightning_logs_it(tmp_path):
    lightning = pytest.importorskip("lightning.pytorch")
    from lightning.pytorch.loggers import CSVLogger

    from flatness.callbacks import lightning as callback

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = network()

        def training_step(self, batch, _):
            x, y = batch
            return torch.nn.functional.cross_entropy(self.net(x), y)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.05)

    module = Module()
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*rows()), batch_size=8)
    logger = CSVLogger(tmp_path, flush_logs_every_n_steps=1)
    trainer = lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=logger,
        enable_progress_bar=False,
        enable_checkpointing=False,
        callbacks=[callback(flatness.Monitor(module.net, rows(), every=2))],
    )
    trainer.fit(module, loader)
    assert "flatness/lambda_max" in (tmp_path / "lightning_logs/version_0/metrics.csv").read_text()


def test_the_trainer_of_transformers_logs_it(tmp_path):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    from flatness.callbacks import attach

    config = transformers.GPT2Config(vocab_size=20, n_positions=8, n_embd=8, n_layer=1, n_head=2, use_cache=False)
    model = transformers.GPT2LMHeadModel(config)
    tokens = torch.randint(0, 20, (16, 8), generator=torch.Generator().manual_seed(0))
    data = [{"input_ids": row, "labels": row} for row in tokens]
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path), max_steps=2, per_device_train_batch_size=4, report_to=[], use_cpu=True, save_strategy="no"
    )
    trainer = transformers.Trainer(model=model, args=arguments, train_dataset=data)
    attach(trainer, flatness.Monitor(model, {"input_ids": tokens, "labels": tokens}, every=1))
    trainer.train()
    logged = [entry for entry in trainer.state.log_history if "flatness/lambda_max" in entry]
    assert len(logged) == 2 and np.isfinite(logged[0]["flatness/lambda_max"])

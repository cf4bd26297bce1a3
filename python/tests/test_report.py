"""Reports: what `analyze` and the other commands give."""

import warnings

import numpy as np
import pytest
import torch
from test_objective import network, rows

import flatness

pytest.importorskip("flatness._native")


@pytest.fixture(scope="module")
def report():
    return flatness.analyze(network(), rows(), top=3, bottom=2, plane_points=0)


def test_numbers_carry_their_errors(report):
    largest = report.lambda_max
    dense = flatness.Hessian(network(), rows(), dtype="float64") @ np.eye(472)
    values = np.linalg.eigvalsh(dense)
    # The analysis is in float32.
    assert largest.value == pytest.approx(values[-1], rel=1e-5) and largest.converged
    assert largest.std_err_data > 0 and "(data)" in str(largest) and float(largest) == largest.value
    assert report.trace.value == pytest.approx(np.trace(dense), rel=1e-5)
    assert report.estimate("trace", scope="layer:0").value < report.trace.value
    assert report.complete and report.run["configuration"]["rows"] == 24
    with pytest.raises(AttributeError, match="its quantities are"):
        report.lambda_mx
    with pytest.raises(flatness.FlatnessError, match="the tables are"):
        report["eigenvalue"]


def test_the_state_of_adam_preconditions_the_hessian():
    torch.manual_seed(1)
    model, (inputs, targets) = network(), rows()
    # Biases first: the order of the parameters is not that of the module.
    groups = [[p for name, p in model.named_parameters() if name.endswith(end)] for end in ("bias", "weight")]
    optimizer = torch.optim.AdamW([{"params": group} for group in groups], lr=1e-2, eps=1e-4)
    for _ in range(3):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    moments = [optimizer.state[param]["exp_avg_sq"].double().flatten() for param in model.parameters()]
    diagonal = (1 - 0.9**3) * ((torch.cat(moments) / (1 - 0.999**3)).sqrt() + 1e-4)
    scale = diagonal.rsqrt().numpy()
    dense = flatness.Hessian(model, rows(), dtype="float64") @ np.eye(472)
    exact = np.linalg.eigvalsh(scale[:, None] * dense * scale)[-1]
    options = {"operator": "preconditioned-hessian", "plane_points": 0, "slice_points": 0, "dtype": "float64"}
    report = flatness.analyze(model, rows(), optimizer_state=optimizer, **options)
    assert report.lambda_max.value == pytest.approx(exact, rel=1e-9)
    other = torch.optim.AdamW(network().parameters())
    with pytest.raises(flatness.FlatnessError, match="parameters that the module has not"):
        flatness.analyze(model, rows(), optimizer_state=other, **options)


def test_tables_open_everywhere(report):
    table = report["eigenvalues"]
    assert len(table) == 5 and table["eigenvalue"].dtype == np.float64 and table["end"][0] == "top"
    assert table.rows()[0]["index"] == 0 and "<table>" in table._repr_html_()
    polars = pytest.importorskip("polars")
    frame = table.to_polars()
    assert frame.equals(polars.read_parquet(report.folder / "eigenvalues.parquet"))
    for name in report.tables:
        assert report[name].to_polars().equals(polars.read_parquet(report.folder / f"{name}.parquet")), name


def test_tables_open_in_pandas_pyarrow_and_duckdb(report):
    table = report["summary"]
    pandas = pytest.importorskip("pandas")
    assert isinstance(table.to_pandas(), pandas.DataFrame)
    pyarrow = pytest.importorskip("pyarrow")
    assert pyarrow.table(table).num_rows == len(table)
    duckdb = pytest.importorskip("duckdb")
    found = pyarrow.table(table)  # noqa: F841 (duckdb finds it by name)
    assert duckdb.sql("select count(*) from found").fetchall() == [(len(table),)]


def test_figures_and_pages_show(report):
    figure = report.figure("density")
    assert figure.svg.startswith("<") and figure._repr_svg_() == figure.svg and "slices" in report.figures
    page = report._repr_html_()
    assert "lambda_max" in page and "<svg" in page and "<?xml" not in page
    with pytest.raises(flatness.FlatnessError, match="the figures are"):
        report.figure("densities")


def test_saved_results_are_read_again(report, tmp_path):
    folder = report.save(tmp_path / "kept")
    again = flatness.read(folder)
    assert again.lambda_max == report.lambda_max and again.complete
    assert sorted(p.name for p in folder.iterdir()) == sorted(p.name for p in report.folder.iterdir() if p.suffix != ".lock" and not p.name.startswith("."))
    with pytest.raises(flatness.FlatnessError, match="not empty"):
        report.save(folder)
    report.save(folder, force=True)
    with pytest.raises(flatness.FlatnessError, match="no tables"):
        flatness.read(tmp_path)


def test_equal_inputs_give_equal_bytes(report):
    again = flatness.analyze(network(), rows(), top=3, bottom=2, plane_points=0, threads=1)
    for name in report.tables:
        ours, theirs = (r.folder / f"{name}.parquet" for r in (report, again))
        assert ours.read_bytes() == theirs.read_bytes(), name


def test_an_objective_serves_many_calls():
    objective = flatness.Objective(network(), rows(), dtype="float64")
    first = flatness.analyze(objective, top=1, bottom=1, plane_points=0)
    assert first.run["configuration"]["dtype"] == "f64"
    second = flatness.sharpness(objective, dtype="float32", out=None)
    assert second.run["configuration"]["dtype"] == "f32"
    assert second.fisher_rao_norm.value > 0 and "sharpness" in second.tables
    assert "pass" in flatness.check(objective)


def test_a_learning_coefficient_is_the_headline_of_a_sweep():
    found = flatness.llc(network(), rows(), draws=60, burn_in=20, step_size=1e-4, sweep=True)
    taken = [row for row in found["llc"].rows() if row["headline"]]
    assert len(found["llc"]) == 9 and len(taken) == len(found.estimates) == 1
    assert found.llc.converged == taken[0]["converged"] and found.llc.std_err_numeric == taken[0]["std_err_numeric"]
    assert "llc_traces" in found.figures


def test_one_classifier_and_an_average_of_two():
    one = flatness.evaluate(network(), rows(), ood=["noise"], resamples=10)
    assert 0 <= one.accuracy.value <= 1 and one.ood_auroc_noise.std_err_data >= 0
    assert "predictions" in one.tables and "reliability" in one.figures
    two = flatness.evaluate([network(0), network(1)], rows(), held_out=0, resamples=10)
    assert two.mutual_information.value > 0 and len(two["models"]["nll"]) == 2
    with pytest.raises(flatness.FlatnessError, match="no modules"):
        flatness.evaluate([], rows())


def test_landscapes_of_one_and_of_two_modules():
    one = flatness.landscape(network(), rows(), directions="random", points=3)
    assert any("contour" in name or "line" in name for name in one.figures)
    two = flatness.landscape([network(0), network(1)], rows(), points=3)
    assert two.tables
    with pytest.raises(flatness.FlatnessError, match="one, two or three"):
        flatness.landscape([], rows())


def test_training_a_module(tmp_path):
    model = network()
    run = flatness.train(
        model, rows(), "cross_entropy", out=tmp_path / "run", epochs=2, batch_size=8, optimizer="sgd", learning_rate=0.1
    )
    assert run["metrics"]["epoch"].tolist() == [1, 2]
    state = flatness.weights(tmp_path / "run")
    model.load_state_dict(state)
    trained = flatness.Objective(model, rows()).loss().value
    assert trained < flatness.Objective(network(), rows()).loss().value


def test_comparing_groups(tmp_path):
    folders = []
    for method in ("sgd", "sam"):
        for seed in (0, 1):
            out = tmp_path / f"{method}-{seed}"
            optimizer = "sam:rho=0.05" if method == "sam" else "sgd"
            flatness.train(
                "mlp:4", "glyphs", out=out / "train", optimizer=optimizer, epochs=1, seed=seed, subset=100, learning_rate=0.1
            )
            flatness.analyze(
                out / "train" / "checkpoint.safetensors", out=out / "analysis", top=1, bottom=1, plane_points=0
            )
            folders.append(out)
    compared = flatness.compare([folder / "analysis" for folder in folders])
    assert compared.tables and compared.text


def test_options_are_those_of_the_command():
    with pytest.raises(flatness.FlatnessError, match="--topp"):
        flatness.analyze(network(), rows(), topp=3)
    with pytest.raises(flatness.FlatnessError, match="--top"):
        flatness.analyze(network(), rows(), top="many")
    with pytest.raises(flatness.FlatnessError, match="does not exist|no such file|cannot read"):
        flatness.analyze("missing.safetensors", "glyphs")


def test_notes_are_kept(report):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = flatness.analyze(network(), rows(), top=1, bottom=1, plane_points=0)
    assert isinstance(found.notes, list)
    assert torch.get_num_threads() >= 1


def test_files_of_weights_that_cannot_be_read(tmp_path):
    broken = tmp_path / "broken.safetensors"
    for content in (b"", b"\x10\0\0\0\0\0\0\0{garbage", b"\xff" * 64):
        broken.write_bytes(content)
        with pytest.raises(flatness.FlatnessError, match="damaged"):
            flatness.weights(broken)
    with pytest.raises(flatness.FlatnessError, match="cannot read"):
        flatness.weights(tmp_path / "missing.safetensors")
    with pytest.raises(flatness.FlatnessError, match="cannot write"):
        flatness.train(network(), rows(), "cross_entropy", out=broken / "run", epochs=1)

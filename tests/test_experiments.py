"""The experiments behind the book's committed results."""

import csv
import json

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

import vaebook as vb
from experiments import collapse


@pytest.fixture(scope="module")
def chapter(definitions):
    """What *Posterior collapse* defines, as its readers have it."""
    return definitions("posterior-collapse")


@pytest.mark.parametrize("reach", [None, 0, 5])
def test_the_chapter_and_the_experiment_have_the_same_model(chapter, reach):
    models = []
    for source in (chapter["SeeingVAE"], collapse.SeeingVAE):
        torch.manual_seed(0)
        models.append(source((1, 6, 6), 3, hidden=(8, 8), units=4, reach=reach))
    x = torch.bernoulli(torch.full((5, 1, 6, 6), 0.5))
    outputs, samples = [], []
    models[0].load_state_dict(models[1].state_dict())
    for model in models:
        torch.manual_seed(1)
        outputs.append(model(x))
        samples.append(model.sample(7))
    torch.testing.assert_close(outputs[0], outputs[1], rtol=0, atol=0)
    torch.testing.assert_close(samples[0], samples[1], rtol=0, atol=0)


def test_the_chapter_and_the_experiment_have_the_same_data_and_prediction(chapter):
    images = vb.load("digits", image_size=14).test
    here, there = chapter["binarize"](images), collapse.binarize(images)
    assert torch.equal(here.pixels, there.pixels)
    assert set(there.pixels.unique().tolist()) == {0.0, 1.0}
    for beta in collapse.BETAS:
        arguments = ([3.0, 1.0, 0.2, 0.05], beta, 0.2, 3)
        assert chapter["predicted_units"](*arguments) == collapse.kept_directions(*arguments)


@pytest.mark.parametrize("reach", [None, 0, 1, 5])
def test_a_pixel_sees_those_before_it_and_no_others(reach):
    torch.manual_seed(2)
    context = collapse.Context((1, 4, 5), units=50, reach=reach)
    jacobian = torch.autograd.functional.jacobian(context, torch.rand(1, 1, 4, 5))
    sees = jacobian.view(20, 20) != 0
    back = torch.arange(20)[:, None] - torch.arange(20)
    assert torch.equal(sees, (back > 0) & (back <= (20 if reach is None else reach)))


def _linear_loss(parameters, covariance, beta, sigma, latent):
    """Return the exact loss of a linear VAE in nats, and its parts that depend on parameters."""
    size = len(covariance)
    decode, encode = parameters[: 2 * size * latent].reshape(2, size, latent)
    log_var = parameters[2 * size * latent :]
    residual = np.eye(size) - decode @ encode.T
    squares = np.trace(residual @ covariance @ residual.T)
    squares += (decode**2 * np.exp(log_var)).sum()
    activity = np.einsum("il,ij,jl->l", encode, covariance, encode)
    kl = 0.5 * (activity + np.exp(log_var) - 1 - log_var)
    return squares / (2 * sigma**2) + beta * kl.sum(), kl


@pytest.mark.parametrize(("beta", "latent"), [(0.5, 3), (2.0, 3), (2.0, 2), (6.0, 3), (40.0, 2)])
def test_a_linear_vae_keeps_as_many_units_as_predicted(beta, latent):
    rng = np.random.default_rng(0)
    values, sigma = np.array([2.0, 1.0, 0.3, 0.05]), 0.4
    basis, _ = np.linalg.qr(rng.normal(size=(4, 4)))
    covariance = basis * values @ basis.T
    found = min(
        (
            minimize(
                lambda p: _linear_loss(p, covariance, beta, sigma, latent)[0],
                rng.normal(size=9 * latent) * 0.5, options={"gtol": 1e-7, "maxiter": 4000},
            )
            for _ in range(2)
        ),
        key=lambda result: result.fun,
    )  # fmt: skip
    _, kl = _linear_loss(found.x, covariance, beta, sigma, latent)
    units = collapse.kept_directions(values, beta, sigma, latent)
    kept = values[:units]
    best = 0.5 * np.log(kept / (beta * sigma**2)).sum()
    assert kl.sum() == pytest.approx(best, abs=1e-3)  # nats, of the best directions
    noise = beta * (kl.sum() + 0.5 * units)  # what β·KL and the squares of the kept ones come to
    assert found.fun == pytest.approx(noise + values[units:].sum() / (2 * sigma**2), abs=1e-3)


def _committed(part):
    return collapse.read_rows(collapse.RESULTS / f"collapse_{part}.csv")


@pytest.mark.parametrize("part", ["cures", "phase"])
def test_every_cell_has_its_seeds_and_what_the_page_shows(part):
    rows, cells = _committed(part), collapse.CELLS[part]
    found = [tuple(row[key] for key in cells[0]) for row in rows]
    assert sorted(found) == sorted(tuple(map(str, cell.values())) for cell in cells)
    assert {cell["seed"] for cell in cells} == {0, 1, 2}
    for row in rows:
        numbers = {key: float(row[key]) for key in collapse.MEASURED}
        assert np.isfinite(list(numbers.values())).all()
        parts = numbers["mutual_information"] + numbers["marginal_kl"]
        assert parts == pytest.approx(numbers["kl"], abs=0.01)


def test_collapse_happens_and_is_cured_in_every_run_but_those_of_four_cycles():
    outcomes = {}
    for row in _committed("cures"):
        collapsed = float(row["kl"]) < 0.1 and float(row["active_units"]) == 0
        outcomes.setdefault(row["cure"], []).append(collapsed)
    assert outcomes.pop("none") == [True] * 3
    assert len(set(outcomes.pop("four cycles"))) == 2
    assert list(outcomes.values()) == [[False] * 3] * 4


def test_provenance_tells_what_the_page_needs():
    about = json.loads((collapse.RESULTS / "collapse.json").read_text(encoding="utf-8"))
    assert {"data", "run", "training_seconds", "cures", "phase", "eigenvalues"} <= about.keys()
    assert about["phase"]["sigma"] == collapse.PHASE_SETTINGS["sigma"]
    assert about["cures"]["epochs"] == collapse.CURE_SETTINGS["epochs"]
    assert about["run"]["seed"] == list(collapse.SEEDS)
    assert about["eigenvalues"] == sorted(about["eigenvalues"], reverse=True)


def test_finished_rows_are_not_measured_again(tmp_path):
    path, measured = tmp_path / "deep" / "rows.csv", []

    def measure(cure, seed):
        if len(measured) == 2:
            raise KeyboardInterrupt
        measured.append((cure, seed))
        return {"kl": seed / 2}

    cells = [{"cure": "none, yet", "seed": seed} for seed in range(4)]
    with pytest.raises(KeyboardInterrupt):
        collapse.run_missing(path, cells, measure)
    assert [row["seed"] for row in collapse.read_rows(path)] == ["0", "1"]
    assert list(path.parent.iterdir()) == [path]
    assert collapse.run_missing(path, cells, lambda cure, seed: {"kl": 7.0}) == 2
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["kl"] for row in rows] == ["0.0", "0.5", "7.0", "7.0"]
    assert collapse.run_missing(path, cells, measure) == 0


def test_one_short_run_of_each_part_fills_the_columns():
    data = vb.load("digits", image_size=14)
    short = {"train": 64, "test": 32, "epochs": 1, "hidden": (8,)}
    cure = collapse.measure_cure(data, "free bits", 0, units=2, **short)
    cell = collapse.measure_cell(data, 2, 3, 0, **short)
    assert list(cure) == collapse.MEASURED
    assert list(cell) == [*collapse.MEASURED, "firm_units"]
    assert cell["firm_units"] <= cell["active_units"]
    for row in (cure, cell):
        assert row["loss"] == pytest.approx(row["reconstruction"] + row["kl"], rel=1e-4)


def test_help_explains_itself(capsys):
    with pytest.raises(SystemExit):
        collapse.main(["--help"])
    text = capsys.readouterr().out
    assert all(word in text for word in ("--part", "--list", "cures", "phase", "collapse.json"))
    assert collapse.main(["--list", "--part", "cures"]) == 0
    assert f"of {len(collapse.CELLS['cures'])}" in capsys.readouterr().out

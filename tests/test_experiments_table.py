"""The experiment behind *The table*, and what of it is committed."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import vaebook as vb
from experiments import table
from vaebook.training import loop

ROOT = Path(__file__).parents[1]


@pytest.fixture
def small(monkeypatch):
    """Make the models small and the data few, under the name of a data set that has a table."""
    data = vb.load("digits", image_size=16)
    few = replace(data, name="mnist", train=data.train[:300], test=data.test[:120])
    tiny = {"epochs": 1, "batch_size": 50}
    codes = {"latent_dim": 3, "hidden": (8,), "activation": "tanh"}
    levels = {"latent_dims": (4, 3), "hidden": (9, 8)}
    models = {
        "vae": table.Recipe(vb.dense_vae, codes, vb.NegativeELBO(), **tiny),
        "iwae-5": table.Recipe(
            vb.dense_vae, codes, vb.ImportanceWeighted(5), **tiny, after="vae", optimizer="muon"
        ),
        "ladder": table.Recipe(vb.ladder_vae, levels, table.WARM, **tiny),
        "conditional": table.Recipe(
            vb.conditional_vae, codes | {"classes": 10}, vb.NegativeELBO(), **tiny
        ),
    }
    monkeypatch.setattr(table, "MODELS", models)
    monkeypatch.setattr(table, "DRAWS", 20)
    monkeypatch.setattr(table, "VALIDATION", {"mnist": 50})
    monkeypatch.setattr(vb, "load", lambda name, download: few)


def run(folder, *more):
    folders = ["--scratch", str(folder / "state"), "--results", str(folder / "results")]
    return table.main([*folders, "--dataset", "mnist", *more])


def test_a_run_is_kept_and_not_made_twice(small, tmp_path, capsys, monkeypatch):
    some = ("--model", "vae", "ladder", "conditional", "--seed", "0")
    assert run(tmp_path, *some) == 0
    names = {f"mnist-{name}.json" for name in ("held-out", "vae-0", "ladder-0", "conditional-0")}
    assert {path.name for path in (tmp_path / "results").iterdir()} == names
    for row in table.read(tmp_path / "results"):
        assert 0 <= row["precision"] <= 1
        if row["model"] != "held-out images":
            assert row["elbo"] == pytest.approx(-row["rate"] - row["distortion"], rel=1e-4)
            per_image = table.unpacked(row["per_image"])
            assert row["judged"] == row["test_images"] == len(per_image) == 120
            assert per_image.mean() == pytest.approx(row["log_likelihood"], abs=0.05)
            assert (row["samples"], row["validation_images"]) == (20, 50)
            assert row["epochs"] == 1
            assert row["run"]["seed"] == 0
            assert row["processor_seconds"] > 0
    monkeypatch.setattr(table, "measure", None)  # which would fail if it were called
    assert run(tmp_path, *some) == 0
    capsys.readouterr()
    assert run(tmp_path, "--list", "--seed", "0") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"mnist {m}, seed 0: {s}" for m, s in
                     (("vae", "done"), ("iwae-5", "missing"), ("ladder", "done"),
                      ("conditional", "done"))] + [lines[-1]]  # fmt: skip
    assert lines[-1].startswith("mnist: 1 runs missing; 3 done in 0.0 hours")


def test_an_interrupted_training_goes_on(small, tmp_path, monkeypatch):
    data = table.load("mnist")
    whole, _, _ = table.train(data, "vae", 1, tmp_path / "whole", epochs=3)

    class Stopped(Exception):
        pass

    calls, step = iter(range(9)), loop.Step.__call__

    def stop(self, *given):
        if next(calls) == 8:
            raise Stopped
        return step(self, *given)

    with monkeypatch.context() as patched:
        patched.setattr(loop.Step, "__call__", stop)
        with pytest.raises(Stopped):
            table.train(data, "vae", 1, tmp_path / "parts", epochs=3)
    (file,) = (tmp_path / "parts").glob("*.seconds")
    before = float(file.read_text())
    model, history, (_, processor) = table.train(data, "vae", 1, tmp_path / "parts", epochs=3)
    assert processor > before > 0
    assert float(file.read_text()) == pytest.approx(processor, abs=0.1)
    assert history.last("train")["epoch"] == 3
    for here, there in zip(model.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(here, there, rtol=0, atol=0)


def test_ctrl_c_leaves_no_run_of_half_a_training(small, tmp_path, monkeypatch):
    calls, step = iter(range(99)), loop.Step.__call__

    def stop(self, *given):
        if next(calls) == 3:
            raise KeyboardInterrupt
        return step(self, *given)

    with monkeypatch.context() as patched:
        patched.setattr(loop.Step, "__call__", stop)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, "--model", "vae", "--seed", "0")
    assert [path.stem for path in (tmp_path / "results").iterdir()] == ["mnist-held-out"]
    assert run(tmp_path, "--model", "vae", "--seed", "0") == 0
    assert of("mnist", "vae", table.read(tmp_path / "results"))[0]["epochs"] == 1


@pytest.mark.parametrize("folder", ["experiments", "benchmarks"])
def test_ctrl_c_ends_whatever_trains(folder):
    """Whoever calls `vaebook.fit` alone would take half a training for a whole one."""
    files = sorted(ROOT.joinpath(folder).glob("*.py"))
    by_itself = [path.name for path in files if re.search(r"\bvb\.fit\(", path.read_text())]
    assert by_itself == (["records.py"] if folder == "experiments" else [])


def test_a_model_may_begin_where_another_ended(small, tmp_path, monkeypatch):
    data = table.load("mnist")
    before, _, seconds = table.train(data, "vae", 0, tmp_path)
    begun, optimizers = [], []

    def fit(model, *rest, **options):
        begun.append([part.clone() for part in model.parameters()])
        optimizers.append(options["optimizer"])
        return real(model, *rest, **options)

    real = vb.fit
    monkeypatch.setattr(vb, "fit", fit)
    _, history, both = table.train(data, "iwae-5", 0, tmp_path)
    for here, there in zip(begun[1], before.parameters(), strict=True):
        torch.testing.assert_close(here, there, rtol=0, atol=0)
    assert both[0] == pytest.approx(seconds[0] + history.last("train")["seconds"])
    assert both[1] > seconds[1]
    assert optimizers == ["adam", "muon"]


def test_the_outlook_goes_by_other_seeds_of_the_same_model():
    judged = {"test_images": 100, "judged": 100, "samples": table.DRAWS}
    seconds = {"training_seconds": 7000, "evaluation_seconds": 200}
    done = [{"model": "vae", "seed": 0} | seconds | judged]
    missing = [("vae", 1), ("vae", 2), ("ladder", 0)]
    said = table.outlook("mnist", missing, done)
    assert "3 runs missing; 1 done in 2.0 hours; about 4.0 hours for 2 of the missing" in said
    assert "about" not in table.outlook("mnist", missing[2:], done)
    fewer = [done[0] | {"judged": 50, "samples": table.DRAWS // 9}]  # a run of fewer draws
    said = table.outlook("mnist", missing[:2], fewer)
    assert "2 runs missing; 1 done in 2.0 hours; about 5.9 hours for 2 of the missing" in said
    said = table.outlook("mnist", [("vae", 0)], fewer)  # a row that will be replaced is not done
    assert "1 runs missing; 0 done in 0.0 hours; about 2.9 hours for 1 of the missing" in said
    after = done[0] | {"model": "iwae-5", "training_seconds": 10_400}  # 7,000 of them the VAE's
    assert "2 done in 3.0 hours; about 1.0 hours" in table.outlook(
        "mnist", [("iwae-5", 1)], [*done, after]
    )


def test_a_run_from_before_images_were_set_apart_is_missing(small, tmp_path, capsys):
    path = tmp_path / "results" / "mnist-vae-0.json"
    assert run(tmp_path, "--model", "vae", "--seed", "0") == 0
    row = json.loads(path.read_text())
    assert table.made(path)
    del row["validation_images"]
    table.keep(row, path)
    assert not table.made(path)
    capsys.readouterr()
    assert run(tmp_path, "--list", "--model", "vae", "--seed", "0") == 0
    assert "mnist vae, seed 0: missing" in capsys.readouterr().out


def test_again_replaces_the_held_out_images_too(small, tmp_path):
    path = tmp_path / "results" / "mnist-held-out.json"
    some = ("--model", "vae", "--seed", "0")
    assert run(tmp_path, *some) == 0
    whole = path.read_text()
    table.keep({"dataset": "mnist", "model": "held-out images"}, path)
    assert run(tmp_path, *some) == 0
    assert path.read_text() != whole
    assert run(tmp_path, *some, "--again") == 0
    assert path.read_text() == whole


def test_packed_numbers_are_right_to_half_a_tenth():
    nats = np.random.default_rng(0).normal(-100, 30, 999)
    assert np.abs(table.unpacked(table.packed(nats)) - nats).max() <= 0.05 + 1e-9


def test_the_search_has_no_test_images(small, tmp_path, monkeypatch):
    """It could not touch them: they are gone."""
    path, whole = tmp_path / "search.csv", table.load
    monkeypatch.setattr(table, "load", lambda name: replace(whole(name), test=None))
    monkeypatch.setattr(table, "SEARCHED", path)
    cells = [
        dict(model=model, optimizer="muon", batch_size=50, peak=peak, epochs=1)
        for model in ("vae", "iwae-5") for peak in (1e-4, 1e-2)
    ]  # fmt: skip
    monkeypatch.setattr(table, "SEARCH", cells)
    assert table.main(["--search"]) == 0
    rows = table.read_rows(path)
    assert [row["model"] for row in rows] == ["vae", "vae", "iwae-5", "iwae-5"]
    assert all(int(row["judged"]) == 25 for row in rows)
    found = {model: table.best(model, rows) for model in ("vae", "iwae-5")}
    for model, row in found.items():
        others = [float(r["log_likelihood"]) for r in rows if r["model"] == model]
        assert float(row["log_likelihood"]) == max(others)
    # The one with draws begins with the better of the short trainings, so it is better than both.
    assert float(found["iwae-5"]["log_likelihood"]) > float(found["vae"]["log_likelihood"])


def test_the_recipes_are_those_that_the_search_found():
    rows = table.read_rows(table.SEARCHED)
    assert len(rows) == len(table.SEARCH)
    for model in table.TRIED:
        found, recipe = table.best(model, rows), table.MODELS[model]
        assert float(found["peak"]) == recipe.lr
        assert int(found["batch_size"]) == recipe.batch_size
        assert found["optimizer"] == recipe.optimizer
        peaks = sorted(
            float(row["peak"]) for row in rows
            if (row["model"], row["optimizer"]) == (model, recipe.optimizer)
        )  # fmt: skip
        assert peaks[0] < recipe.lr < peaks[-1]  # or the best would perhaps lie outside


def test_samples_are_black_and_white_and_as_often_white_as_the_model_has_it():
    torch.manual_seed(0)
    model = vb.dense_vae((1, 6, 6), latent_dim=2, hidden=(5,))
    images = table.drawn(model, 1200)
    assert set(images.pixels.unique().tolist()) == {0.0, 1.0}
    expected = model.sample(4000).mean(0)
    assert (images.pixels.mean(0) - expected).abs().max() < 0.08


def test_help_explains_itself(capsys):
    with pytest.raises(SystemExit):
        table.main(["--help"])
    text = capsys.readouterr().out
    assert all(word in text for word in ("--epochs", "--again", "--list", "binarized", "Fréchet"))


COMMITTED = table.read()


def of(dataset, model, rows=COMMITTED):
    return {row["seed"]: row for row in rows if (row["dataset"], row["model"]) ==
            (dataset, model)}  # fmt: skip


def test_the_committed_runs_are_complete_and_hang_together():
    models = [row for row in COMMITTED if row["model"] != "held-out images"]
    assert models
    held_out = {row["dataset"]: row for row in COMMITTED if row not in models}
    for row in models:
        assert row["log_likelihood"] > row["elbo"] - 1
        assert row["elbo"] == pytest.approx(-row["rate"] - row["distortion"], abs=0.01)
        assert row["frechet"] > held_out[row["dataset"]]["frechet"]
        assert {"device", "threads", "torch", "precision", "seed"} <= row["run"].keys()
        assert "binarized" in row["data"]


@pytest.mark.parametrize("seed", table.SEEDS)
def test_the_ladder_beats_one_layer_of_as_many_parameters(seed):
    ladder, single = (of("mnist", model)[seed] for model in ("ladder", "one level"))
    assert ladder["parameters"] == pytest.approx(single["parameters"], rel=0.02)
    assert ladder["epochs"] == single["epochs"]
    assert ladder["log_likelihood"] > single["log_likelihood"]


def test_the_published_figure_of_the_vae_is_reproduced():
    """As the mean of three seeds, whose settings were found on images set apart."""
    rows = of("mnist", "vae")
    assert sorted(rows) == [0, 1, 2]
    assert np.mean([row["log_likelihood"] for row in rows.values()]) >= -86.9
    assert all(row["parameters"] < 5_000_000 for row in rows.values())


def test_runs_by_the_protocol_are_judged_in_full():
    found = [row for row in COMMITTED if "validation_images" in row]
    assert {(row["model"], row["seed"]) for row in found} >= {
        (model, seed) for model in ("vae", "iwae-5") for seed in table.SEEDS
    }
    for row in found:
        assert row["model"] in table.TRIED
        recipe = table.MODELS[row["model"]]
        assert row["validation_images"] == table.VALIDATION[row["dataset"]]
        assert (row["judged"], row["samples"]) == (row["test_images"], 5000)
        assert table.unpacked(row["per_image"]).mean() == pytest.approx(
            row["log_likelihood"], abs=0.01
        )
        assert row["settings"]["lr"] == recipe.lr
        assert row["epochs"] == recipe.epochs


@pytest.mark.parametrize(
    ("model", "least", "samples"),
    [("iwae-50 muon", -84.9, 5000), ("large ladder iw-10", -82.0, 1000)],
)
def test_what_one_seed_reaches(model, least, samples):
    row = of("mnist", model)[0]
    assert row["log_likelihood"] > least
    assert row["samples"] == samples
    assert row["judged"] == 10_000
    assert row["parameters"] < 5_000_000


def test_the_committed_files_are_those_that_the_experiment_writes(tmp_path):
    for path in table.FOLDER.glob("*.json"):
        row = json.loads(path.read_text(encoding="utf-8"))
        table.keep(row, tmp_path / path.name)
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()

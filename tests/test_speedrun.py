"""The race to a loss, and the search for its settings."""

import pandas as pd
import pytest
import torch

import vaebook as vb
from benchmarks import speedrun
from experiments import soon
from experiments.records import RESULTS


def frame(task="dense", contender="recipe", runs=()):
    rows = [
        dict(task=task, contender=contender, seed=seed, epochs=i + 1, seconds=s, loss=x)
        for seed, run in enumerate(runs)
        for i, (s, x) in enumerate(run)
    ]
    return pd.DataFrame(rows)


def test_an_arrival_is_when_the_mean_over_seeds_is_at_the_target():
    runs = [[(10, 130), (20, 108), (30, 104)], [(12, 126), (24, 110), (40, 102)]]
    rows = frame(runs=runs)  # on average 128, 109, 103 after 11, 22 and 35 seconds
    assert speedrun.arrival(rows, 109) == pytest.approx(22)
    assert speedrun.arrival(rows, 106) == pytest.approx(22 + 13 / 2)
    assert speedrun.arrival(rows, 200) == pytest.approx(11)
    assert speedrun.arrival(rows, 102) is None


@pytest.mark.parametrize(
    ("ours", "peers", "missed"),
    [
        ([(2, 105)], [(20, 110), (30, 105.6)], []),  # 15 times sooner
        ([(3, 105)], [(20, 110), (30, 105.6)], ["dense: 12 times sooner than recipe"]),
        ([(2, 106)], [(20, 110), (30, 105.6)], ["dense: 12 times sooner than recipe"]),
        ([(2, 105)], [(20, 110), (30, 108)], []),  # did not arrive in 15 times as long
        ([(3, 105)], [(20, 110), (30, 108)], ["dense: 12 times sooner than recipe"]),
    ],
)
def test_a_claim_is_missed_when_the_factor_is_too_small_or_the_target(ours, peers, missed):
    mine = frame(contender="vaebook", runs=[ours]).assign(epochs=4)
    other = mine.assign(epochs=18, loss=100.0, seconds=0.1)  # of another length, which counts not
    rows = pd.concat([mine, other, frame(runs=[peers])])
    table, found = speedrun.verdict(rows)
    assert found == missed
    assert list(table.contender) == ["vaebook", "recipe"]


def test_of_pythaes_settings_the_sooner_counts():
    task = "conv, 2 dimensions"
    rows = pd.concat([
        frame(task, "vaebook", [[(10, 150)]]), frame(task, "recipe", [[(90, 151)]]),
        frame(task, "pythae", [[(60, 160), (90, 151)]]),
        frame(task, "pythae's defaults", [[(35, 151)]]),
    ])  # fmt: skip
    assert speedrun.verdict(rows)[1] == ["conv, 2 dimensions: 4 times sooner than pythae"]


def test_all_contenders_train_the_same_network_and_are_judged_alike(monkeypatch):
    pytest.importorskip("pythae")
    small = ("digits", lambda shape: vb.dense_vae(shape, 2, hidden=(8,), activation="relu"))
    monkeypatch.setitem(speedrun.TASKS, "dense", small)
    monkeypatch.setattr(speedrun, "best_workers", lambda *_: 0)
    for contender in speedrun.CONTENDERS:
        model = speedrun.model_of("dense", 0)
        before = vb.evaluate(model, vb.load("digits").test)["loss"]
        rows = speedrun.run("dense", contender, 0, 8)
        assert [row["epochs"] for row in rows][-1] == 8
        assert rows[-1]["loss"] < before - 20
        assert rows[-1]["seconds"] > 0


def test_a_race_is_written_and_told(monkeypatch, tmp_path, capsys):
    small = ("digits", lambda shape: vb.dense_vae(shape, 2, hidden=(8,), activation="relu"))
    monkeypatch.setitem(speedrun.TASKS, "dense", small)
    monkeypatch.setattr(speedrun, "best_workers", lambda *_: 0)
    monkeypatch.setattr(speedrun, "apart", lambda _, work, *given: work(*given))
    goal = speedrun.Task(1.0, {"epochs": 1}, {"recipe": 1}, {"recipe": 12})
    monkeypatch.setattr(speedrun, "GOALS", {"dense": goal})
    assert speedrun.main(["--seeds", "2", "--output", str(tmp_path)]) == 1  # of one nat
    assert "not so: dense: 12 times sooner than recipe" in capsys.readouterr().out
    rows = pd.read_csv(tmp_path / "speedrun.csv")
    assert len(rows) == 4
    assert set(rows.seed) == {0, 1}
    assert (tmp_path / "speedrun.json").exists()


def test_the_search_splits_the_training_images_and_touches_no_test_image():
    for dataset in ("kmnist", "mnist"):
        if vb.load(dataset, offline="digits").stand_in:
            pytest.skip("needs the data")
        whole = vb.load(dataset).train
        train, held_out = soon.split_of(dataset)
        assert torch.equal(torch.cat([train.pixels, held_out.pixels]), whole.pixels)
        assert len(held_out) == soon.HELD_OUT[dataset]


def test_a_setting_becomes_arguments_of_fit():
    given = soon.how(**soon.MIDDLE)
    assert (given["lr"].peak, given["batch_size"], given["epochs"]) == (6e-3, 64, 1)
    optimizer = given["optimizer"]([torch.zeros(1, requires_grad=True)])
    assert optimizer.defaults["betas"] == (0.8, 0.95)
    assert given["objective"].schedule == vb.Warmup(end=0.8)
    assert soon.how(**soon.MIDDLE | {"betas": soon.USUAL, "warmup": 0.0})["optimizer"] == "adam"


def test_each_task_has_its_middle_setting_or_others_once():
    cells = [tuple(cell.items()) for cell in soon.SEARCH]
    assert len(set(cells)) == len(cells)
    assert {cell["task"] for cell in soon.SEARCH} == soon.TASKS.keys() == speedrun.GOALS.keys()


def test_the_races_settings_are_those_that_the_search_found_best():
    found = vb.results("soon_search.csv")
    assert len(found) == len(soon.SEARCH)
    for task, goal in speedrun.GOALS.items():
        setting = soon.MIDDLE | goal.setting
        of_task = found[found.task == task]
        quick = (of_task.epochs <= setting["epochs"]) & (
            of_task.batch_size >= setting["batch_size"]
        )
        mine = of_task[(of_task[[*setting]] == pd.Series(setting)).all(axis=1)]
        assert mine.validation.item() <= of_task[quick].validation.min() + 0.5, task


def test_nothing_is_missing(capsys):
    before = (RESULTS / "soon.json").read_bytes()
    assert soon.main([]) == 0
    assert (RESULTS / "soon.json").read_bytes() == before


def test_the_committed_race_says_what_its_rows_say():
    table, _ = speedrun.verdict(vb.results("speedrun.csv"))
    told = pd.DataFrame(vb.results("speedrun.json")["arrivals"])
    pd.testing.assert_frame_equal(table, told, check_dtype=False, atol=0.01, rtol=0.003)
    settings = vb.results("speedrun.json")["settings"]
    assert settings == {task: soon.MIDDLE | goal.setting for task, goal in speedrun.GOALS.items()}

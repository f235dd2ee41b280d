"""Seconds to a test loss: vaebook's short training against pythae and the usual recipe.

    make bench first, or pip install -e '.[bench]', for pythae; then
    python benchmarks/speedrun.py                     everything, about an hour and a half
    python benchmarks/speedrun.py --tasks dense       one task; the rest of the file stays

Each task is a network, data and a test loss, the mean of all test images in eval mode and float32
by `vaebook.evaluate`, whoever trained it. The contenders train the same network on all training
images, in turn, once for each seed, each in a process of its own, from untrained weights and data
in memory:

* vaebook: `vaebook.fit` with settings that `experiments.soon` found on held-out training images. It
  trains for so many epochs, known at the start, and arrives at its end. With three of the seeds it
  also trains for other lengths, each from nothing: a part of an epoch is one over fewer images;
* pythae: its `BaseTrainer` with Adam at 1e-3 and batches of 128;
* pythae's defaults: the same at 1e-4 and in batches of 64, with one seed, since it is far away;
* recipe: torchvision's MNIST items (PIL, ToTensor), a DataLoader with the number of workers that is
  fastest, Adam at 1e-3, batches of 128, a loop that reads the loss at each step.

Of the last three the test loss is measured after each epoch, which is not counted. A contender has
arrived when the mean over seeds is at the target; between two epochs on the straight line between
them, which is kind to who has longer epochs. Seconds are medians over seeds. It writes
vaebook/results/speedrun.csv and .json, prints what each needed, and exits with 1 where vaebook is
not as many times sooner as it claims to be.
"""

import argparse
import json
import math
import sys
from dataclasses import dataclass
from datetime import date
from functools import cache, partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # a script sees only its own folder

import numpy as np
import pandas as pd
import torch

import vaebook as vb
from benchmarks.contenders import apart, best_workers, recipe_epochs, since
from benchmarks.run import provenance
from experiments.records import fit
from experiments.soon import MIDDLE, TASKS, how

RESULTS = Path(__file__).parents[1] / "vaebook" / "results"
PEERS = ("pythae", "pythae's defaults", "recipe")
SLOWEST = "pythae's defaults"
SEEDS = (0, 1, 2, 3, 4)


@dataclass(frozen=True)
class Task:
    """What is to be reached, with which settings, and how many times sooner than which peers."""

    target: float  # nats per image
    setting: dict  # of `experiments.soon`, in the place of those of `MIDDLE`
    epochs: dict  # of the peers: so many are surely enough, or surely too long
    sooner: dict  # the claims
    lengths: tuple[float, ...] = ()  # other numbers of epochs for vaebook


GOALS = {
    "conv, 128 dimensions": Task(
        104.5, {"batch_size": 96, "peak": 8e-3, "warmup": 0.5},
        {"pythae": 3, "pythae's defaults": 3, "recipe": 3},
        {"pythae": 5, "recipe": 5}, (0.4, 2),
    ),
    "conv, 2 dimensions": Task(
        151.5, {"batch_size": 32, "peak": 4e-3, "warmup": 0.0},
        {"pythae": 3, "pythae's defaults": 3, "recipe": 3}, {"pythae": 4, "recipe": 4},
    ),
    "dense": Task(
        105.6, {"batch_size": 256, "peak": 1.2e-2, "warmup": 0.0, "epochs": 4}, {"recipe": 11},
        {"recipe": 12}, (1, 6, 18),
    ),
    "Kuzushiji, 128 dimensions": Task(
        255.0, {"batch_size": 32, "peak": 4e-3, "warmup": 0.5},
        {"pythae": 4, "recipe": 4}, {}, (2,),
    ),
}  # fmt: skip


def model_of(task, seed):
    """Return the task's network, untrained."""
    torch.manual_seed(seed)
    dataset, build = TASKS[task]
    return build(vb.load(dataset).image_shape)


def warm_up(task, contender):
    """Let a contender train on a few batches, so that nothing is done for the first time."""
    train = vb.load(TASKS[task][0]).train
    for _ in CONTENDERS[contender](model_of(task, 0), train[:640], 1, task, 0):
        pass


def run(task, contender, seed, epochs):
    """Train once; return a row for each loss that was measured."""
    data = vb.load(TASKS[task][0])
    model = model_of(task, seed)
    rows, seconds, began = [], 0.0, since(0)
    for done in CONTENDERS[contender](model, data.train, epochs, task, seed):
        seconds += since(0) - began
        row = {"task": task, "contender": contender, "seed": seed, "epochs": done}
        rows.append(row | {"seconds": seconds, "loss": vb.evaluate(model, data.test)["loss"]})
        model.train()
        began = since(0)
    return rows


def by_vaebook(model, images, epochs, task, seed):
    """Call `vaebook.fit`; its settings are for so many epochs, all of them."""
    setting = MIDDLE | GOALS[task].setting | {"epochs": math.ceil(epochs)}
    part = images[: round(len(images) * min(epochs, 1))]
    fit(model, part, seed=seed, progress=False, **how(**setting))
    yield epochs


def by_pythae(model, images, epochs, task, seed, lr=1e-3, batch_size=128):
    """Call the parts of pythae's `BaseTrainer.train` of which an epoch is made."""
    from benchmarks.with_pythae import trainer_of  # not needed for the other contenders

    trainer = trainer_of(model, images, batch_size, lr, seed)
    trainer.prepare_training()
    for epoch in range(1, epochs + 1):
        trainer.train_step(epoch)
        yield epoch


def by_recipe(model, images, epochs, task, seed):
    """Train as most tutorials do."""
    torch.manual_seed(seed)
    endless = recipe_epochs(model, images, 128, best_workers_for(task))
    yield from (epoch for epoch, _ in zip(range(1, epochs + 1), endless, strict=False))


@cache
def best_workers_for(task):
    """Return the number of workers with which the recipe is fastest for networks of this kind."""
    return best_workers("dense" if task == "dense" else "conv", vb.load("mnist").train)


CONTENDERS = {
    "vaebook": by_vaebook, "pythae": by_pythae,
    "pythae's defaults": partial(by_pythae, lr=1e-4, batch_size=64), "recipe": by_recipe,
}  # fmt: skip


def race(task, seeds):
    """Let all contenders train in turn; return the rows."""
    goal, rows = GOALS[task], []
    epochs = {"vaebook": (MIDDLE | goal.setting)["epochs"]} | goal.epochs
    for contender in epochs:
        apart(contender, warm_up, task, contender)
    for seed in seeds:
        for contender, count in epochs.items():
            if contender == SLOWEST and seed != seeds[0]:
                continue
            others = goal.lengths if contender == "vaebook" and seed in SEEDS[:3] else ()
            for length in (count, *others):
                rows += apart(contender, run, task, contender, seed, length)
                print("  {task}, {contender}: {loss:.2f} after {seconds:.1f} s".format(**rows[-1]))
    return rows


def arrival(rows, target):
    """Return after how many seconds the mean over seeds is at the target, or None if never."""
    curve = rows.groupby("epochs").agg(seconds=("seconds", "median"), loss=("loss", "mean"))
    below = curve.loss.to_numpy() <= target
    if not below.any():
        return None
    here = int(below.argmax())
    if here == 0:
        return float(curve.seconds.iloc[0])
    pair = curve.iloc[[here, here - 1]]  # losses that rise, as np.interp wants them
    return float(np.interp(target, pair.loss, pair.seconds))


def verdict(rows):
    """Return what each needed for each task, and the claims that do not hold."""
    table, missed = [], []
    for task, of_task in rows.groupby("task", sort=False):
        goal = GOALS[task]
        ends = (MIDDLE | goal.setting)["epochs"]
        of_task = of_task[(of_task.contender != "vaebook") | (of_task.epochs == ends)]
        times = {name: arrival(of, goal.target) for name, of in of_task.groupby("contender")}
        ours = times["vaebook"]
        for name, of in of_task.groupby("contender", sort=False):
            last = of[of.epochs == of.epochs.max()]
            table.append({
                "task": task, "target": goal.target, "contender": name,
                "epochs": of.epochs.max(), "loss": last.loss.mean(), "seconds": times[name],
                "ran for": last.seconds.median(),
                "vaebook is": times[name] and ours and times[name] / ours,
            })  # fmt: skip
        # Who did not arrive needs longer than it ran; of pythae's settings the sooner counts.
        ran = {row["contender"]: row["ran for"] for row in table if row["task"] == task}
        needed = {name: times[name] or ran[name] for name in times}
        both = [needed[name] for name in PEERS[:2] if name in needed]
        needed |= {"pythae": min(both)} if both else {}
        for peer, factor in goal.sooner.items():
            if not ours or needed[peer] / ours < factor:
                missed.append(f"{task}: {factor} times sooner than {peer}")
    return pd.DataFrame(table), missed


def main(argv=None):
    """Measure, write, print; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", choices=GOALS, nargs="+", default=[*GOALS], metavar="TASK")
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="how many (5)")
    parser.add_argument("--output", type=Path, default=RESULTS, help="a folder for both files")
    given = parser.parse_args(argv)
    path = given.output / "speedrun.csv"
    kept = pd.read_csv(path) if path.exists() else pd.DataFrame(columns=["task"])
    for task in given.tasks:
        rows = pd.DataFrame(race(task, range(given.seeds)))
        kept = pd.concat([kept[kept.task != task], rows]) if len(kept) else rows
        kept.round({"seconds": 2, "loss": 3}).to_csv(path, index=False, lineterminator="\n")
    settings = {task: MIDDLE | goal.setting for task, goal in GOALS.items()}
    about = {
        "targets": {task: goal.target for task, goal in GOALS.items()},
        "claimed": {task: goal.sooner for task, goal in GOALS.items() if goal.sooner},
        "settings": settings,
    }
    table, missed = verdict(kept)
    # By way of pandas, which writes what is missing as null.
    about |= {"arrivals": json.loads(table.round(3).to_json(orient="records"))}
    about |= {"date": date.today().isoformat()} | provenance()
    path.with_suffix(".json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    print(table.round(2).to_string(index=False, na_rep="never"))
    for claim in missed:
        print(f"not so: {claim}")
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())

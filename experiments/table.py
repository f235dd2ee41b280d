"""Every model on the same binarized images, judged alike. Writes vaebook/results/table/*.json.

    python -m experiments.table                         run what is missing
    python -m experiments.table --dataset mnist --model vae --seed 0         one run
    python -m experiments.table --list                  say what is done and what is missing
    python -m experiments.table --search                find learning rates on validation images
    python -m experiments.table --dataset mnist --model vae --epochs 3280 --results runs/longer

Each run has a file of its own, so that several can be made at once, and an interrupted one goes on
from its last epoch, which --scratch (runs/table) keeps. Before it starts, the command says how many
runs are missing and how long they will take, as far as earlier runs tell. The files say what was
trained on what, for how long, and

* log p(x) of the test images by importance sampling, with its standard error, and of each image (a
  packed text), so that the difference of two models has an error of its own,
* rate (the KL) and distortion, whose sum is the negative ELBO, and the units that are active,
* the Fréchet classifier distance of samples to held-out images, their precision and recall,
* what the run cost, in seconds of the clock and of the processors.

Training images are binarized anew at each use, the others once. Of the training images some are set
apart, by which settings are found (table_search.csv tells what was tried); the test images are used
once, by the finished models. A run that was made before images were set apart counts as missing.
Models that `TRIED` does not name still have settings from before: search first, then run them.
The epochs are what two CPU cores can do; --epochs trains longer, with the learning rate falling
over that many.
"""

import argparse
import base64
import json
import time
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

import vaebook as vb
from experiments.records import RESULTS, fit, read_rows, run_missing, write_text

FOLDER = RESULTS / "table"
DATASETS = ("mnist", "kmnist", "fashion_mnist")
SEEDS = (0, 1, 2)
TANH = {"latent_dim": 50, "hidden": (200, 200), "activation": "tanh"}  # Burda et al. 2016
LEVELS = {"latent_dims": (64, 32, 16, 8), "activation": "gelu"}
LADDER = LEVELS | {"hidden": (512, 256, 128, 64)}
LARGE = LEVELS | {"hidden": (800, 512, 256, 128)}
# One level of the same blocks, and as many parameters as `LADDER` has.
LEVEL = {"latent_dims": (64,), "hidden": (617,), "activation": "gelu"}
EARLY, WARM = (vb.NegativeELBO(schedule=vb.Warmup(end=end)) for end in (0.1, 0.3))
VALIDATION = {"mnist": 5000, "kmnist": 1000, "fashion_mnist": 5000}  # training images set apart
DRAWS = 5000  # of every test image, as in Burda et al.
SEARCHED = RESULTS / "table_search.csv"
TRIAL = ("optimizer", "batch_size", "peak", "epochs")


class Recipe(NamedTuple):
    """How a model is built and trained, perhaps from the weights that another one ended with."""

    builder: Any
    arguments: dict
    objective: Any
    epochs: int
    batch_size: int = 100
    lr: float = 1e-3
    after: str | None = None
    optimizer: str = "adam"


MODELS = {
    "vae": Recipe(vb.dense_vae, TANH, EARLY, 300, 1000, 4e-2, optimizer="muon"),
    "iwae-5": Recipe(
        vb.dense_vae, TANH, vb.ImportanceWeighted(5), 60, 1000, 1e-2, after="vae", optimizer="muon"
    ),
    "iwae-50": Recipe(
        vb.dense_vae, TANH, vb.ImportanceWeighted(50), 20, 500, 1e-2, "iwae-5", optimizer="muon"
    ),
    "one level": Recipe(vb.ladder_vae, LEVEL, WARM, 15, 200, 3e-3),
    "ladder": Recipe(vb.ladder_vae, LADDER, WARM, 15, 200, 3e-3),
    "large ladder": Recipe(vb.ladder_vae, LARGE, WARM, 120, 200, 3e-3),
    "large ladder iw-5": Recipe(
        vb.ladder_vae, LARGE, vb.ImportanceWeighted(5), 50, 200, 1e-3, after="large ladder"
    ),
    "large ladder iw-10": Recipe(
        vb.ladder_vae, LARGE, vb.ImportanceWeighted(10), 40, 200, 1e-3, after="large ladder iw-5"
    ),
    "conv": Recipe(vb.conv_vae, {"latent_dim": 50}, vb.NegativeELBO(), 10),
    "residual conv": Recipe(vb.conv_vae, {"latent_dim": 50, "residual": 1}, vb.NegativeELBO(), 10),
    "conditional": Recipe(vb.conditional_vae, TANH | {"classes": 10}, EARLY, 30),
}
# Short trainings of seed 0, from a short one of the model before.
TRIED = {
    "vae": [("adam", 100, peak, 20) for peak in (1e-3, 2e-3, 4e-3, 8e-3)]
    + [("adam", 1000, peak, 20) for peak in (4e-3, 8e-3, 1.6e-2)]
    + [("muon", 1000, peak, 20) for peak in (1e-2, 2e-2, 4e-2, 8e-2)],
    "iwae-5": [("muon", 1000, peak, 2) for peak in (5e-3, 1e-2, 2e-2, 4e-2)],
}
SEARCH = [
    {"model": model} | dict(zip(TRIAL, how, strict=True))
    for model, tried in TRIED.items() for how in tried
]  # fmt: skip


def build(model, image_shape, seed):
    """Return a model of that name, with the first weights of that seed."""
    torch.manual_seed(seed)
    return MODELS[model].builder(image_shape, **MODELS[model].arguments)


class Spent:
    """The processor seconds of a training, in a file that is brought up to date by each epoch."""

    def __init__(self, path):
        self.path = path
        before = float(path.read_text(encoding="utf-8")) if path.exists() else 0.0
        self.began = time.process_time() - before

    def __call__(self, model, rows):
        """Write them down, and let the training go on."""
        write_text(self.path, f"{self.seconds():.3f}")

    def seconds(self):
        """Return them, with those before an interruption."""
        return time.process_time() - self.began


def train(data, model, seed, scratch, *, epochs=None, device="auto"):
    """Train one model, from where it stopped; return it, its history and what it cost.

    The cost is seconds of the clock and of the processors, those of the models before it included.
    """
    recipe, before = MODELS[model], (0.0, 0.0)
    epochs = epochs or recipe.epochs
    if recipe.after:
        built, _, before = train(data, recipe.after, seed, scratch, device=device)
    else:
        built = build(model, data.image_shape, seed)
    name = f"{data.name}-{model.replace(' ', '-')}-{seed}-{epochs}"
    spent = Spent(scratch / f"{name}.seconds")
    history = fit(
        built, data.train, validation=data.validation[:1000], objective=recipe.objective,
        epochs=epochs, batch_size=recipe.batch_size, lr=vb.OneCycle(recipe.lr),
        optimizer=recipe.optimizer, device=device, seed=seed, callbacks=[spent],
        checkpoint=scratch / f"{name}.safetensors", resume=True,
    )  # fmt: skip
    clock = sum(row["seconds"] for row in history.rows if row["split"] == "train")
    return built, history, (before[0] + clock, before[1] + spent.seconds())


def load(name):
    """Return binarized images, some of the training images set apart to find settings by."""
    return vb.load(name, download=False).split(VALIDATION[name]).binarized()


def best(model, rows):
    """Return the trial of a search, a row of text, that explains validation images best."""
    return max((r for r in rows if r["model"] == model), key=lambda r: float(r["log_likelihood"]))


def search(data, rows, model, optimizer, batch_size, peak, epochs):
    """Train a model for a short time; return what that costs and how it explains validation images.

    A model that goes on from another begins with the best of that one's short trainings.
    """
    recipe = MODELS[model]
    built = build(model, data.image_shape, seed=0)
    if recipe.after:
        found = best(recipe.after, rows)
        train_briefly(built, data, recipe.after, *(found[key] for key in TRIAL))
    started = time.process_time()
    train_briefly(built, data, model, optimizer, batch_size, peak, epochs)
    seconds = time.process_time() - started
    estimate = vb.log_likelihood(built, data.validation[::2], draws=500, progress=False)
    return {
        "log_likelihood": round(estimate.mean, 3), "judged": len(estimate.per_image),
        "seconds": round(seconds, 1),
    }  # fmt: skip


def train_briefly(built, data, model, optimizer, batch_size, peak, epochs):
    """Make the training of a trial, whose numbers may be texts."""
    fit(
        built, data.train, objective=MODELS[model].objective, optimizer=optimizer,
        batch_size=int(batch_size), lr=vb.OneCycle(float(peak)), epochs=int(epochs),
        seed=0, device="cpu", progress=False,
    )  # fmt: skip


@torch.no_grad()
def drawn(model, count, seed=0):
    """Return so many images from the model, each pixel drawn as its likelihood has it."""
    torch.manual_seed(seed)
    if isinstance(model, vb.ConditionalVAE):
        model = model.given(range(model.classes))
    parts = [model.sample(min(500, count - start)).cpu() for start in range(0, count, 500)]
    return vb.as_images(torch.bernoulli(torch.cat(parts)))


def fidelity(judge, test, generated):
    """Return how far generated images are from held-out ones by what a judge sees in them."""
    real, made = (vb.fidelity.features(judge, images) for images in (test, generated))
    found = vb.fidelity.precision_recall(real[:2000], made[:2000])
    return {
        "frechet": vb.fidelity.frechet_distance(real, made),
        "precision": found.precision, "recall": found.recall,
    }  # fmt: skip


def judge_of(data):
    """Return the classifier that judges samples, trained on all training images, tossed once.

    Those set apart are among them: it judges finished models, and no setting is chosen by it.
    """
    images = vb.load(data.name, download=False).train.binarized("static")
    return vb.fidelity.train_judge(images, seed=0, progress=False)


def measure(data, model, seed, scratch, **changed):
    """Train one model and return all that is said of it."""
    built, history, (training_seconds, processor) = train(data, model, seed, scratch, **changed)
    recipe, test = MODELS[model], data.test
    started, processor_started = time.perf_counter(), time.process_time()
    estimate = vb.log_likelihood(built, test, draws=DRAWS)
    seconds = time.perf_counter() - started
    found = vb.evaluate(built, test, objective=vb.NegativeELBO())
    row = {
        "dataset": data.name, "model": model, "seed": seed,
        "epochs": history.last("train")["epoch"],
        "log_likelihood": estimate.mean, "standard_error": estimate.standard_error,
        "samples": DRAWS, "judged": len(estimate.per_image),
        "elbo": -found["loss"], "rate": found["kl"], "distortion": found["reconstruction"],
        "codes": list(built.config.get("latent_dims", [built.latent_dim])),
        "parameters": sum(p.numel() for p in built.parameters()),
        "training_seconds": training_seconds, "evaluation_seconds": seconds,
    }  # fmt: skip
    if isinstance(built, vb.LadderVAE):
        row["kl_per_level"] = vb.kl_per_level(built, test[:2000]).tolist()
    else:
        row["active_units"] = vb.diagnose(built, test[:2000]).active_units
    row |= fidelity(judge_of(data), test, drawn(built, len(test)))
    row["processor_seconds"] = processor + time.process_time() - processor_started
    row = {key: _round(value) for key, value in row.items()}
    about = {
        "made_by": "python -m experiments.table", "data": data.source, "test_images": len(test),
        "validation_images": len(data.validation), "run": history.provenance,
        "objective": repr(recipe.objective), "after": recipe.after,
        "settings": dict(batch_size=recipe.batch_size, lr=recipe.lr, optimizer=recipe.optimizer)
        | recipe.arguments,
    }  # fmt: skip
    curve = [[r["epoch"], _round(r["loss"])] for r in history.rows if r["split"] == "validation"]
    per_image = packed(estimate.per_image)
    return row | about | {"curve": curve[:: max(len(curve) // 40, 1)], "per_image": per_image}


def packed(nats):
    """Return numbers as a text, in tenths."""
    return base64.b64encode(zlib.compress((10 * nats).round().astype("<i2").tobytes(), 9)).decode()


def unpacked(text):
    """Return the numbers of such a text."""
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), "<i2") / 10


def held_out(data):
    """Return what the judge says of images that are no model's: the best that samples could get."""
    judge, test = judge_of(data), data.test
    others = data.train.binarized("static", seed=2)[: len(test)]
    row = {"dataset": data.name, "model": "held-out images", "data": data.source}
    row["accuracy"] = vb.fidelity.accuracy(judge, test)
    row |= fidelity(judge, test, others) | {"test_images": len(test)}
    return {key: _round(value) for key, value in row.items()}


def _round(value):
    if isinstance(value, list):
        return [_round(v) for v in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def keep(row, path):
    """Write a run, each entry on a line of its own."""
    lines = (f" {json.dumps(key)}: {json.dumps(value)}" for key, value in row.items())
    write_text(path, "{\n" + ",\n".join(lines) + "\n}\n")


def read(folder=FOLDER):
    """Return all runs that are done."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]


def made(path):
    """Tell whether a run is done, and was trained without the images set apart."""
    return path.exists() and "validation_images" in json.loads(path.read_text(encoding="utf-8"))


def outlook(dataset, missing, rows):
    """Say how many runs of a data set are missing, what the others took, and how long it will be.

    A missing run will take as long as another seed of the same model took, by the clock, and longer
    by so much as its evaluation has more draws. What a run begins with is the training of another,
    and is not counted again.
    """
    trained = {(row["model"], row["seed"]): row["training_seconds"] for row in rows}

    def seconds(row, draws):
        begun_with = trained.get((MODELS[row["model"]].after, row["seed"]), 0)
        per_draw = row["evaluation_seconds"] / (row["judged"] * row["samples"])
        return row["training_seconds"] - begun_with + per_draw * draws

    done = [row for row in rows if (row["model"], row["seed"]) not in missing]
    hours = sum(seconds(row, row["judged"] * row["samples"]) for row in done) / 3600
    took = {row["model"]: seconds(row, row["test_images"] * DRAWS) for row in rows}
    known = [took[model] for model, _ in missing if model in took]
    said = f"{dataset}: {len(missing)} runs missing; {len(done)} done in {hours:.1f} hours"
    if known:
        said += f"; about {sum(known) / 3600:.1f} hours for {len(known)} of the missing"
    return said


def main(argv=None):
    """Run the experiment, or say how far it is; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.table", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--dataset", choices=DATASETS, nargs="+", default=DATASETS)
    parser.add_argument("--model", choices=MODELS, nargs="+", default=[*MODELS])
    parser.add_argument("--seed", type=int, choices=SEEDS, nargs="+", default=SEEDS)
    parser.add_argument("--epochs", type=int, help="train for so many epochs")
    parser.add_argument("--device", default="auto", help="default: %(default)s")
    parser.add_argument(
        "--again", action="store_true", help="run also what is done, and replace it"
    )
    parser.add_argument("--list", action="store_true", help="run nothing, say what is missing")
    parser.add_argument("--scratch", type=Path, default=Path("runs/table"), help="for checkpoints")
    parser.add_argument("--results", type=Path, default=FOLDER, help="for results")
    parser.add_argument("--search", action="store_true", help="find learning rates, on MNIST")
    given = parser.parse_args(argv)
    if given.search:
        data = load("mnist")
        run_missing(SEARCHED, SEARCH, lambda **cell: search(data, read_rows(SEARCHED), **cell))
        return 0
    for name in given.dataset:
        try:
            data = None if given.list else load(name)
        except FileNotFoundError:
            print(f"{name}: not at hand")
            continue
        reference = given.results / f"{name}-held-out.json"
        if data and (given.again or not reference.exists()):
            keep(held_out(data), reference)
        paths = {
            (model, seed): given.results / f"{name}-{model.replace(' ', '-')}-{seed}.json"
            for model in given.model for seed in given.seed
        }  # fmt: skip
        missing = [cell for cell, path in paths.items() if given.again or not made(path)]
        if given.list:
            for cell in paths:
                state = "missing" if cell in missing else "done"
                print("{} {}, seed {}: {}".format(name, *cell, state))
        runs = [
            row for row in read(given.results) if row["dataset"] == name and row["model"] in MODELS
        ]
        print(outlook(name, missing, runs), flush=True)
        for model, seed in [] if given.list else missing:
            print(f"{name} {model}, seed {seed}", flush=True)
            changed = {"epochs": given.epochs, "device": given.device}
            row = measure(data, model, seed, given.scratch, **changed)
            keep(row, paths[model, seed])
            print({key: row[key] for key in ("log_likelihood", "elbo", "frechet")})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""Two networks on all of MNIST, trained to the end. Writes vaebook/results/digits*.

    python -m experiments.digits                        run what is missing, then assemble
    python -m experiments.digits --network mlp --seed 0     one run, to have several at once
    python -m experiments.digits --list                 say what is done and what is missing
    python -m experiments.digits --assemble             only collect the runs that are done

A network is a configuration, two lists of layers: ``mlp``, fully connected, and ``conv``,
convolutional, each trained with seeds 0, 1 and 2 on the grey pixels of 60,000 images, with a
learning rate that falls to 0 in a straight line.

A run keeps its state after each epoch under --scratch (runs/digits), where an interrupted one goes
on, and its rows when it ends. digits_curves.csv has a row per network, seed, epoch and split;
digits.json has settings, the last and the best of each run, mean and spread, and what each ran on.
About 25 minutes a run of ``mlp`` and 10 of ``conv`` on one CPU core.
"""

import argparse
import json
import re
import statistics
from pathlib import Path

import torch

import vaebook as vb
from experiments.records import RESULTS, fit, read_rows, write_rows, write_text

SEEDS = (0, 1, 2)
LATENT_DIM = 20

SOFTPLUS = {"kind": "dense", "size": 500, "activation": "softplus"}
NORMED = {"norm": True, "activation": "gelu"}
DOWN = {"kind": "conv", "kernel": 4, "stride": 2, "padding": 1, **NORMED}
UP = {"kind": "transposed_conv", "bias": False}
DOUBLE = {**UP, "kernel": 4, "stride": 2, "padding": 1}
NETWORKS = {
    "mlp": {
        "encoder": [SOFTPLUS, SOFTPLUS],
        "decoder": [
            SOFTPLUS, SOFTPLUS,
            {"kind": "dense", "size": 784},
            {"kind": "reshape", "shape": [1, 28, 28]},
        ],
    },
    "conv": {
        "encoder": [
            {**DOWN, "channels": 32},
            {**DOWN, "channels": 64},
            {"kind": "conv", "channels": 256, "kernel": 7, **NORMED},
        ],
        "decoder": [
            {"kind": "reshape", "shape": [LATENT_DIM, 1, 1]},
            {**UP, "channels": 256, "kernel": 1, **NORMED},
            {**UP, "channels": 64, "kernel": 7, **NORMED},
            {**DOUBLE, "channels": 32, **NORMED},
            {**DOUBLE, "channels": 1},
        ],
    },
}  # fmt: skip
SETTINGS = {
    "mlp": {"epochs": 100, "batch_size": 250, "lr": 2e-3, "precision": "auto"},
    "conv": {"epochs": 8, "batch_size": 128, "lr": 3e-3, "precision": "auto"},
}
COLUMNS = ["network", "seed", "epoch", "split", "loss", "reconstruction", "kl"]


def build(network, seed):
    """Return a network of that name, with the first weights of that seed."""
    torch.manual_seed(seed)
    return vb.layered_vae((1, 28, 28), LATENT_DIM, **NETWORKS[network])


def train(data, network, seed, scratch, **changed):
    """Train one network, from where it stopped; return and keep its rows and what it ran on."""
    settings = SETTINGS[network] | changed
    lr = settings.pop("lr")
    history = fit(
        build(network, seed), data.train, validation=data.test, lr=lambda done: lr * (1 - done),
        seed=seed, device="cpu", checkpoint=scratch / f"{network}-{seed}.safetensors",
        resume=True, **settings,
    )  # fmt: skip
    run = {
        "network": network, "seed": seed, "data": data.source, "run": history.provenance,
        "settings": SETTINGS[network] | changed, "rows": history.rows,
    }  # fmt: skip
    write_text(scratch / f"{network}-{seed}.json", json.dumps(run))
    return run


def summarize(run):
    """Return what counts of one run: its last and its best costs, and how long it took."""
    rows = {
        split: [row for row in run["rows"] if row["split"] == split]
        for split in ("train", "validation")
    }
    last = {split: found[-1] for split, found in rows.items()}
    found = {
        "network": run["network"], "seed": run["seed"], "epochs": last["train"]["epoch"],
        "train_loss": last["train"]["loss"],
        "best_train_loss": min(row["loss"] for row in rows["train"]),
        "test_loss": last["validation"]["loss"],
        "best_test_loss": min(row["loss"] for row in rows["validation"]),
        "test_reconstruction": last["validation"]["reconstruction"],
        "test_kl": last["validation"]["kl"],
        "seconds": sum(row["seconds"] for row in run["rows"]),
    }  # fmt: skip
    found = {k: float(f"{v:.6g}") if isinstance(v, float) else v for k, v in found.items()}
    return found | {"data": run["data"], "run": run["run"], "settings": run["settings"]}


def mean_and_spread(runs):
    """Return for each network the mean and the standard deviation over its seeds."""
    table = {}
    for network in NETWORKS:
        mine = [run for run in runs if run["network"] == network]
        for key in ("train_loss", "best_train_loss", "test_loss", "best_test_loss", "seconds"):
            values = [run[key] for run in mine]
            if len(values) > 1:
                both = {"mean": statistics.mean(values), "spread": statistics.stdev(values)}
                rounded = {k: float(f"{v:.6g}") for k, v in both.items()}
                table.setdefault(network, {})[key] = rounded
    return table


def assemble(scratch, results, data):
    """Collect the runs under `scratch` and those collected before; return how many there are."""
    old_rows, old_runs = committed(results)
    runs = {(run["network"], run["seed"]): run for run in old_runs}
    rows = {key: [row for row in old_rows if which(row) == key] for key in runs}
    for path in scratch.glob("*.json"):
        run = json.loads(path.read_text(encoding="utf-8"))
        runs[which(run)] = summarize(run)
        rows[which(run)] = [flat(run, row) for row in run["rows"]]
    order = [(network, seed) for network in NETWORKS for seed in SEEDS if (network, seed) in runs]
    about = {
        "made_by": "python -m experiments.digits", "latent_dim": LATENT_DIM,
        "learning_rate": "falls from lr to 0 in a straight line", "networks": NETWORKS,
        "seconds": "training and the test after each epoch, several runs at once",
        "bernoulli_floor": float(f"{vb.bernoulli_floor(data.train):.6g}"),
        "mean_and_spread": mean_and_spread([runs[key] for key in order]),
        "runs": [runs[key] for key in order],
    }  # fmt: skip
    text = json.dumps(about, indent=1)
    # A layer, as anything without lists or dicts in it, is read best in one line.
    text = re.sub(r"[{[][^][{}]*[]}]", lambda found: " ".join(found[0].split()), text)
    write_text(results / "digits.json", text + "\n")
    shown = [row for key in order for row in rows[key]]
    write_rows(results / "digits_curves.csv", shown, COLUMNS)
    return len(order)


def committed(results):
    """Return the rows and the runs that `assemble` has written, if any."""
    path = results / "digits.json"
    if not path.exists():
        return [], []
    runs = json.loads(path.read_text(encoding="utf-8"))["runs"]
    return read_rows(results / "digits_curves.csv"), runs


def finished(scratch, results):
    """Return which runs have ended, as pairs of network and seed."""
    kept = [json.loads(path.read_text(encoding="utf-8")) for path in scratch.glob("*.json")]
    return {which(run) for run in kept + committed(results)[1]}


def which(run):
    """Return the network and the seed of a run or a row."""
    return run["network"], int(run["seed"])


def flat(run, row):
    """Return one row of the CSV file; what `fit` calls validation are the test images."""
    split = "train" if row["split"] == "train" else "test"
    numbers = {key: f"{row[key]:.3f}" for key in COLUMNS[4:]}
    return dict(zip(COLUMNS, [*which(run), row["epoch"], split], strict=False)) | numbers


def main(argv=None):
    """Run the experiment, or say how far it is; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.digits", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--network", choices=NETWORKS, help="run this network only")
    parser.add_argument("--seed", type=int, choices=SEEDS, help="run this seed only")
    parser.add_argument("--list", action="store_true", help="run nothing, say what is missing")
    parser.add_argument("--assemble", action="store_true", help="run nothing, collect what is done")
    parser.add_argument(
        "--scratch", type=Path, default=Path("runs/digits"), help="for runs (default: %(default)s)"
    )
    parser.add_argument(
        "--results", type=Path, default=RESULTS, help="for results (default: vaebook/results)"
    )
    given = parser.parse_args(argv)
    wanted = [
        (network, seed) for network in NETWORKS for seed in SEEDS
        if given.network in (None, network) and given.seed in (None, seed)
    ]  # fmt: skip
    done = finished(given.scratch, given.results)
    missing = [cell for cell in wanted if cell not in done]
    if given.list:
        for network, seed in wanted:
            print(network, f"seed {seed}:", "missing" if (network, seed) in missing else "done")
        return 0
    data = vb.load("mnist")
    if not given.assemble:
        for number, (network, seed) in enumerate(missing, 1):
            print(f"{number}/{len(missing)}: {network}, seed {seed}", flush=True)
            train(data, network, seed, given.scratch)
    if given.network is None and given.seed is None:
        print(f"{assemble(given.scratch, given.results, data)} runs in {given.results}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""Kill trainings at random moments and resume them: each must end as if nothing had happened.

    python -m experiments.torture --kills 1000

Several trainings of a tiny model run at once, by the command line. Each is killed (SIGKILL) at a
random moment and resumed, until it ends. Then its weights, its optimizer's state and its losses
must be bit for bit those of an undisturbed run, and its folder must hold no file more. After so
many kills, or minutes, those that are left end in peace.
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch

import vaebook as vb
from vaebook import __main__ as command_line
from vaebook.training.checkpoints import read

NEW = "train --data digits --image-size 16 --latent-dim 2 --epochs 6 --batch-size 20"
HALF = {"kind": "dense", "size": 9, "activation": "relu"}
BACK = [HALF, {"kind": "dense", "size": 256}, {"kind": "reshape", "shape": [1, 16, 16]}]
FILES = ["config.json", "history.csv", "model.safetensors"]
CLOCK = "seconds", "images_per_second"


def warm():
    """Load once what all processes need, and take the pictures from the command line."""
    torch.set_num_threads(1)
    data = vb.load("digits", image_size=16)
    data = replace(data, train=data.train[:80], test=data.test[:20])
    vb.load = lambda *args, **options: data
    command_line._draw = lambda *args: None


def start(out):
    """Begin a training, or go on with it, in a process of its own; return the process's number."""
    begun = any((out / name).exists() for name in FILES)
    layers = str(out.parent / "layers.json")
    command = (
        ["train", "--resume"] if begun else [*NEW.split(), "--model", layers, "--device", "cpu"]
    )
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = command_line.main([*command, "--out", str(out)])
    finally:
        os._exit(code)


def outcome(out):
    """Return all that a run has left except how long it took, and the names of its files."""
    header, tensors = read(out / "model.safetensors")
    rows = [{k: v for k, v in row.items() if k not in CLOCK} for row in header["rows"]]
    header = {k: v for k, v in header.items() if k not in ("rows", "checksum")}
    table = pd.read_csv(out / "history.csv").drop(columns=list(CLOCK)).to_csv()
    return header, rows, tensors, table, sorted(path.name for path in out.iterdir())


def differences(one, other):
    """Return the names of what differs between two outcomes."""
    names = "header", "losses", "weights", "history.csv", "files"
    pairs = list(zip(names, one, other, strict=True))
    tensors, others = one[2], other[2]
    alike = tensors.keys() == others.keys()
    alike = alike and all(torch.equal(tensors[name], others[name]) for name in tensors)
    return [n for n, a, b in pairs if (not alike if n == "weights" else a != b)]


def torture(folder, kills, seconds, together, seed):
    """Kill and resume; return the counts of kills and of runs that ended as they should."""
    luck, until, began = random.Random(seed), time.monotonic() + seconds, time.monotonic()
    layers, whole = {"encoder": [HALF], "decoder": BACK}, folder / "whole"
    (folder / "layers.json").write_text(json.dumps(layers), "utf-8")
    if os.waitpid(start(whole), 0)[1]:
        sys.exit("the undisturbed run failed")
    wanted, length = outcome(whole), time.monotonic() - began
    if wanted[-1] != FILES:
        sys.exit(f"the undisturbed run left {wanted[-1]}")
    running, killed, ended, number = {}, 0, 0, 0
    while True:
        left = killed < kills and time.monotonic() < until
        while left and len(running) < together:
            number += 1
            out = folder / str(number)
            running[start(out)] = out, time.monotonic() + luck.uniform(0, length)
        if not running:
            return killed, ended
        for pid, (out, moment) in list(running.items()):
            if left and time.monotonic() >= moment:
                os.kill(pid, signal.SIGKILL)
            done, status = os.waitpid(pid, os.WNOHANG)
            if not done:
                continue
            del running[pid]
            if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
                killed += 1
                running[start(out)] = out, time.monotonic() + luck.uniform(0, length)
            elif status or (wrong := differences(wanted, outcome(out))):
                sys.exit(f"{out.name}: status {status}" if status else f"{out.name}: {wrong}")
            else:
                ended += 1
        time.sleep(0.002)


def main(argv=None):
    """Torture trainings and print what came of it; exit with an error where one ended otherwise."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--minutes", type=float, default=18)
    parser.add_argument("--together", type=int, default=4, help="trainings at once")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    warm()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        counts = torture(
            Path(folder), options.kills, 60 * options.minutes, options.together, options.seed
        )
    seconds = time.monotonic() - began
    print("{} kills; {} runs ended as undisturbed".format(*counts), f"({seconds:.0f} s)")


if __name__ == "__main__":
    main()

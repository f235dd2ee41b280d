"""Disturb trainings at random and resume them: each must end as if nothing had happened.

    python -m experiments.torture --kills 1000

Several trainings of a tiny model run at once, by the command line, each in a process forked from
this one. What befalls them is drawn by lot (`HAZARDS`). However it went, no file may be
half-written. The training is then resumed, and disturbed again, until it ends. Its weights, its
optimizer's state and its losses must be bit for bit those of an undisturbed run, and its folder
must hold no file more. After so many kills, or minutes, those that are left end in peace. Then
the same with trainings by two processes, of which one is killed: the other must end by itself.

A kill loses nothing that the system still has in its memory: a power cut is not tried here.
"""

import argparse
import json
import os
import random
import resource
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch
import torch._dynamo  # which optimizers need, and which takes seconds to load

import vaebook as vb
from vaebook import __main__ as command_line
from vaebook.training.checkpoints import read
from vaebook.training.history import rows_in

NEW = "train --data digits --image-size 16 --latent-dim 2 --epochs 6 --batch-size 20"
HALF = {"kind": "dense", "size": 9, "activation": "relu"}
BACK = [HALF, {"kind": "dense", "size": 256}, {"kind": "reshape", "shape": [1, 16, 16]}]
FILES = ["config.json", "history.csv", "model.safetensors"]
CLOCK = "seconds", "images_per_second"
# A kill at a moment, at a byte of a file that is being written, or before a call about files; a
# disk that is full from a byte on. For each: how often it is drawn, and how a process then ends.
HAZARDS = {
    "moment": (4, -signal.SIGKILL),
    "byte": (1, -signal.SIGXFSZ),
    "call": (1, -signal.SIGKILL),
    "full": (1, 2),
}
TWO = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "TORCHELASTIC_RUN_ID": "torture"}
ALONE = 30  # seconds within which a process ends when the other is gone
BYTES, CALLS = 1_200_000, 60  # a few more than an undisturbed run writes to a file, and makes
FILE_CALLS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir"}


def warm():
    """Load once what all processes need, and take the pictures from the command line."""
    torch.set_num_threads(1)
    data = vb.load("digits", image_size=16)
    data = replace(data, train=data.train[:80], test=data.test[:20])
    vb.load = lambda *args, **options: data
    command_line._draw = lambda *args: None


def expose(hazard, at, out):
    """Prepare what will befall this process: it begins `at` a fraction of the calls about files."""
    if hazard not in ("byte", "call", "full"):
        return
    left, fsync = int(at * CALLS), os.fsync
    size = int(random.Random(at).random() ** 6 * BYTES)  # often within a small file
    if hazard == "byte":  # Python has an error in the place of this signal
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    def count(event, arguments):
        nonlocal left
        if event not in FILE_CALLS or not str(arguments[0]).startswith(str(out)):
            return
        left -= 1
        if left < 0 and hazard == "call":
            os.kill(os.getpid(), signal.SIGKILL)
        elif left < 0:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    def counted(handle):  # of which Python tells no hook
        count("open", [out])
        fsync(handle)

    os.fsync = counted
    sys.addaudithook(count)


class Training:
    """A process that trains into a folder, or goes on with what is there.

    With a `place` it is one of two, as torchrun would start them: a rank and a port to meet at.
    """

    def __init__(self, out, hazard=None, at=1.0, place=None):
        self.out, self.hazard, self.at = out, hazard, at
        begun = any((out / name).exists() for name in FILES)
        layers = str(out.parent / "layers.json")
        command = (
            ["train", "--resume"] if begun else [*NEW.split(), "--model", layers, "--device", "cpu"]
        )
        self.began = time.monotonic()
        (self.words, words), (self.errors, errors) = os.pipe(), os.pipe()
        self.pid = os.fork()
        if self.pid:
            os.close(words)
            os.close(errors)
            return
        code = 1
        try:
            os.dup2(words, 1)
            os.dup2(errors, 2)
            sys.stdout, sys.stderr = (os.fdopen(each, "w", 1, "utf-8") for each in (words, errors))
            if place:
                rank, port = map(str, place)
                os.environ |= {"RANK": rank, "LOCAL_RANK": rank, "MASTER_PORT": port} | TWO
            expose(hazard, at, out)
            code = command_line.main([*command, "--out", str(out)])
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)

    def status(self, wait=False):
        """Return how the process has ended, and what it said of errors; nothing before it has."""
        pid, status = os.waitpid(self.pid, 0 if wait else os.WNOHANG)
        if not pid:
            return None
        os.close(self.words)
        with open(self.errors, encoding="utf-8") as said:
            return os.waitstatus_to_exitcode(status), said.read()


def outcome(out):
    """Return all that a run has left except how long it took, and the names of its files."""
    header, tensors = read(out / "model.safetensors")
    rows = [{k: v for k, v in row.items() if k not in CLOCK} for row in rows_in(header, tensors)]
    del header["checksum"], tensors["history"]
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


def fault(training, status, said, wanted):
    """Return what is wrong with the way in which a process has ended; nothing if all is right."""
    _, other = HAZARDS.get(training.hazard, (0, 0))
    if status not in (0, other) or said.count("\n") != (status == 2):
        return f"status {status}, and said: {said or 'nothing'}"
    if status == 0:
        return differences(wanted, outcome(training.out))
    held = {path.name for path in training.out.iterdir()} if training.out.exists() else set()
    more = held - {*FILES} if status == 2 else None
    return more or half_written(training.out)


def half_written(out):
    """Return what is wrong with a file of a run that was stopped; nothing if all are whole."""
    config, table, model = (out / name for name in FILES)
    try:
        if config.exists():
            json.loads(config.read_text("utf-8"))
        if model.exists():
            read(model)
        if table.exists() and table.read_text("utf-8").count("\n") != 13:  # a line for each row
            return "history.csv is half-written"
    except ValueError as error:
        return error
    return None


def torture(folder, kills, seconds, together, seed):
    """Disturb and resume; return how often each hazard struck and how many runs have ended."""
    luck, until = random.Random(seed), time.monotonic() + seconds
    (folder / "layers.json").write_text(json.dumps({"encoder": [HALF], "decoder": BACK}), "utf-8")
    whole = Training(folder / "whole")
    if (ended := whole.status(wait=True)) != (0, ""):
        sys.exit(f"the undisturbed run failed: {ended}")
    length, wanted = time.monotonic() - whole.began, outcome(whole.out)
    if wanted[-1] != FILES:
        sys.exit(f"the undisturbed run left {wanted[-1]}")
    running, struck, number = [], Counter(dict.fromkeys(["ended", *HAZARDS], 0)), 0
    shares = [share for share, _ in HAZARDS.values()]
    while True:
        left = struck["moment"] < kills and time.monotonic() < until

        def start(out, left=left):
            hazard = luck.choices([*HAZARDS], shares)[0] if left else None
            running.append(Training(out, hazard, luck.random()))

        while left and len(running) < together:
            number += 1
            start(folder / str(number))
        if not running:
            return struck
        for training in [*running]:
            late = time.monotonic() > training.began + training.at * length
            if left and training.hazard == "moment" and late:
                os.kill(training.pid, signal.SIGKILL)
            if (ended := training.status()) is None:
                continue
            running.remove(training)
            if wrong := fault(training, *ended, wanted):
                sys.exit(f"{training.out.name} ({training.hazard}): {wrong}")
            struck["ended" if ended[0] == 0 else training.hazard] += 1
            if ended[0]:
                start(training.out)
        time.sleep(0.002)


def pair(out):
    """Begin, or go on with, a training by two processes; return them when they have met."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    both = [Training(out, place=(rank, port)) for rank in (0, 1)]
    os.read(both[0].words, 1)
    return both


def torture_pairs(folder, kills, seconds, seed):
    """Kill one of two processes; return how often, the runs ended, and the other's longest end."""
    luck, until = random.Random(seed), time.monotonic() + seconds
    both, began = pair(folder / "two"), time.monotonic()
    if [process.status(wait=True)[0] for process in both] != [0, 0]:
        sys.exit("the undisturbed run of two processes failed")
    length, wanted = time.monotonic() - began, outcome(folder / "two")
    killed, ended, longest = 0, 0, 0.0
    while killed < kills and time.monotonic() < until:
        out, done = folder / f"two-{ended}", False
        while not done:
            both = pair(out)
            luck.shuffle(both)
            if killed < kills and time.monotonic() < until:
                time.sleep(luck.uniform(0, length))
                os.kill(both[0].pid, signal.SIGKILL)
            began = time.monotonic()
            status, _ = both[0].status(wait=True)
            while (other := both[1].status()) is None and time.monotonic() < began + ALONE:
                time.sleep(0.01)
            killed += status == -signal.SIGKILL
            if other is None:
                os.kill(both[1].pid, signal.SIGKILL)
                sys.exit(f"{out.name}: the process that was left has not ended within {ALONE} s")
            if other[0] not in (0, 2) or other[1].count("vaebook: ") != (other[0] == 2):
                sys.exit(f"{out.name}: status {other[0]}, and said: {other[1]}")
            if wrong := half_written(out):
                sys.exit(f"{out.name}: {wrong}")
            longest = max(longest, time.monotonic() - began if other[0] else 0)
            done = status == other[0] == 0
        if wrong := differences(wanted, outcome(out)):
            sys.exit(f"{out.name}: {wrong}")
        ended += 1
    return killed, ended, longest


def main(argv=None):
    """Torture trainings and print what came of it; exit with an error where one ended otherwise."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=1000, help="at random moments")
    parser.add_argument("--pairs", type=int, default=100, help="kills of one of two processes")
    parser.add_argument("--minutes", type=float, default=18)
    parser.add_argument("--together", type=int, default=2, help="trainings at once")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    warm()
    began, before, seconds = time.monotonic(), sum(os.times()[:4]), 60 * options.minutes
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        struck = torture(place, options.kills, 0.8 * seconds, options.together, options.seed)
        of_two = torture_pairs(place, options.pairs, 0.2 * seconds, options.seed)
    took, used = time.monotonic() - began, sum(os.times()[:4]) - before
    ends = "{moment} kills at a moment, {byte} at a byte, {call} before a call, {full} full disks"
    print(f"{ends.format_map(struck)}; {struck['ended']} runs ended as undisturbed")
    pairs = "{} kills of one of two processes, {} such runs ended as undisturbed; the other process"
    print(pairs.format(*of_two), f"ended within {of_two[2]:.1f} s")
    print(f"{took:.0f} s, {used:.0f} s of processors")


if __name__ == "__main__":
    main()

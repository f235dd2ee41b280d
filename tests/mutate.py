"""Mutated copies of a saved model and of a run's file: each loads whole, or is a ValueError.

python -m tests.mutate --count 5000
"""

import argparse
import json
import random
import signal
import struct
import tempfile
from collections import Counter
from pathlib import Path

import torch

import vaebook as vb

IMAGES = torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(0))
OPTIONS = {"batch_size": 20, "progress": False, "device": "cpu", "precision": "float32"}
ODD = [
    None, True, -1, 0, 7, 10**9, 10**30, 1.5, float("nan"), float("inf"), "", "adam", "\n",
    [], {}, [[]], [None] * 9, {"a": 1}, [10**9], "x" * 300,
]  # fmt: skip


NUMBERS = [0, -1, 0.5, 1, 2, 3, 1e9, 1e30, float("nan"), float("inf"), -float("inf")]


def new_model(seed=0):
    torch.manual_seed(seed)
    return vb.dense_vae((1, 8, 8), 2, hidden=(6,))


def run(path, resume=False, epochs=1):
    """Train for an epoch into a file, or take up what is there, which needs no more training."""
    model = new_model()
    vb.fit(model, IMAGES, epochs=epochs, validation=IMAGES, snapshots=2, checkpoint=path,
           resume=resume, **OPTIONS)  # fmt: skip
    return model


def sources(folder):
    """Write a model and the file of a run."""
    vb.save(new_model(), folder / "model")
    run(folder / "run")
    return folder / "model", folder / "run"


def header_of(content):
    """Return the header of a safetensors file, vaebook's JSON in it, and the bytes after it."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    return header, json.loads(header["__metadata__"]["vaebook"]), content[end:]


def joined(header, inner, rest):
    """Put a file together again."""
    header["__metadata__"]["vaebook"] = json.dumps(inner)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + rest


def swapped(rng, holder, odd=ODD):
    """Replace or remove a value somewhere in what JSON can hold."""
    while True:
        keys = [*holder] if isinstance(holder, dict) else [*range(len(holder))]
        key = rng.choice([key for key in keys if key != "__metadata__"])
        deeper = isinstance(holder[key], dict | list) and len(holder[key])
        if not deeper or rng.random() < 0.3:
            break
        holder = holder[key]
    if rng.random() < 0.15:
        holder.pop(key)
    else:
        holder[key] = rng.choice(odd)


def replaced(rng, content):
    """Replace or remove a value somewhere in the JSON of the file or in vaebook's."""
    header, inner, rest = header_of(content)
    holder = rng.choice([header, inner, inner])
    if holder is inner and rng.random() < 0.7:
        inner.pop("checksum", None)
    swapped(rng, holder)
    return joined(header, inner, rest)


def renumbered(rng, content):
    """Replace a number of the rows, or a weight where there are none, by an odd one."""
    header, inner, rest = header_of(content)
    inner.pop("checksum", None)
    names = ["history"] if "history" in header else [n for n in header if n != "__metadata__"]
    held = header[rng.choice(names)]
    kind = "<d" if held["dtype"] == "F64" else "<f"
    start, end = held["data_offsets"]
    at = rng.randrange(start, end, size := struct.calcsize(kind))
    number = struct.pack(kind, rng.choice(NUMBERS))
    return joined(header, inner, rest[:at] + number + rest[at + size :])


def mutated(rng, content):
    """Return the bytes of a file with one thing wrong."""
    kind, at = rng.choice(["flip", "cut", "insert", "remove", "number", *["json"] * 4]), 0
    if kind == "json":
        return replaced(rng, content)
    if kind == "number":
        return renumbered(rng, content)
    at = rng.randrange(len(content) if rng.random() < 0.3 else 4000)
    size = rng.choice([1, 2, 8, 100])
    if kind == "flip":
        return content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :]
    if kind == "cut":
        return content[:at]
    return content[:at] + (
        rng.randbytes(size) + content[at:] if kind == "insert" else content[at + size :]
    )


def outcome(path, is_run):
    """Read a file; tell whether that went well, was refused, or how it failed."""
    try:
        model = run(path, resume=True) if is_run else vb.load_model(path)
    except (ValueError, FileNotFoundError) as error:
        text = str(error)
        return "refused" if "\n" not in text else f"several lines: {text:.150}"
    except Exception as error:
        return f"raw {type(error).__name__}: {error!s:.150}"
    state, shapes = model.state_dict(), {n: v.shape for n, v in new_model().state_dict().items()}
    if {name: value.shape for name, value in state.items()} != shapes:
        return "loaded in other shapes"
    return "loaded" if all(value.isfinite().all() for value in state.values()) else "not finite"


def mutate(count, folder, seed=0):
    """Return how often each outcome came of so many mutated copies."""
    rng, found, place = random.Random(seed), Counter(), folder / "mutated"
    files = [(path.read_bytes(), path.name == "run") for path in sources(folder)]
    for i in range(count):
        content, is_run = files[i % 2]
        place.write_bytes(mutated(rng, content))
        found[outcome(place, is_run)] += 1
    return found


class Hang(BaseException):
    """What no reader takes for a damaged file."""


def hang(*_):
    raise Hang("no answer within 10 s")


def main():
    import resource  # which Windows does not have

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=5000)
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    count, total, slices = parser.parse_args().count, Counter(), 0
    signal.signal(signal.SIGALRM, hang)
    original = outcome

    def timed(*args):
        signal.alarm(10)
        try:
            return original(*args)
        finally:
            signal.alarm(0)

    globals()["outcome"] = timed
    with tempfile.TemporaryDirectory() as folder:
        total = mutate(count, Path(folder), slices)
    for words, times in total.most_common():
        print(f"{times:6} {words}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"peak memory {(peak - start) / 1024:.0f} MB above the start")


if __name__ == "__main__":
    main()

"""The readers and the damage of `make fuzz`: its short form, without atheris."""

import random
import sys
from functools import partial

import pytest

from experiments import fuzz, fuzzed
from vaebook import __main__ as command_line
from vaebook.training import loop

pytestmark = [
    pytest.mark.usefixtures("unchecked"),
    pytest.mark.skipif(sys.platform == "win32", reason="its limits of memory are Unix's"),
]


def flipped(content, rng):
    changed = bytearray(content)
    changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def test_both_lists_name_the_same_readers():
    assert [*fuzzed.READERS] == fuzz.READERS


@pytest.mark.parametrize("reader", fuzz.READERS)
def test_a_reader_answers_whole_and_damaged_files(reader, tmp_path, monkeypatch):
    read, damage, whole = fuzzed.READERS[reader]
    rng, contents = random.Random(0), whole()
    monkeypatch.setattr(command_line, "_draw", lambda *args: None)
    monkeypatch.setattr(loop, "train", lambda run, listeners: run.history)
    for content in rng.choices(contents, k=8):
        plain = partial(flipped, rng=rng)
        contents = [*contents, damage(content, rng, plain) if damage else plain(content)]
    for number, content in enumerate(contents):
        (folder := tmp_path / str(number)).mkdir()
        (folder / "x.png").write_bytes(content)
        read(folder / "x.png")


def test_an_answer_without_the_files_name_or_of_two_lines_is_a_finding():
    for text in ("no name", "x.png:\nmore", "x.png" + 2000 * "!"):
        with pytest.raises(fuzzed.Finding), fuzzed.answered("x.png"):
            raise ValueError(text)
    with fuzzed.answered("x.png"):
        raise ValueError("x.png: no picture")
    with pytest.raises(KeyError), fuzzed.answered("x.png"):
        raise KeyError("x.png")

"""Every public name tells what a reader needs: purpose, arguments, errors, an example, a page."""

import ast
import inspect
import re
import textwrap

import pytest

import vaebook as vb
from tests.browser import BOOK, load
from vaebook import checks

ROOT = BOOK.parent
PLACES = [(room, name) for room in (vb, vb.plot) for name in room.__all__]
THINGS = {f"{room.__name__}.{name}": getattr(room, name) for room, name in PLACES}
DOCUMENTED = {name: thing for name, thing in THINGS.items() if callable(thing)}
VALUES = [n for n, thing in THINGS.items() if n not in DOCUMENTED and not inspect.ismodule(thing)]
# What the docstring of a room says once for all its functions; the two speak for themselves.
SAID_ONCE = {*re.findall(r"`(\w+)`", vb.__doc__ + vb.plot.__doc__), "model", "images"}
# Whose example is that of another name, which takes or returns it.
SHOWN_BY = {
    "DecoderNetwork": "VAE", "EncoderNetwork": "VAE", "Run": "Listener", "Dataset": "load",
    "Images": "as_images", "History": "fit", "evaluate": "fit", "load_model": "save",
    "Diagnosis": "diagnose", "LogLikelihood": "log_likelihood", "Posterior": "posterior",
}  # fmt: skip
CHECKS = [name for name, value in vars(checks).items() if inspect.isfunction(value)]
CHECKING = re.compile(rf"\b(?:{'|'.join([*CHECKS, 'prepare', 'as_images'])})\(|\braise ")

each_thing = pytest.mark.parametrize("name", DOCUMENTED)


@pytest.fixture(scope="module")
def reference():
    """The extension that makes the pages."""
    return load("reference", BOOK / "_ext")


def docstring(name):
    """Return a docstring of its own, or nothing where a dataclass or a tuple made one up."""
    text = inspect.getdoc(DOCUMENTED[name]) or ""
    return "" if text.startswith(f"{name.rpartition('.')[2]}(") else text


def arguments(thing):
    """Return the names of the arguments, without those that are handed on."""
    many = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p.name for p in inspect.signature(thing).parameters.values() if p.kind not in many]


def checking_code(thing):
    """Return the code of a function, or of what makes an object of a class, without docstrings."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(thing)))).body
    makers = ("__init__", "__post_init__")
    made_by = [node for node in tree.body if getattr(node, "name", "") in makers]
    functions = made_by if isinstance(tree, ast.ClassDef) else [tree]
    lines = [line for function in functions for line in function.body]
    texts = [line for line in lines if not isinstance(getattr(line, "value", 0), ast.Constant)]
    return "\n".join(map(ast.unparse, texts))


@each_thing
def test_summary_is_a_sentence_on_one_line(name):
    first, *rest = docstring(name).split("\n")
    assert re.fullmatch(r"\S.{9,}\.", first), f"{name}: {first!r}"
    assert not "".join(rest[:1]), f"{name}: expected a blank line after the first"


@each_thing
def test_every_argument_is_described(name):
    text, thing = docstring(name), DOCUMENTED[name]
    told = set(re.findall(r"`(\w+)`", text))
    for heads in re.findall(r"^(\w+(?:, \w+)*)\n    \S", text, re.MULTILINE):  # under Parameters
        told |= set(heads.split(", "))
    if inspect.isclass(thing):  # fields may have a comment instead
        told |= set(re.findall(r"^    (\w+): .*  #: \S", inspect.getsource(thing), re.MULTILINE))
    missing = [argument for argument in arguments(thing) if argument not in told | SAID_ONCE]
    assert not missing, f"{name} does not say what {', '.join(missing)} may be"


@each_thing
def test_who_checks_arguments_says_what_is_raised(name):
    if CHECKING.search(checking_code(DOCUMENTED[name])):
        said = re.search(r"\b[A-Z]\w+Error\b|Raises as", docstring(name))
        assert said, f"{name} checks its arguments and does not say what it raises"


@each_thing
def test_there_is_an_example(name):
    room, _, word = name.rpartition(".")
    shown_by = f"{room}.{SHOWN_BY.get(word, word)}" if room == "vaebook" else name
    assert ">>> " in docstring(shown_by), f"{name} has no example"


@pytest.mark.parametrize("name", VALUES)
def test_every_value_has_a_comment_for_the_reference(name, reference):
    assert reference.comment(name).endswith(".")


def test_every_name_has_an_entry_on_one_page(reference):
    pages = (ROOT / "book" / "reference").glob("*.md")
    text = "\n".join(page.read_text("utf-8") for page in pages)
    rooms = " ".join(re.findall(r"^\.\. room:: (.+)$", text, re.MULTILINE)).split()
    entries = [name for room in rooms for name in reference.shown_by(room)]
    assert sorted(entries) == sorted(reference.public())
    assert set(entries) >= set(DOCUMENTED) | set(VALUES)


def test_every_lesson_is_found_to_use_the_package(reference):
    uses = {page: found for page, (_, found) in reference.chapters().items()}
    assert len(uses) > 15
    assert "vaebook.fit" in uses["book/01-a-first-vae"]
    assert "vaebook.ladder_vae" in uses["book/16-beyond-one-layer"]
    assert not any("vaebook.ladder_vae" in uses[page] for page in list(uses)[:3])


def test_words_in_code_lead_to_the_longest_name_that_has_an_entry(reference):
    assert reference.entry("plot", "images") == "vaebook.plot.images"
    assert reference.entry("likelihoods", "Gaussian") == "vaebook.likelihoods.Gaussian"
    assert reference.entry("VAE", "sample") == "vaebook.VAE"
    assert reference.entry("nonsense") is None


def test_chapters_that_docstrings_name_are_there(reference):
    sources = [path.read_text("utf-8") for path in (ROOT / "vaebook").rglob("*.py")]
    named = [page for source in sources for page in reference.named_in(source)]
    assert {"book/01-a-first-vae", "book/11-from-scratch"} <= set(named)
    with pytest.raises(reference.ExtensionError, match="a chapter's title, got 'No Such'"):
        reference.named_in("Chapter *No Such* derives it.")

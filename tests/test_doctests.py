"""Every example in a docstring runs, and prints what it says."""

import doctest
import inspect
import pkgutil
from importlib import import_module

import pytest

import vaebook

MODULES = [
    "vaebook",
    *(module.name for module in pkgutil.walk_packages(vaebook.__path__, "vaebook.")),
]


def documented(member):
    """Say whether a docstring is the member's own; a number has that of its type."""
    return callable(member) or isinstance(member, property)


def examples(module):
    """Find the examples of a module and of what is defined in it, under the tests' wrappers."""
    found = [(module.__name__, module)]
    for name, thing in vars(module).items():
        if getattr(thing, "__module__", None) == module.__name__:
            found.append((name, thing))
            if inspect.isclass(thing):
                members = [(key, value) for key, value in vars(thing).items() if documented(value)]
                found += [(f"{name}.{key}", member) for key, member in members]
    parser = doctest.DocTestParser()
    for name, thing in found:
        docstring = getattr(thing, "__doc__", None) or ""
        yield parser.get_doctest(docstring, dict(vars(module)), name, module.__file__, 0)


@pytest.mark.parametrize("name", MODULES)
def test_examples(name, data_root):
    module = import_module(name)
    tests = [test for test in examples(module) if test.examples]
    written = [
        line for line in inspect.getsource(module).splitlines() if line.strip()[:4] == ">>> "
    ]
    assert sum(len(test.examples) for test in tests) == len(written), "some were not found"
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    report = []
    for test in tests:
        runner.run(test, out=report.append)
    assert not runner.failures, "".join(report)

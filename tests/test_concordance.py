"""The appendix for R readers names every R function of the book, and only Python that exists."""

import builtins
import importlib
import re
from functools import reduce
from pathlib import Path

import pytest

BOOK = Path(__file__).parents[1] / "book"
PAGE = (BOOK / "80-from-r-torch-to-pytorch.md").read_text(encoding="utf-8")
R_FILES = sorted((BOOK / "r").glob("*.R"))

# What R code of the original chapter's kind cannot do without; `name(` and `$name(` are one name.
ORIGINAL = """
    library kmnist_dataset to torch_float newaxis dataloader cuda_is_available torch_device
    nn_module initialize view forward nn_linear nn_sequential nn_conv2d nn_batch_norm2d
    nn_leaky_relu c nn_conv_transpose2d nn_sigmoid torch_flatten list torch_tensor
    torch_randn_like nnf_binary_cross_entropy torch_sum exp torch_pow torch_exp torch_randn
    optim_adam parameters coro::loop enumerate zero_grad cat as.numeric cpu cuda with_no_grad
    vision_make_grid as_array backward step seq length par rep as.raster purrr::map purrr::walk
    purrr::iwalk plot knitr::include_graphics train eval dataloader_make_iter dataloader_next
    .iter .next as.integer torch_int32 as.data.frame mutate as.factor ggplot aes geom_point
    coord_fixed detach rbind cbind item transform_to_tensor torch_stack torch_cat
    <- %<-% %->% %>% |> ^ %% .. N self$
"""
# What the page imports under a shorter name.
IMPORTED = {"F": "torch.nn.functional", "nn": "torch.nn", "np": "numpy", "pd": "pandas"}
IMPORTED |= {"plt": "matplotlib.pyplot", "sns": "seaborn"}
# Words of the grammar, which no reader looks up as functions.
GRAMMAR = {"if", "for", "while", "repeat", "switch", "function"}


def rows():
    """Return for each row of the tables its R functions and its Python objects, without notes."""
    section = re.search(r"^## R function to Python$(.*?)^## ", PAGE, re.MULTILINE | re.DOTALL)[1]
    found = []
    for line in section.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) == 2 and cells[0] not in ("R", "---"):
            named, grammar = cells[1].partition("; ")[0], cells[1].startswith("— ")
            r, python = (re.findall(r"`([^`]+)`", cell) for cell in (cells[0], named))
            assert r, line
            assert grammar or len(python) == 1, line
            found.append(([name.replace(r"\|", "|") for name in r], [] if grammar else python))
    return found


SHOWN = {name for names, _ in rows() for name in names}
# To whoever searches, $sum() and sum() are one name, and coro::loop() is found as loop, too.
NAMES = {name.removesuffix("()").removeprefix("$") for name in SHOWN}
NAMES |= {name.split("::")[-1] for name in NAMES}
PYTHON = sorted({name for _, names in rows() for name in names})


def bare(source):
    """Return R code without its strings and comments."""
    return re.sub(r'"[^"\n]*"|\'[^\'\n]*\'|#.*', '""', source)


def calls(code):
    """Return the names that R code calls as functions, and those that it calls as methods."""
    functions = set(re.findall(r"(?<![\w.$])([A-Za-z][\w.]*)\(", code)) - GRAMMAR
    return functions, set(re.findall(r"\$(\.?[A-Za-z][\w.]*)\(", code))


CODE = {path.name: bare(path.read_text(encoding="utf-8")) for path in R_FILES}
BOOK_CODE = "\n".join(CODE.values())
# What the book makes itself: functions of its chapters, of which the R halves show a part;
# variables and arguments, which R code may call as functions; fields and methods of modules.
CHAPTERS = "\n".join(path.read_text(encoding="utf-8") for path in BOOK.glob("[0-9]*.md"))
VARIABLES = set(re.findall(r"^ *(?:def|class) (\w+)", CHAPTERS, re.MULTILINE))
VARIABLES |= set(re.findall(r"(?<![\w.$])([\w.]+) *<-", BOOK_CODE))
VARIABLES |= {
    name.strip()
    for names in re.findall(r"\bc\(([^()]*)\) *%<-%|%->% *c\(([^()]*)\)", BOOK_CODE)
    for name in ",".join(names).split(",")
}
VARIABLES |= {
    argument.split("=")[0].strip()
    for arguments in re.findall(r"(?:\bfunction|\\)\(([^()]*)\)", BOOK_CODE)
    for argument in arguments.split(",")
}
FIELDS = set(re.findall(r"\bself\$([\w.]+) *<-", BOOK_CODE))
FIELDS |= set(re.findall(r"([\w.]+) *= *function\b", BOOK_CODE))


def resolve(name):
    """Return the Python object of a dotted name; an AttributeError or ImportError without one."""
    first, *rest = name.split(".")
    if hasattr(builtins, first):
        return reduce(getattr, rest, getattr(builtins, first))
    found = importlib.import_module(root := IMPORTED.get(first, first))
    for position, part in enumerate(rest, 1):
        if not hasattr(found, part):  # a submodule, which must be imported first
            importlib.import_module(".".join([root, *rest[:position]]))
        found = getattr(found, part)
    return found


def test_the_tables_are_read_as_they_are_meant():
    assert len(rows()) > 200
    assert {"nn_conv2d()", "$backward()", "%<-%", "|>"} <= SHOWN
    assert {"nn.Conv2d", "F.mse_loss", "iter", "str.join"} <= set(PYTHON)


@pytest.mark.parametrize("name", sorted(CODE))
def test_every_r_function_of_the_book_is_in_the_table(name):
    functions, methods = calls(CODE[name])
    missing = (functions - VARIABLES - NAMES) | (methods - FIELDS - NAMES)
    assert not missing, f"the table of 80-from-r-torch-to-pytorch.md lacks {sorted(missing)}"


def test_every_r_function_of_the_original_is_in_the_table():
    assert not set(ORIGINAL.split()) - NAMES - {name.split("::")[-1] for name in NAMES}


def test_every_python_object_of_the_table_exists():
    missing = []
    for name in PYTHON:
        try:
            resolve(name)
        except (AttributeError, ImportError):
            missing.append(name)
    assert not missing


def test_what_is_missing_would_be_noticed():
    for name in ("nn.Conv2D", "torch.nosuchmodule.thing", "nosuchpackage", "str.jion"):
        with pytest.raises((AttributeError, ImportError)):
            resolve(name)
    code = bare('x <- pkg::f(y$g(1)) # h(2)\nif (z) "k(3)"')
    assert calls(code) == ({"f"}, {"g"})

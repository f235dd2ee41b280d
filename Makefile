# Every routine job, one word each; `make` alone lists them.
#
# The commands work in .venv, which is made by the first of them and brought up to date when
# the requirements change. Another interpreter: make book PYTHON=python3.13

PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
STAMP  := $(VENV)/.installed
AUDIT  := $(VENV)/.audit/bin/pip-audit

# The notebooks run on the kernel of .venv, whatever kernels the user has installed elsewhere.
export JUPYTER_PREFER_ENV_PATH := 1

.DEFAULT_GOAL := help
.PHONY: help book accessible pdf test refute torture fuzz audit notebooks alone lab bench gpu constraints clean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# Nothing of an earlier build may stay: it could hide a failure. The data come first, so that
# no page holds a progress bar; without a network the chapters fall back on a stand-in. For a
# release: make book STRICT_DATA=1, which fails where data are missing or a page had a stand-in.
book: export IPYTHONDIR := $(CURDIR)/_build/ipython
book: $(STAMP) ## run every chapter and build the pages into _build/html
	rm -rf _build/html _build/.doctrees _build/.jupyter_cache _build/jupyter_execute book/runs
	$(PY) -m vaebook data kmnist mnist cifar10 fashion_mnist || $(if $(STRICT_DATA),false,echo "Some chapters run on a stand-in.")
	$(PY) book/execute.py
	$(VENV)/bin/jupyter-book build -n -W --keep-going .
	$(PY) -m pytest -n auto -m pages

accessible: $(STAMP) ## look at every built page with axe-core, light and dark (10 minutes)
	$(PY) -m pytest -n auto -m "every_page or pages" tests/test_accessibility.py

pdf: $(STAMP) ## print the built pages into _build/vaebook.pdf (needs Chromium; first `make book`)
	$(PY) book/print.py

test: $(STAMP) ## check style and types, and run the tests
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m pytest -n auto

# The chapters run from the folder that VAEBOOK_DATA names.
refute: $(STAMP) ## break the chapters on purpose: each central claim must fall (45 minutes)
	$(PY) -m experiments.refute

torture: $(STAMP) ## kill trainings 1,000 times: each must end as if undisturbed (20 minutes)
	$(PY) -m experiments.torture
	$(PY) -m pytest -m torture

# Another time for each of the seven readers: make fuzz SECONDS=60
SECONDS ?= 600

fuzz: $(STAMP) ## damage files until a reader fails to say so in a sentence (10 minutes each)
	@$(PY) -m pip install --quiet --only-binary atheris -c constraints.txt -e '.[test,fuzz]' \
		|| { echo "make fuzz: atheris has no wheel for this Python or this system."; exit 1; }
	$(PY) -m experiments.fuzz --seconds $(SECONDS)

# Without --strict, packages that could not be looked up would count as sound.
audit: $(AUDIT) ## ask PyPI for known vulnerabilities of the packages in constraints.txt
	$(AUDIT) --strict --no-deps --disable-pip -r constraints.txt

notebooks: $(STAMP) ## make book/*.ipynb from the chapters and the outputs of the last `make book`
	$(PY) book/make_notebooks.py

alone: $(STAMP) ## run each notebook alone, in an empty folder (30 minutes)
	$(PY) -m pytest tests/test_notebooks.py -m "" -k runs_alone -v --durations=0

lab: $(STAMP) ## open the notebooks in JupyterLab
	$(VENV)/bin/jupyter lab book

bench: $(VENV)/.bench ## measure speed and memory against peers (half an hour)
	$(PY) benchmarks/run.py
	$(PY) benchmarks/uses.py

gpu: $(VENV)/.bench ## all that waits for a GPU, in ten minutes: tests, speed, three chapters
	$(PY) benchmarks/gpu.py

constraints: ## install the newest versions and write them down in constraints.txt
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --upgrade --upgrade-strategy eager -r requirements.txt -e '.[test,bench]'
	sed '/^[^#]/,$$d' constraints.txt > constraints.new
	$(PY) -m pip freeze --exclude-editable | grep -viE '^(nvidia|cuda|triton)' >> constraints.new
	mv constraints.new constraints.txt
	touch $(STAMP)

clean: ## remove what was built (not .venv, not the notebooks)
	rm -rf _build build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

$(STAMP): requirements.txt constraints.txt pyproject.toml
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet -r requirements.txt -c constraints.txt -e '.[test]'
	touch $@

$(VENV)/.bench: $(STAMP)
	$(PY) -m pip install --quiet -c constraints.txt -e '.[bench]'
	touch $@

# Its packages are none of the book's.
$(AUDIT):
	$(PYTHON) -m venv $(VENV)/.audit
	$(VENV)/.audit/bin/python -m pip install --quiet 'pip-audit>=2.10'

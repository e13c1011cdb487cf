# make demo   sets up .venv and runs the main job
# make test   sets up .venv, then lint, types, tests and a check of the bare install
# make docs   writes the documentation site to site/; warnings are errors
# make release builds and checks what is published: sdist, wheel, tarballs of the tables, in dist/
# make bench  prints the speed figures (quiet machine, please)
# make chaos  kills commands that write for two minutes, and checks what is left (tests/chaos.py --help)
# make fuzz   fuzzes the parsers of outside input, ten CPU minutes each (FUZZ="--seconds 60 table csv" for others)
# make lowest the tests with the oldest versions that setup.cfg allows (downloads gigabytes)
# make newest the tests with the newest versions there are (downloads gigabytes)
# make dev    .venv with an editable install, for working on the code

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := $(shell find nasbench_mr data_builders predictors search -type f -not -name '*.pyc')

# The suite runs in as many processes as there are cores, and one thread each is fastest.
TEST_ENV := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

# Without its dependencies: it asks for xgboost, which brings a CUDA library, and what the tests run of it needs neither.
SYNE_TUNE := syne-tune fastparquet cramjam

# What the unpacked sdist runs of its own tests: they read code, documents, examples and the embedded tables.
SDIST_TESTS := tests/test_space.py tests/test_benchmark.py tests/test_imports.py tests/test_docstrings.py

.PHONY: demo test lint types unit base docs release bench chaos fuzz lowest newest dev constraints clean

demo: $(VENV)/installed
	$(BIN)/nasbench-mr demo

test: lint types unit base

$(VENV)/deps: setup.cfg constraints.txt
	$(PYTHON) -m venv $(VENV)
	rm -rf build nasbench_mr.egg-info
	$(BIN)/pip install -q -c constraints.txt '.[all,test,docs,readers,botorch,smac]'
	$(BIN)/pip install -q --no-deps -c constraints.txt $(SYNE_TUNE)
	touch $@

# An ordinary install, which is what users have and what mypy reads.
$(VENV)/installed: $(VENV)/deps $(SOURCES) pyproject.toml
	rm -rf build nasbench_mr.egg-info
	$(BIN)/pip install -q --no-deps --force-reinstall .
	touch $@

lint: $(VENV)/deps
	$(BIN)/ruff format --check .
	$(BIN)/ruff check --output-format concise .

types: $(VENV)/installed
	cd tests && ../$(BIN)/mypy --config-file ../setup.cfg --cache-dir ../.mypy_cache -p nasbench_mr

unit: $(VENV)/deps
	$(TEST_ENV) $(BIN)/pytest -n 2 --dist worksteal

# The base install alone: importing, the command line and a query need no extra.
base: .venv-base/installed
	.venv-base/bin/python tests/base_install.py

.venv-base/installed: $(SOURCES) setup.cfg constraints.txt
	$(PYTHON) -m venv .venv-base
	rm -rf build nasbench_mr.egg-info
	.venv-base/bin/pip install -q -c constraints.txt .
	touch $@

# The reference pages are read from an ordinary install, where every module lies under its import name. The site
# is built beside the sources, as the reader of docstrings would take a folder nasbench_mr/ here for it.
docs: $(VENV)/installed
	rm -rf build/site && mkdir -p build/site
	cp -r docs mkdocs.yml *.md build/site
	DOCS_SOURCES=$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') && cd build/site \
		&& NO_MKDOCS_2_WARNING=1 DOCS_SOURCES=$$DOCS_SOURCES ../../$(BIN)/mkdocs build -q -d ../../site

bench: $(VENV)/installed
	$(BIN)/python benchmarks/run.py

# The tables are packed with their .sha256; the published ones where they are installed or can be fetched.
release: $(VENV)/installed
	rm -rf dist
	$(BIN)/python -m build -q --outdir dist .
	$(BIN)/validate-pyproject pyproject.toml
	$(BIN)/twine check --strict dist/*.whl dist/*.tar.gz
	rm -rf build/sdist && mkdir -p build/sdist && tar -xzf dist/nasbench_mr-*.tar.gz -C build/sdist --strip-components 1
	cd build/sdist && $(TEST_ENV) $(abspath $(BIN))/pytest $(SDIST_TESTS)
	$(BIN)/python tests/wheel_install.py dist/*.whl README.md
	$(BIN)/nasbench-mr pack mini --out dist
	$(BIN)/nasbench-mr pack nasbench-mr --out dist || echo "the published tables are not installed: nasbench-mr fetch"
	$(BIN)/nasbench-mr releases
	sed -n '/^## /,/^## /p' CHANGELOG.md | sed '$$d' > dist/CHANGES.md

chaos: $(VENV)/deps
	$(BIN)/python tests/chaos.py --seconds 120

fuzz: $(VENV)/deps
	$(BIN)/pip install -q atheris
	nice $(BIN)/python tests/fuzz/run.py $(FUZZ)

# Every lower bound of setup.cfg as an exact version, but for those of the tools that only look at the code.
lowest:
	$(PYTHON) -m venv .venv-lowest
	sed -nE 's/^ +([A-Za-z0-9-]+)(\[[a-z]+\])?>=([0-9.]+)$$/\1==\3/p' setup.cfg | grep -Ev '^(mypy|ruff|pandas-stubs)=' \
		| sort -u > .venv-lowest/constraints.txt
	rm -rf build nasbench_mr.egg-info
	.venv-lowest/bin/pip install -q -c .venv-lowest/constraints.txt 'setuptools>=77' '.[all,test]'
	$(TEST_ENV) .venv-lowest/bin/pytest -n 2 --dist worksteal

# The newest versions that pip takes; PIP_CONSTRAINT=FILE (pip's own) holds some back, such as torch to a CPU build.
newest:
	$(PYTHON) -m venv .venv-newest
	rm -rf build nasbench_mr.egg-info
	.venv-newest/bin/pip install -q --upgrade '.[all,test,docs,readers,botorch,smac]'
	.venv-newest/bin/pip install -q --upgrade --no-deps $(SYNE_TUNE)
	$(TEST_ENV) .venv-newest/bin/pytest -n 2 --dist worksteal

dev: $(VENV)/deps
	$(BIN)/pip install -q --no-deps -e .

constraints: $(VENV)/installed
	(sed -n '1,2p' constraints.txt; $(BIN)/pip freeze --exclude nasbench-mr | sed 's/+cpu//') > constraints.new
	mv constraints.new constraints.txt

clean:
	rm -rf site $(VENV) .venv-base .venv-lowest .venv-newest build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

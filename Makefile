# Everything is made in .venv; each target installs what it needs.

PYTHON ?= python3
BIN := .venv/bin
# Modules that are begun first stand first, see tests/conftest.py.
TWO := $(BIN)/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder
PIP := $(BIN)/pip install --quiet --disable-pip-version-check

.PHONY: demo test test-release test-long lint mutants bench requirements graphs clean

demo: .venv/.runs  ## boxes on the example radiographs
	$(BIN)/python inference.py examples --overlays --precision float32

test: .venv/.tests  ## all tests but the long ones: less than ten minutes on two cores
	$(TWO) -m "not long"

test-release: .venv/.tests  ## the long tests without which nothing is published
	$(TWO) -m release

test-long: .venv/.tests  ## all long tests, and properties on many more examples, new ones each time
	$(BIN)/python -m pytest -m "long or hypothesis" --hypothesis-profile full

lint: .venv/.tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

mutants: .venv/.tests  ## small faults put into the code: which do the tests not notice? Hours; SAMPLE=200 for fewer
	$(PIP) "mutmut>=3.8,<4"
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.mutants $(if $(SAMPLE),--sample $(SAMPLE)) $(if $(ONLY),--only $(ONLY))

bench: .venv/.tests  ## where the time goes; how fast beside Keras, PyTorch and the reference's way
	$(BIN)/python -m benchmarks
	$(BIN)/python -m benchmarks.metrics
	$(BIN)/python -m benchmarks.engines lite0 four
	$(BIN)/python -m benchmarks.process examples
	$(BIN)/python -m benchmarks.process examples --growth

requirements: .venv/.tests  ## exact pins for every supported Python, from the ranges in pyproject.toml
	$(PIP) uv
	$(BIN)/uv pip compile pyproject.toml --extra train --universal --python-version 3.11 \
	    --fork-strategy fewest --no-annotate --custom-compile-command "make requirements" \
	    --upgrade --quiet --output-file requirements.txt
	$(BIN)/uv pip compile pyproject.toml --extra dev --constraints requirements.txt --universal \
	    --python-version 3.11 --fork-strategy fewest --no-annotate \
	    --custom-compile-command "make requirements" --upgrade --quiet \
	    --output-file requirements-dev.txt

graphs: .venv/.tests  ## graph files of the shipped ensembles, after a change of their networks
	rm -rf checkpoints/graphs
	$(BIN)/python -m lungbox.export.graphs default

clean:
	rm -rf .venv predictions

.venv/.made:
	$(PYTHON) -m venv .venv
	touch $@

.venv/.runs: .venv/.made requirements.txt
	$(PIP) --requirement requirements.txt
	touch $@

.venv/.tests: .venv/.made requirements-dev.txt
	$(PIP) --requirement requirements-dev.txt
	touch $@

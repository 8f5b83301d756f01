# One command a task. Everything runs in a virtual environment of its own, .venv, made on first use.
PYTHON ?= python3
PY := .venv/bin/python
MINUTES ?= 10
TARGET ?=
SEED ?=
KILLS ?= 200
PIP := $(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test fuzz soak test-capabilities test-comfyui serve bench lint train clean

demo: .venv/.host  ## run the example workflow; prints where the pictures are
	$(PY) -m host run example_workflows/digits.json --output-directory output

serve: .venv/.host  ## open the visual editor on 127.0.0.1
	$(PY) -m host serve

test: .venv/.test  ## every test but those that need a GPU or a ComfyUI checkout (skips are listed at the end)
	sh tests/ensure_browser.sh
	$(PY) -m pytest -q

fuzz: .venv/.test  ## hostile inputs with new seeds; MINUTES=10, TARGET=name for one alone, SEED=n to repeat a finding
	$(PY) -m tests.fuzz --minutes "$(MINUTES)" --target "$(TARGET)" $(if $(SEED),--seed $(SEED))

soak: .venv/.test  ## end a working host again and again and count what it lost or did twice; KILLS=200
	$(PY) -m tests.fuzz.kills --kills "$(KILLS)"

test-capabilities: .venv/.test  ## the core's tests once for each set of instructions that torch can use on this processor
	@set -e; list="$$($(PY) tests/capabilities.py)"; test -n "$$list"; for capability in $$list; do \
		echo "ATEN_CPU_CAPABILITY=$$capability"; \
		ATEN_CPU_CAPABILITY=$$capability $(PY) -m pytest -q tests/core; \
	done

test-comfyui: .venv/.test  ## the tests that start the real ComfyUI in COMFYUI_PATH
	@test -n "$(COMFYUI_PATH)" || { echo "COMFYUI_PATH must name a ComfyUI checkout; try COMFYUI_PATH=... make test-comfyui"; exit 2; }
	$(PY) -m pytest -q tests/comfyui

bench: .venv/.bench  ## print every table (speed, accuracy, demo quality) and draw the plots
	$(PY) -m bench

lint: .venv/.lint  ## style and types
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	mkdir -p .venv/types && ln -sfn ../.. .venv/types/pack  # why: see [tool.mypy] in pyproject.toml
	$(PY) -m mypy

train: .venv/.train  ## make the demo weights from nothing (most of an hour on two cores)
	$(PY) -m demo.train

clean:  ## remove the virtual environment and what runs have written
	rm -rf .venv output user temp

# The set-up of each task. A stamp is renewed when the dependency lists change.
.venv/.base: pyproject.toml constraints.txt
	test -x $(PY) || { echo "Setting up .venv (the first time takes a minute or two) ..."; $(PYTHON) -m venv .venv; }
	$(PIP) --editable .
	@touch $@

.venv/.host .venv/.test .venv/.bench .venv/.lint .venv/.train: .venv/.base

.venv/.host:
	$(PIP) --editable ".[host]"
	@touch $@

.venv/.test:
	$(PIP) --editable ".[host,train,test]"
	@touch $@

.venv/.bench:
	$(PIP) --editable ".[host,train,test,bench]"
	@touch $@

.venv/.lint:
	$(PIP) --editable ".[lint]"
	@touch $@

.venv/.train:
	$(PIP) --editable ".[train,host]"
	@touch $@

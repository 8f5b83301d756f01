# A short way to the tasks, which `python3 -m tasks --list` shows; they are defined in tasks/table.py.
PYTHON ?= python3
MINUTES ?= 10
TARGET ?=
SEED ?=
KILLS ?= 200
ARGUMENTS ?=
TASKS := $(shell $(PYTHON) -m tasks --names)

.DEFAULT_GOAL := demo
.PHONY: $(TASKS)

fuzz: ARGUMENTS := --minutes "$(MINUTES)" --target "$(TARGET)" $(if $(SEED),--seed $(SEED))
soak: ARGUMENTS := --kills "$(KILLS)"

$(TASKS):
	@$(PYTHON) -m tasks $@ $(ARGUMENTS)

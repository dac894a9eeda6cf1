# Every target sets up what it needs; the second call finds it there.
PYTHON ?= python3
BIN := .venv/bin
# One machine, one graph: nothing here talks to other hosts, or to another run beside it.
export ROS_AUTOMATIC_DISCOVERY_RANGE ?= LOCALHOST

.DEFAULT_GOAL := help
.PHONY: help setup demo test check fuzz bench golden docs lock clean

help: ## List the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 10

setup: ## Build the environment in .venv: ROS 2 from wheels, interfaces, this package
	@$(PYTHON) scripts/setup_environment.py

demo: setup ## Let the shipped policy drive the simulated robot for 20 episodes
	@$(BIN)/vla_ros demo

# What starts no process of its own runs on all cores; what drives robots over DDS has the machine to itself.
test: setup ## Run every test
	@status=0; \
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile -m "not slow and not ros and not egl" || status=1; \
	$(BIN)/python -m pytest -m "slow or ros or egl" || status=1; \
	exit $$status

check: setup ## Lint, format, types, layers and the fast tests
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m pytest --numprocesses auto --dist loadfile -m "not slow and not ros and not egl"

fuzz: setup ## Drive the safety filter through 100,000 random episodes; writes test/safety/fuzz_result.json
	@OMP_NUM_THREADS=1 $(BIN)/python test/safety/fuzz.py

bench: setup ## Measure the path from observation to command; writes out/bench/result.json
	@$(BIN)/python -m bench

golden: setup ## Regenerate the golden files; explain every difference in the commit
	@for script in test/golden/make_*.py; do $(BIN)/python $$script; done

docs: setup ## Regenerate the reference tables under docs/
	@for script in scripts/generate_*.py; do $(BIN)/python $$script; done

lock: ## Pin in requirements.txt what requirements.in resolves to now
	@$(PYTHON) scripts/lock_requirements.py

clean: ## Remove what the targets made, the environment too
	rm -rf .venv build install log out .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

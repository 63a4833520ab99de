# an8Flower: everything a newcomer types. 'make help' lists it.
PYTHON ?= python3
BIN := .venv/bin
GL_PACKAGES := libegl1 libgl1 libxrender1
BROWSER_PACKAGES := chromium libatomic1
VARIANT ?= single-6c

.DEFAULT_GOAL := help
.PHONY: help leaderboard results test quick attack check format architecture bench bench-data bench-lasso bench-methods bench-metrics bench-run parity reliability public-index bare-machine clean gl browser

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-13s %s\n", $$1, $$2}'

# Missing system packages are reported first, before minutes of installing.
leaderboard: gl .venv/.run ## draw single-6c (or VARIANT=double-12c, ...), train an8net on 5 folds, explain, score, print the board
	$(BIN)/an8flower run --variant $(VARIANT) --model an8net

results: gl .venv/.run ## write everything in results/: boards, statistics, certificates, gates, panels, page
	for cheat in cheat_patch cheat_patch_80 cheat_pot; do \
		$(BIN)/an8flower gate results/board.toml --recipe $$cheat || exit 1; \
	done
	$(BIN)/an8flower run results/board.toml --tables
	$(BIN)/an8flower run results/layers.toml --tables
	$(BIN)/an8flower run results/size.toml
	for variant in single-6c double-12c part-2c; do \
		$(BIN)/an8flower leaderboard --results results --variant $$variant --certified-only || exit 1; \
	done
	$(BIN)/python -m benchmark.experiments.evidence.known_truth
	$(BIN)/python -m benchmark.experiments.evidence.suppressor
	$(BIN)/an8flower report --results results
	$(BIN)/python -m benchmark.board.published results

# Each process runs whole files, so that the fixtures of a file are made once.
test: gl browser .venv/.dev ## run the test suite, in one process per core
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

quick: gl .venv/.dev ## run the quick tests, at least one per module, in one process per core
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder -m "not slow and not browser"

attack: gl .venv/.dev ## hand over altered files, hostile methods and unusual models, and check what comes of it
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder tests/attack

check: .venv/.dev ## lint, format, types, import directions, and pinned versions
	@! grep -nE '==[^ ]*\+' constraints.txt \
		|| { echo "constraints.txt pins a local build, which no public index has: leave out what follows the +"; exit 1; }
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/.dev ## fix and format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

architecture: .venv/.run ## draw the diagram of docs/architecture.md from the imports in the code, and its table
	$(BIN)/python -m benchmark.experiments.evidence.architecture

bench: .venv/.dev gl ## measure the speed of each stage, compared with an alternative
	$(BIN)/python -m benchmark.experiments.speed.links

bench-lasso: .venv/.dev ## measure the μ-lasso, compared with spgl1 and cvxpy, then at 12 416 features and 1 000 classes
	$(BIN)/python -m benchmark.experiments.speed.lasso
	$(BIN)/python -m benchmark.experiments.speed.lasso --large

bench-methods: .venv/.dev gl ## measure the explainers, compared with captum, pytorch-grad-cam and zennit
	$(BIN)/python -m benchmark.experiments.speed.methods --checkpoint checkpoints/single-6c/an8net/fold0.safetensors

parity: .venv/.dev gl ## compare the same methods of four libraries and write docs/parity.md
	$(BIN)/python -m benchmark.experiments.evidence.parity --checkpoint checkpoints/single-6c/an8net/fold0.safetensors

bench-data: .venv/.dev gl ## measure how fast all three variants are drawn, and where the time goes
	$(BIN)/python -m benchmark.experiments.speed.generation

bench-metrics: .venv/.dev ## measure the metrics, compared with a plain loop and Quantus
	$(BIN)/python -m benchmark.experiments.speed.metrics

bench-run: .venv/.dev gl ## measure a run with two workers, with one, and with nothing left to do
	$(BIN)/python -m benchmark.experiments.speed.running

reliability: .venv/.dev gl ## kill runs 50 times at random moments, and compare the board
	$(BIN)/python -m benchmark.experiments.evidence.reliability

public-index: ## check that pip resolves the installation with its public index alone, on Python 3.11 to 3.13
	tests/public_index.sh

bare-machine: ## run 'make leaderboard' and 'make test' as a plain user of a minimal Debian, in a temporary folder
	tests/bare_machine.sh

clean: ## remove the environment, data, weights and caches; results and runs stay
	rm -rf .venv data checkpoints *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "an8Flower needs Python 3.11 or newer, e.g. make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv .venv \
		|| { rm -rf .venv; echo "Python has no venv module: run 'sudo apt-get install python3-venv'"; exit 1; }

.venv/.run: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet -c constraints.txt -e .
	@touch $@

.venv/.dev: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	@# An oracle of the tests. Its declared dependencies include a second OpenCV next to the headless one.
	$(BIN)/python -m pip install --quiet -c constraints.txt --no-deps quantus cachetools
	@touch $@ .venv/.run

# Off-screen OpenGL is the one dependency that pip cannot install.
gl: | .venv/bin/python
	@if ! $(BIN)/python -c 'from an8flower.drawing.gl import choose_platform; choose_platform()' 2>/dev/null; then \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
			apt-get install -y -qq --no-install-recommends $(GL_PACKAGES); \
		else \
			$(BIN)/python -c 'from an8flower.drawing.gl import choose_platform; choose_platform()' 2>&1 | tail -n 1; exit 1; \
		fi; \
	fi

# The tests open the report in Chromium. Playwright, which controls it, needs libatomic1.
browser: | .venv/bin/python
	@if ! command -v chromium >/dev/null || ! $(BIN)/python -c 'import ctypes; ctypes.CDLL("libatomic.so.1")' 2>/dev/null; then \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
			apt-get install -y -qq --no-install-recommends $(BROWSER_PACKAGES); \
		else \
			echo "the tests need a browser: run 'sudo apt-get install $(BROWSER_PACKAGES)'"; exit 1; \
		fi; \
	fi

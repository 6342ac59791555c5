# `make help` lists the targets. Each sets up what it needs in .venv once; after that nothing here uses the network
# except package-test, test-pythons and test-newest.

# The first of these that runs, is new enough and can make virtual environments. `make PYTHON=…` picks another.
PYTHON ?= $(or $(shell for python in python3.11 python3.12 python3.13 python3.14 python3; do \
	$$python -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 \
		&& echo $$python && break; done),$(error aqueue needs Python 3.11 or newer with its venv module; found none. \
	Install it, or name it: make PYTHON=/path/to/python3.11))

VENV := .venv
# For the tools of the environment and for what the tests start; an active environment of another project is not used.
RUN := env -u PYTHONHOME -u PYTHONPATH VIRTUAL_ENV="$(CURDIR)/$(VENV)" PATH="$(CURDIR)/$(VENV)/bin:$$PATH"
PIP_INSTALL := $(RUN) python -m pip install --quiet --quiet --disable-pip-version-check

# The environment counts only with this stamp, which is written last and names the folder: one whose set-up was
# interrupted, that was moved or copied, or whose Python is gone, is made anew.
READY := $(VENV)/.ready
ifneq ($(shell $(VENV)/bin/python -c 'print(open("$(READY)").read())' 2>/dev/null),$(CURDIR))
.PHONY: $(READY)
endif

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

.PHONY: help
help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: demo
demo: $(READY) ## Watch a real job: mirror a few thousand files over HTTP and check them. Interrupted, it resumes.
	@mkdir -p build/demo
	@if test -e build/demo/mirror.db; then \
		echo "Resuming: files that the first run has completed are not requested again."; \
	else \
		echo "Mirroring Python's standard library from a slow web server of its own takes about 25 seconds."; \
		echo "Press Ctrl-C after 10 of them: running downloads finish, and the run stops. Then run 'make demo' again."; \
	fi
	@echo "To see it in a browser, too, run '$(VENV)/bin/aqueue serve build/demo/mirror.db' in another terminal."
	@trap : INT; $(RUN) $(VENV)/bin/python examples/mirror.py stdlib build/demo/copy --slow 20 \
		--resume build/demo/mirror.db && rm -rf build/demo \
		&& echo "Every file was compared with the original. Next: docs/tutorial.md" \
		|| { test $$? = 130 && echo "Or run 'make demo' again: it runs this command, and resumes as well."; }

# Which tests: `make test TESTS=tests/codec`.
TESTS ?=

.PHONY: test
test: $(READY) ## Run the tests, or some of them: make test TESTS=tests/codec.
	@$(RUN) python -m pytest -n 4 --dist worksteal $(TESTS)

.PHONY: test-pythons
test-pythons: ## Run the tests on Python 3.13 and 3.14 in minimal Debian systems (as root; uses the network).
	@TESTS="$(TESTS)" tests/pythons.sh trixie sid

.PHONY: test-newest
test-newest: ## Test the stream and the codec on the newest Python that Debian has, if a system can be made.
	@TESTS="tests/stream tests/codec" tests/pythons.sh --first sid trixie

.PHONY: test-uvloop
test-uvloop: $(READY) ## Run the tests of runs on asyncio with uvloop in its place; `make test` runs some of them so.
	@$(RUN) PYTHONPATH="$(CURDIR)/tests/on_uvloop" python -m pytest -n 4 --dist worksteal -k asyncio tests/engine tests/stream tests/delivery tests/run tests/resume tests/system tests/journal tests/processes

# For how long all faults come at once, seconds, on each of the two event loops: `make torture SOAK_S=60`.
SOAK_S ?= 300

.PHONY: torture
torture: $(READY) ## Interrupt and resume 10,000 random runs; kill real ones; 600 power cuts; soak (about 40 minutes).
	@$(RUN) python -m tests.torture.fuzz --seeds 10000
	@$(RUN) python -m tests.torture.fuzz --seeds 100 --kill
	@$(RUN) python -m tests.torture --kills 200
	@$(RUN) python -m tests.torture.cluster --kills 50
	@$(RUN) TORTURE_TERMINALS=100 python -m pytest --quiet --timeout=900 tests/processes/test_terminal_restored.py
	@$(RUN) TORTURE_POWER_CUTS=300 python -m pytest --quiet --timeout=900 tests/journal/test_crashes.py -k power_cut
	@$(RUN) python -m tests.torture.soak --seconds $(SOAK_S) --backend trio
	@$(RUN) python -m tests.torture.soak --seconds $(SOAK_S) --backend asyncio

.PHONY: page-soak
page-soak: $(READY)-browser ## Watch a fast run in Chromium for an hour; scroll and filter its items (10 GB of disk).
	@$(RUN) python -m tests.page.soak

.PHONY: check check-style check-types check-api check-imports check-spelling
check: check-style check-types check-api check-imports check-spelling ## Check style, types, layers of imports, spelling.

check-style: $(READY)-check
	@$(RUN) ruff check --quiet
	@$(RUN) ruff format --quiet --diff

check-types: $(READY)-check
	@$(RUN) mypy --no-error-summary
	@$(RUN) basedpyright >$(VENV)/log || { cat $(VENV)/log; exit 1; }

# Every type in the public API is written down, not inferred: checkers may infer differently.
check-api: $(READY)-check
	@$(foreach package,aqueue aqueue_reporters,$(RUN) basedpyright --verifytypes $(package) --ignoreexternal >$(VENV)/log \
		|| { cat $(VENV)/log; exit 1; };)

check-imports: $(READY)-check
	@$(RUN) lint-imports --no-cache >$(VENV)/log || { cat $(VENV)/log; exit 1; }

check-spelling: $(READY)-check
	@$(RUN) codespell

.PHONY: package-test
package-test: $(READY)-check ## Build the wheel and the sdist; install, use and type-check them elsewhere (uses the network).
	@$(RUN) python -m pytest -m packaging tests/packaging

.PHONY: browser-test
browser-test: $(READY)-browser ## Test the HTML report and the page in a real Chromium, which must be installed (Debian: chromium).
	@$(RUN) python -m pytest -n 3 --dist worksteal -m browser tests/report tests/page

.PHONY: bench
bench: $(READY) ## Measure the engine, the reporters and the journal, against a hand-written loop and other queues.
	@test -e $(READY)-bench || $(MAKE) --no-print-directory $(READY)-bench \
		|| echo "What to compare with can't be installed: those rows are left out."
	@$(RUN) python tests/benchmarks --write docs/reference/figures.md

.PHONY: bench-large
bench-large: $(READY) ## Measure runs of 5,000,000 and 10,000,000 items (about 15 minutes, 12 GB of disk, 1 GB of memory).
	@$(RUN) python tests/benchmarks --large --rounds 1

.PHONY: size
size: ## Count the lines of code per package, without docstrings, comments and blank lines.
	@$(PYTHON) tests/benchmarks/code_size.py

.PHONY: docs
docs: $(READY)-docs ## Build the documentation in docs/_build/html, and check its links and its search.
	@$(RUN) python -m sphinx --quiet --fail-on-warning --keep-going --fresh-env docs docs/_build/html
	@$(RUN) python docs/check_links.py docs/_build/html
	@$(RUN) python docs/check_search.py docs/_build/html
	@echo "The documentation is in docs/_build/html/index.html: file://$(CURDIR)/docs/_build/html/index.html"

.PHONY: reference
reference: $(READY) ## Write the parts of docs/reference/ that are made from the code.
	@$(RUN) python docs/write_reference.py

.PHONY: format
format: $(READY)-check ## Format the code and fix what ruff can fix by itself.
	@$(RUN) ruff check --quiet --fix-only
	@$(RUN) ruff format --quiet

.PHONY: clean
clean: ## Remove everything that these targets made.
	@rm -rf $(VENV) build dist docs/_build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): pyproject.toml
	@echo "Setting up $(VENV) (once; needs the network) …"
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV)
	@$(PIP_INSTALL) --upgrade 'pip>=25.1'
	@$(PIP_INSTALL) --editable . --group test
	@printf '%s' '$(CURDIR)' >$@

$(READY)-%: $(READY)
	@echo "Adding what \`make $*\` needs to $(VENV) (once; needs the network) …"
	@$(PIP_INSTALL) --group $*
	@touch $@

# What a contributor runs, on a machine that has just Python 3.11 or newer, make and git. The first run puts nox, and
# nothing else, in .venv; each session of noxfile.py then makes its own environment in .nox and keeps it.
#   make test PYTHON=python3.13        with another Python
#   make test ARGS="-k deadlock -x"    with arguments for the session's program

PYTHON ?= python3
# Named after PYTHON, so that another one makes all environments anew.
STAMP := .venv/made-by-$(subst /,_,$(PYTHON))

.PHONY: help demo test debug lint types docs bench bench-peers bench-report stress flyte clean

help:  ## list the targets (the default)
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s  %s\n", $$1, $$2 }' Makefile

demo:  ## see an SDK written once, called from plain and from async code
test:  ## run the tests
lint:  ## check style and format
types: ## check the types with mypy and pyright
docs:  ## build the documentation in site/
bench: ## measure what a call costs
bench-peers: ## measure every other library beside it (20 minutes)
bench-report: ## make tables and plots of what was measured
debug: ## run the tests in debug modes
stress: ## do everything at once, at random, for two minutes
flyte: ## install with and without Flyte, and check both (slow: downloads Flyte)

demo test debug lint types docs bench bench-report stress flyte: $(STAMP)
	@.venv/bin/nox -s $(@:test=tests) -- $(ARGS)

bench-peers: $(STAMP)
	@.venv/bin/nox -s peer bench-peers -- $(ARGS)

$(STAMP): noxfile.py pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "$(PYTHON) is Python " + sys.version.split()[0] \
	  + ", and 3.11 or newer is needed. To use another: make PYTHON=python3.13")'
	rm -rf .venv .nox
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --disable-pip-version-check nox
	@touch $@

clean: ## remove all that the other targets made
	rm -rf .venv .nox site dist build .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

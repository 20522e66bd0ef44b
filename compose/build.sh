#!/bin/sh
# Builds the images of the services that are named, or of all: `sh compose/build.sh [SERVICE...]`; `make images` does.
#
# Plain `docker build`, so that an engine without the buildx plugin will do. In the environment: BASE_IMAGE, PIP_FLAGS and TORCH_FLAGS
# as the Dockerfiles tell, OVERPROOF_VERSION, and BUILD_FLAGS for Docker itself (e.g. --network=host).
set -eu
cd "$(dirname "$0")/.."
version=${OVERPROOF_VERSION:-0.1.0}
for service in ${*:-gateway pipeline inference grading training reporting}; do
  set --
  for name in BASE_IMAGE PIP_FLAGS; do
    eval "value=\${$name:-}"
    [ -z "$value" ] || set -- "$@" --build-arg "$name=$value"
  done
  case $service in inference | training) set -- "$@" --build-arg "TORCH_FLAGS=${TORCH_FLAGS:-}" ;; esac
  echo "overproof/$service:$version"
  # shellcheck disable=SC2086  (flags, several words)
  DOCKER_BUILDKIT=1 ${DOCKER:-docker} build --quiet ${BUILD_FLAGS:-} "$@" -f "services/$service/Dockerfile" -t "overproof/$service:$version" .
done

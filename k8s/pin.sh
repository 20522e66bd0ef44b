#!/bin/sh
# Pins the images of the prod overlay to what a registry holds now: `sh k8s/pin.sh registry.example/overproof 0.1.0`
#
# Asks the registry for the digest of each image (docker buildx imagetools, or crane, or skopeo: the first that is there; DIGEST names
# another program, which gets an image and prints its digest) and writes overlays/prod/images/kustomization.yaml. Commit the file: what
# runs is then what was reviewed, whatever becomes of the tags.
set -eu
registry=${1:?registry and folder, e.g. registry.example/overproof} version=${2:?tag, e.g. 0.1.0}
folder=$(dirname "$0")/overlays/prod/images

digest() {
  if [ -n "${DIGEST:-}" ]; then $DIGEST "$1"
  elif command -v crane >/dev/null; then crane digest "$1"
  elif command -v skopeo >/dev/null; then skopeo inspect --format '{{.Digest}}' "docker://$1"
  else docker buildx imagetools inspect --format '{{.Manifest.Digest}}' "$1"; fi
}

pinned=
for service in gateway pipeline inference grading training reporting; do
  case $service in inference | training) tag=$version-gpu ;; *) tag=$version ;; esac
  found=$(digest "$registry/$service:$tag")
  echo "$found" | grep -qE '^sha256:[0-9a-f]{64}$' || { echo "pin.sh: $registry/$service:$tag has no digest: $found" >&2; exit 1; }
  pinned="$pinned  - {name: overproof/$service, newName: $registry/$service, digest: \"$found\"}
"
done
mkdir -p "$folder"
{
  printf '# Written by k8s/pin.sh from %s, tag %s.\n' "$registry" "$version"
  printf 'apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\nimages:\n%s' "$pinned"
} > "$folder/kustomization.yaml"
echo "wrote $folder/kustomization.yaml"

#!/usr/bin/env bash
# Builds the lab's images, each once: an image is rebuilt only when what it is
# made from has changed (its inputs' hash is a label on it).
#   images.sh NAME...    host (bare Debian), stack (nginx and PHP-FPM); all by default
#   images.sh --remove   every image made here
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
mkdir -p .cache/lab
say() { printf '%s\n' "$*" >&2; }
die() { say "php_stack: $*"; exit 1; }
label=org.webops.php-stack.inputs

base() { # SUITE: the distribution's image, from a registry or from its packages
  local suite=$1 tag=debian:$1
  docker image inspect "$tag" >/dev/null 2>&1 && return
  say "php_stack: getting $tag"
  timeout 120 docker pull -q "$tag" >/dev/null 2>&1 && return
  command -v mmdebstrap >/dev/null || {
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null \
      || die "no registry has $tag and mmdebstrap is not installed: install mmdebstrap (as root, on Debian)."
    { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends mmdebstrap; } \
      >.cache/lab/apt.log 2>&1 || die "installing mmdebstrap failed; see .cache/lab/apt.log"
  }
  say "php_stack: no registry has it; making $tag from the distribution's packages"
  mmdebstrap --quiet --variant=minbase "$suite" - 2>.cache/lab/mmdebstrap-$suite.log \
    | docker import --change "LABEL $label=mmdebstrap" - "$tag" >/dev/null \
    || die "mmdebstrap failed; see .cache/lab/mmdebstrap-$suite.log"
}

build() { # FOLDER TAG PARENT-TAG
  local folder=$here/images/$1 tag=$2 parent=$3 hash
  hash=$( { cat "$folder"/*; docker image inspect -f '{{.Id}}' "$parent"; } | sha256sum | cut -c1-16)
  [ "$(docker image inspect -f "{{index .Config.Labels \"$label\"}}" "$tag" 2>/dev/null || true)" = "$hash" ] && return
  say "php_stack: building $tag"
  docker build -t "$tag" --label "$label=$hash" "$folder" >".cache/lab/build-$1.log" 2>&1 \
    || { tail -n 20 ".cache/lab/build-$1.log" >&2; die "building $tag failed; see .cache/lab/build-$1.log"; }
}

image() {
  case "$1" in
    host) base bookworm; build host php-stack-host:bookworm debian:bookworm ;;
    stack) image host; build stack php-stack-stack:bookworm php-stack-host:bookworm ;;
    *) die "no image is called $1 (host, stack)" ;;
  esac
}

remove() {
  local ids
  ids=$(docker image ls -q --filter "label=$label" | sort -u)
  # shellcheck disable=SC2086
  [ -z "$ids" ] || docker image rm -f $ids >/dev/null
}

case "${1:-}" in
  --remove) remove ;;
  "") image stack ;;
  *) for n in "$@"; do image "$n"; done ;;
esac

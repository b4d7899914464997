#!/usr/bin/env bash
# Builds the lab's images, each once: an image is rebuilt only when what it is
# made from has changed (its inputs' hash is a label on it).
#   images.sh NAME[:SUITE]...   host (bare Debian), stack (nginx and PHP-FPM) or
#                               twin (stack with a second PHP version); of bookworm
#                               by default, or of bullseye or trixie. All of them
#                               where no name is given.
#   images.sh --remove          every image made here
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
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
      die "no registry has $tag and mmdebstrap is not installed: install mmdebstrap (as root, on Debian)."
    fi
    { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends mmdebstrap; } \
      >.cache/lab/apt.log 2>&1 || die "installing mmdebstrap failed; see .cache/lab/apt.log"
  }
  say "php_stack: no registry has it; making $tag from the distribution's packages"
  mmdebstrap --quiet --variant=minbase "$suite" - 2>".cache/lab/mmdebstrap-$suite.log" \
    | docker import --change "LABEL $label=mmdebstrap" - "$tag" >/dev/null \
    || die "mmdebstrap failed; see .cache/lab/mmdebstrap-$suite.log"
}

build() { # NAME SUITE PHP-VERSION PARENT-TAG
  local folder=$here/images/$1 tag=php-stack-$1:$2 parent=$4 hash log=.cache/lab/build-$1-$2.log
  hash=$( { cat "$folder"/*; docker image inspect -f '{{.Id}}' "$parent"; } | sha256sum | cut -c1-16)
  [ "$(docker image inspect -f "{{index .Config.Labels \"$label\"}}" "$tag" 2>/dev/null || true)" = "$hash" ] && return
  say "php_stack: building $tag"
  docker build -t "$tag" --label "$label=$hash" --build-arg "SUITE=$2" --build-arg "PHP=$3" "$folder" >"$log" 2>&1 \
    || { tail -n 20 "$log" >&2; die "building $tag failed; see $log"; }
}

image() { # NAME[:SUITE]
  local name=${1%%:*} suite=bookworm php
  case "$1" in *:*) suite=${1#*:} ;; esac
  case "$suite" in
    bullseye) php=7.4 ;;
    bookworm) php=8.2 ;;
    trixie) php=8.4 ;;
    *) die "no image is made of $suite (bullseye, bookworm, trixie)" ;;
  esac
  case "$name" in
    host) base "$suite"; build host "$suite" "$php" "debian:$suite" ;;
    stack) image "host:$suite"; build stack "$suite" "$php" "php-stack-host:$suite" ;;
    # Its second version is bullseye's.
    twin) [ "$suite" = bookworm ] || die "twin is made of bookworm only"
      image stack; build twin "$suite" "$php" php-stack-stack:bookworm ;;
    *) die "no image is called $name (host, stack, twin)" ;;
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
  "") for n in twin stack:bullseye stack:trixie; do image "$n"; done ;;
  *) for n in "$@"; do image "$n"; done ;;
esac

#!/usr/bin/env bash
# Makes sure that a Docker engine answers, and stops the one that we started.
#   engine.sh up     install (Debian, as root) and start what is missing
#   engine.sh down   stop the engine if `up` started it; else do nothing
set -euo pipefail
cd "$(dirname "$0")/../.."
state=.cache/engine
say() { printf '%s\n' "$*" >&2; }
die() { say "php_stack: $*"; exit 1; }
answers() { docker info >/dev/null 2>&1; }

install_engine() {
  [ "$(id -u)" = 0 ] || die "Docker is not installed and installing it needs root: run this as root, or install docker.io."
  command -v apt-get >/dev/null || die "Docker is not installed and this is not Debian: install a Docker engine, then run this again."
  say "php_stack: installing docker.io and mmdebstrap (log: $state/apt.log)"
  { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
      docker.io mmdebstrap ca-certificates iptables; } >"$state/apt.log" 2>&1 \
    || die "installing docker.io failed; see $state/apt.log"
}

start_engine() {
  [ "$(id -u)" = 0 ] || die "the Docker engine does not answer and starting it needs root: run this as root, or start Docker."
  if [ -d /run/systemd/system ]; then
    systemctl start docker
    echo systemd >"$state/started-by-us"
  else
    # No init system here (a container, a CI sandbox): run the daemon ourselves,
    # in a session of its own so that it outlives this make, with its pid kept.
    # A machine that was stopped under a running engine keeps its pid files, and a new engine would believe them.
    rm -f /run/docker.pid "$state/dockerd.pid"
    rm -f /run/docker/containerd/containerd.pid
    setsid dockerd --pidfile "$PWD/$state/dockerd.pid" >"$state/dockerd.log" 2>&1 </dev/null &
    echo dockerd >"$state/started-by-us"
  fi
  for _ in $(seq 1 120); do answers && return; sleep 0.5; done
  tail -n 5 "$state/dockerd.log" >&2 2>/dev/null || true
  die "the Docker engine did not come up; see $state/dockerd.log"
}

up() {
  mkdir -p "$state"
  answers && return
  { command -v docker && { command -v dockerd || [ -x /usr/sbin/dockerd ]; }; } >/dev/null || install_engine
  answers || start_engine
}

down() {
  [ -f "$state/started-by-us" ] || return 0
  case "$(cat "$state/started-by-us")" in
    systemd) systemctl stop docker docker.socket || true ;;
    dockerd)
      pid=$(cat "$state/dockerd.pid" 2>/dev/null || true)
      if [ -n "$pid" ] && kill "$pid" 2>/dev/null; then
        for _ in $(seq 1 120); do kill -0 "$pid" 2>/dev/null || break; sleep 0.5; done
      fi ;;
  esac
  rm -f "$state/started-by-us"
}

case "${1:-}" in up|down) "$1" ;; *) die "usage: engine.sh up|down" ;; esac

#!/usr/bin/env bash
# Makes .venv with the pinned development set-up, and the link that lets
# Ansible and Python find this checkout as webops.php_stack.
set -euo pipefail
cd "$(dirname "$0")/.."
die() { printf 'php_stack: %s\n' "$*" >&2; exit 1; }
mkdir -p .cache .ansible/collections/ansible_collections/webops
ln -sfn ../../../.. .ansible/collections/ansible_collections/webops/php_stack

want=$(sha256sum requirements-dev.txt | cut -c1-16)
[ "$(cat .venv/.php-stack-inputs 2>/dev/null || true)" = "$want" ] && exit 0

# make puts the old .venv first on PATH; it cannot make the new one, being removed before.
PATH=${PATH//"$PWD/.venv/bin:"/}
usable() { "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }
python=
for candidate in python3 python3.13 python3.12 python3.11 /usr/bin/python3; do
  if usable "$candidate"; then python=$candidate; break; fi
done
if [ -z "$python" ]; then
  { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; } \
    || die "Python 3.11 or newer with venv is missing and installing it needs root on Debian: install python3-venv."
  printf 'php_stack: installing python3-venv (log: .cache/apt-python.log)\n' >&2
  { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends python3 python3-venv git; } \
    >.cache/apt-python.log 2>&1 || die "installing python3-venv failed; see .cache/apt-python.log"
  usable /usr/bin/python3 || die "this Debian's Python is older than 3.11: install Python 3.11 or newer."
  python=/usr/bin/python3
fi
printf 'php_stack: making .venv (log: .cache/pip.log)\n' >&2
rm -rf .venv
"$python" -m venv .venv
.venv/bin/pip install --disable-pip-version-check -r requirements-dev.txt >.cache/pip.log 2>&1 \
  || die "installing requirements-dev.txt failed; see .cache/pip.log"
echo "$want" >.venv/.php-stack-inputs

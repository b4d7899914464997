#!/usr/bin/env bash
# Runs ansible-test sanity on what git has of this collection.
#   sanity.sh [ansible-test options]
# ansible-test wants a real path .../ansible_collections/NAMESPACE/NAME inside a git repository.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$PWD/.cache/sanity
copy=$work/ansible_collections/webops/php_stack
rm -rf "$copy"
mkdir -p "$copy"
git ls-files -z --cached --others --exclude-standard | while IFS= read -r -d '' file; do
  [ -e "$file" ] && printf '%s\0' "$file"
done | tar -c --null -T - | tar -x -C "$copy"
git -C "$copy" init -q
git -C "$copy" -c user.name=sanity -c user.email=sanity@localhost add -A

# Its own virtual environments are made with pip from a script that it would download; ensurepip has one too.
python=$(readlink -f .venv/bin/python)
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
mkdir -p "$HOME/.ansible/test/cache"
requirements=.venv/lib/python$version/site-packages/ansible_test/_internal/python_requirements.py
for pip in $(grep -oE "'[0-9]+\.[0-9.]+'" "$requirements" | tr -d "'" | sort -u); do
  cat >"$HOME/.ansible/test/cache/get_pip_${pip//./_}.py" <<'PYTHON'
import ensurepip
ensurepip.bootstrap()
PYTHON
done
# Real interpreters first: a shim on the path would be taken for one.
PATH="$(dirname "$python"):$PATH"
cd "$copy"
exec env LC_ALL=C.UTF-8 "$OLDPWD/.venv/bin/ansible-test" sanity --venv --python "$version" --color no "$@"

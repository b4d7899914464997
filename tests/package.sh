#!/usr/bin/env bash
# Builds the collection's tarball, installs it into an empty path, and runs its playbook from
# there, by FQCN, against a lab host of its own.
set -euo pipefail
cd "$(dirname "$0")/.."
checkout=$PWD
work=$(mktemp -d)
name=php-stack-package
trap 'rm -rf "$work"; "$checkout/tests/lab/lab.py" down --name $name' EXIT
tests/lab/lab.py up --name $name --image stack --fresh
tests/lab/lab.py inventory $name >"$work/inventory.json"
docker exec $name sh -c 'mkdir -p /srv/shop && echo "<?php echo 1;" >/srv/shop/index.php'
cat >"$work/stack.yml" <<'YAML'
php_fpm_pools: [{name: shop}]
nginx_php_sites: [{name: shop.example.com, pool: shop, root: /srv/shop, check_path: /index.php}]
YAML
# What git has, as a release would: nothing that lies about in the checkout.
mkdir "$work/source"
git ls-files -z --cached --others --exclude-standard | while IFS= read -r -d '' file; do
  [ -e "$file" ] && printf '%s\0' "$file"
done | tar -c --null -T - | tar -x -C "$work/source"
cd "$work"
unset ANSIBLE_CONFIG
ansible-galaxy collection build source --output-path "$work"
for unwanted in tests/unit tests/lab .ci molecule .github; do
  ! tar -tzf webops-php_stack-*.tar.gz | grep -q "^$unwanted/" || { echo "the tarball holds $unwanted"; exit 1; }
done
ansible-galaxy collection install --offline -p "$work/installed" webops-php_stack-*.tar.gz
export ANSIBLE_COLLECTIONS_PATH=$work/installed
ansible-playbook -i inventory.json webops.php_stack.harden_php_stack -e @stack.yml
ansible -i inventory.json all -m webops.php_stack.fpm_pool_facts | grep -q '"name": "shop"'
docker exec $name curl -sf -H 'Host: shop.example.com' http://127.0.0.1/index.php

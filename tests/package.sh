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
export ANSIBLE_COLLECTIONS_PATH=$work/installed
ansible-galaxy collection install --offline -p "$work/installed" webops-php_stack-*.tar.gz
ansible-playbook -i inventory.json webops.php_stack.harden_php_stack -e @stack.yml
ansible -i inventory.json all -m webops.php_stack.fpm_pool_facts | grep '"name": "shop"' >/dev/null
docker exec $name curl -sf -H 'Host: shop.example.com' http://127.0.0.1/index.php

# The playbooks that only look, in check mode.
ansible-playbook -i inventory.json --check webops.php_stack.diagnose | grep '^nginx + PHP-FPM: ' >/dev/null
ansible-playbook -i inventory.json --check webops.php_stack.audit -e "audit_reports=$work/reports" | grep "^$name: " >/dev/null
grep '"version": "2.1.0"' "reports/$name.sarif" >/dev/null
ansible-playbook -i inventory.json --check webops.php_stack.report -e "php_stack_report_path=$work/report.html" >/dev/null
grep '<title>PHP stack report' report.html >/dev/null

# Each role alone, as another repository would use it: check mode on the stock host, a run, and a run that changes nothing.
cat >"$work/alone.yml" <<'YAML'
- hosts: all
  become: true
  roles:
    - role: "webops.php_stack.{{ alone }}"
YAML
for role in fpm_systemd fpm_reload php_fpm nginx_php; do
  (cd "$checkout" && tests/lab/lab.py up --name $name --image stack --fresh)
  docker exec $name sh -c 'mkdir -p /srv/shop && echo "<?php echo 1;" >/srv/shop/index.php'
  variables=(-e "alone=$role" -e '{"fpm_reload_versions": ["8.2"]}')
  case $role in
    php_fpm) variables+=(-e '{"php_fpm_pools": [{"name": "shop"}], "php_fpm_manage_reload": false}') ;;
    # nginx's side of a pool that other means have made.
    nginx_php)
      variables+=(-e '{"php_fpm_pools": [{"name": "www", "listen": "/run/php/php8.2-fpm.sock"}],
                       "nginx_php_sites": [{"name": "a.example.com", "pool": "www", "root": "/srv/shop", "status_allow": []}],
                       "nginx_php_verify": false}') ;;
  esac
  ansible-playbook -i inventory.json alone.yml "${variables[@]}" --check
  ansible-playbook -i inventory.json alone.yml "${variables[@]}"
  ansible-playbook -i inventory.json alone.yml "${variables[@]}" | tee second.log
  grep -qE 'changed=0 .*failed=0' second.log || { echo "$role alone: the second run changed something"; exit 1; }
done
docker exec $name curl -sf -H 'Host: a.example.com' http://127.0.0.1/index.php

# In a checkout: a module by its short name.
cd "$checkout"
ANSIBLE_CONFIG=$checkout/ansible.cfg ansible -i "$work/inventory.json" all -m fpm_pool_facts | grep '"name": "www"' >/dev/null

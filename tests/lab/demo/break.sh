#!/usr/bin/env bash
# Breaks a stock Debian host in six of the ways that people meet. Runs on the lab host.
set -euo pipefail
pools=/etc/php/8.2/fpm/pool.d

# The sites' code.
for site in shop blog api report; do
  mkdir -p /srv/$site
  # shellcheck disable=SC2016 # PHP's dollar, not the shell's
  echo '<?php usleep((int) ($_GET["ms"] ?? 0) * 1000); echo "ok";' >/srv/$site/index.php
done

pool() { # NAME DIRECTIVES...: the distribution's own www pool, under another name
  local name=$1 line; shift
  { sed -e "s/^\[www\]/[$name]/" -e "s|^listen = .*|listen = /run/php/$name.sock|" $pools/www.conf.orig
    for line in "$@"; do echo "$line"; done; } >"$pools/$name.conf"
}
site() { # NAME SOCKET DIRECTIVES...
  local name=$1 socket=$2; shift 2
  cat >"/etc/nginx/sites-available/$name.example.com.conf" <<CONF
server {
    listen 80;
    server_name $name.example.com;
    root /srv/$name;
    index index.php;
    location / { try_files \$uri \$uri/ /index.php?\$query_string; }
    location ~ \.php\$ {
        include snippets/fastcgi-php.conf;
        fastcgi_pass unix:$socket;
        $*
    }
}
CONF
  ln -sf "../sites-available/$name.example.com.conf" /etc/nginx/sites-enabled/
}

mv $pools/www.conf $pools/www.conf.orig
# 1. After a PHP upgrade nginx still points at the old version's socket.
pool shop
site shop /run/php/php7.4-fpm.sock
# 2. A socket that is closed to nginx's user.
pool blog 'listen.owner = root' 'listen.group = root' 'listen.mode = 0600'
site blog /run/php/blog.sock
# 3. The distribution's five workers, with a backlog that somebody lowered, under more than a trickle.
pool api 'pm.max_children = 5' 'listen.backlog = 8'
site api /run/php/api.sock
# 4. Timeouts that contradict each other: PHP may run for 300 s, FPM kills it after 2, nginx would wait for 60.
pool report 'php_admin_value[max_execution_time] = 300' 'request_terminate_timeout = 2s'
site report /run/php/report.sock 'fastcgi_read_timeout 60s;'
# 5. process_control_timeout is not set, and 6. the unit has no Restart=: as the distribution ships them.
systemctl restart php8.2-fpm
systemctl restart nginx

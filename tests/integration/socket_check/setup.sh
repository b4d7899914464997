#!/bin/sh
# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Makes the lab host's pools, users, links and permissions for test_socket_check.py.
set -eu

# The lab host's loopback has no IPv6 until it is asked for.
mount -o remount,rw /proc/sys
echo 0 > /proc/sys/net/ipv6/conf/lo/disable_ipv6
mount -o remount,ro /proc/sys

useradd --no-create-home --groups www-data deployer
useradd --no-create-home visitor

pool() { # NAME LISTEN [FURTHER LINES]
    cat > "/etc/php/8.2/fpm/pool.d/$1.conf" <<END
[$1]
user = www-data
group = www-data
listen = $2
listen.owner = www-data
listen.group = www-data
pm = ondemand
pm.max_children = 1
ping.path = /ping
pm.status_path = /status
${3:-}
END
}
mkdir -p /srv/closed/in /srv/shut /srv/named /run/deep/er
pool unix /run/php/unix.sock
pool busy /run/php/busy.sock
pool default /run/php/default.sock 'listen.owner = root
listen.group = root'
pool acl /run/php/acl.sock 'listen.acl_users = games'
pool mask /run/php/mask.sock
pool closed /srv/closed/in/s.sock
pool shut /srv/shut/s.sock 'listen.mode = 0666'
pool named /srv/named/s.sock 'listen.mode = 0666'
pool four 127.0.0.1:9101
pool six '[::1]:9102'
pool picky 127.0.0.1:9103 'listen.allowed_clients = 192.0.2.1'
systemctl restart php8.2-fpm

chgrp www-data /srv/closed
chmod 0750 /srv/closed
chmod 0700 /srv/shut
setfacl -m u:visitor:x /srv/shut
setfacl -m u:visitor:--- /srv/named
setfacl -m u:games:rw,m::r /run/php/mask.sock

ln -s hop2.sock /srv/hop1.sock
ln -s /run/deep/er/../../php/unix.sock /srv/hop2.sock
ln -s /run/php/none.sock /srv/dangling.sock
ln -s loop.sock /srv/loop.sock

echo '<?php usleep(600000000);' > /srv/slow.php

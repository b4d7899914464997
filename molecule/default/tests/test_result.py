# Copyright (c) 2026, The webops.php_stack maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the roles leave on a host."""

from __future__ import annotations

import pytest

testinfra_hosts = ["ansible://all"]

SOCKETS = ["shop", "shop-300s", "blog"]


@pytest.mark.parametrize("service", ["nginx", "php8.2-fpm"])
def test_services_run_and_start_at_boot(host, service):
    assert host.service(service).is_running, host.run("journalctl -n 30 -u %s", service).stdout
    assert host.service(service).is_enabled


@pytest.mark.parametrize("pool", SOCKETS)
def test_socket_belongs_to_nginx(host, pool):
    socket = host.file(f"/run/php8.2-fpm/held/{pool}.sock")
    assert socket.is_socket
    assert host.file(f"/run/php8.2-fpm/{pool}.sock").linked_to == socket.path
    assert (socket.user, socket.group, oct(socket.mode)) == ("www-data", "www-data", "0o660")


def test_socket_folder_is_the_service_s_own(host):
    folder = host.file("/run/php8.2-fpm")
    assert (folder.user, folder.group, oct(folder.mode)) == ("root", "root", "0o755")
    assert (
        "d /run/php8.2-fpm 0755 root root -"
        in host.file("/etc/tmpfiles.d/php_stack-php8.2-fpm.conf").content_string
    )


@pytest.mark.parametrize("pool", SOCKETS)
def test_nginx_s_user_may_connect_and_others_may_not(host, pool):
    probe = f"/usr/local/bin/php-fpm-probe /run/php8.2-fpm/{pool}.sock --ping /fpm-ping"
    allowed = host.run(f"runuser -u www-data -- {probe}")
    assert allowed.rc == 0, allowed.stdout + allowed.stderr
    denied = host.run(f"runuser -u guest -- {probe}")
    assert denied.rc != 0
    assert "denied" in denied.stdout + denied.stderr


@pytest.mark.parametrize("site", ["shop.example.com", "blog.example.com"])
def test_page_is_answered_by_php(host, site):
    assert host.check_output("curl -sf -H 'Host: %s' http://127.0.0.1/index.php", site).startswith("shop 8")


def test_front_controller_and_long_route_reach_php(host):
    for path in ("/any/pretty/url", "/export/orders"):
        assert host.check_output("curl -sf -H 'Host: shop.example.com' http://127.0.0.1%s", path).startswith(
            "shop 8"
        )


def test_a_missing_script_is_nginx_s_own_404(host, get):
    assert get("/nope.php") == 404
    assert "Primary script unknown" not in host.file("/var/log/nginx/error.log").content_string


def test_status_is_for_the_host_itself_only(host, get):
    assert get("/fpm-status") == 200
    address = host.check_output("hostname -i").split()[0]
    done = host.run(
        "curl -s -o /dev/null -w '%%{http_code}' -H 'Host: shop.example.com' http://%s/fpm-status", address
    )
    assert done.stdout == "403"


def test_the_effective_timeouts_are_a_ladder(host):
    dump = host.run("php-fpm8.2 -tt").stderr
    shop = dump.split("[shop]")[1].split("[shop-300s]")[0]
    assert "request_terminate_timeout = 30s" in shop
    assert "php_admin_value[max_execution_time] = 30" in shop
    site = host.file("/etc/nginx/sites-available/shop.example.com.conf").content_string
    assert "fastcgi_read_timeout 35s;" in site
    assert "fastcgi_send_timeout 35s;" in site
    assert "process_control_timeout = 30s" in dump


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("Restart", "on-failure"),
        ("RuntimeDirectory", "php8.2-fpm"),
        ("RuntimeDirectoryPreserve", "yes"),
        ("StartLimitIntervalUSec", "0"),
        ("KillSignal", "3"),
        ("TimeoutStopUSec", "35s"),
        ("OOMPolicy", "continue"),
    ],
)
def test_systemd_reads_the_drop_in(host, setting, value):
    assert host.check_output("systemctl show -P %s php8.2-fpm", setting) == value


def test_sudoers_passes_visudo(host):
    done = host.run("visudo -c")
    assert done.rc == 0, done.stdout + done.stderr

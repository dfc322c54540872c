"""nginx with deploy/nginx/entropyd.conf as it is published, but for addresses."""

from __future__ import annotations

import getpass
import re
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.load import free_ports
from tests.support.machine import program

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CONF = Path(__file__).parents[2] / "deploy" / "nginx" / "entropyd.conf"
MAIN = """
user {user};
daemon off;
pid {folder}/pid;
error_log {folder}/error.log;
worker_processes 2;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {folder};
    proxy_temp_path {folder};
    fastcgi_temp_path {folder};
    uwsgi_temp_path {folder};
    scgi_temp_path {folder};
    include {folder}/entropyd.conf;
}}
"""


@contextmanager
def start_nginx(folder: Path, coding: Sequence[str], modeling: str) -> Iterator[str]:
    """Starts it, in an empty folder; gives the address that it listens on.

    Args:
      coding: Addresses of the coding replicas, up to three.
      modeling: Address of the modeling replica.
    """
    listen = f"127.0.0.1:{free_ports(1)[0]}"
    conf = CONF.read_text().replace("listen 7070 http2", f"listen {listen} http2")
    for number in range(3):
        conf = conf.replace(f"server coding-{number}.entropyd:7070", f"server {coding[number % len(coding)]}")
    conf = conf.replace("server modeling-0.entropyd:7070", f"server {modeling}")
    assert not re.search(r"^[^#]*7070", conf, re.MULTILINE)
    (folder / "entropyd.conf").write_text(conf)
    (folder / "nginx.conf").write_text(MAIN.format(folder=folder, user=getpass.getuser()))
    command = [program("nginx", "nginx"), "-p", str(folder), "-c", "nginx.conf", "-e", f"{folder}/error.log"]
    process = subprocess.Popen(command)
    try:
        yield listen
        # It must have lived until now.
        assert process.poll() is None, (folder / "error.log").read_text()
    finally:
        process.terminate()
        process.wait()

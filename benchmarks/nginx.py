"""nginx as the upstream with canned answers, and as a plain proxy: the yardstick."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from benchmarks.answers import SIZES, answer
from benchmarks.processes import free_port, started, wait_http

DIRECTORIES = ("/usr/sbin", "/usr/local/sbin")

_MAIN = """
daemon off;
{user}
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log error;
worker_rlimit_nofile {descriptors};
events {{ worker_connections 12000; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  keepalive_requests 100000000;
  client_max_body_size 64m;
  sendfile on;
  tcp_nopush on;
  {http}
}}
"""

# A static file answers no POST: the error page for that is the file. Proxying to itself is what reads a body first.
_UPSTREAM = """
  open_file_cache max=10;
  upstream self {{ server 127.0.0.1:{port}; keepalive 64; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location /canned/ {{ internal; root {folder}; default_type application/json; }}
    location = /ok {{ return 204; }}
    {locations}
    location /edit/ {{
      client_body_buffer_size 32m;
      proxy_pass http://self/small/;
      proxy_method POST;
      proxy_pass_request_body off;
      proxy_set_header Content-Length 0;
      proxy_set_header Connection "";
      proxy_http_version 1.1;
    }}
  }}
"""

_PROXY = """
  upstream behind {{ server 127.0.0.1:{upstream}; keepalive 1024; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location = /ok {{ return 204; }}
    location / {{ proxy_pass http://behind; proxy_http_version 1.1; proxy_set_header Connection ""; }}
  }}
"""


def program() -> str | None:
    """Return where nginx is, None if it is not installed; some systems keep it from users' paths."""
    return shutil.which("nginx") or next(
        (found for folder in DIRECTORIES if (found := shutil.which("nginx", path=folder))), None
    )


@contextlib.contextmanager
def _running(
    folder: Path, http: str, port: int, *, cores: tuple[int, ...], descriptors: int
) -> Iterator[tuple[int, int]]:
    nginx = program()
    assert nginx is not None
    user = "user root root;" if os.geteuid() == 0 else ""  # else its workers could not read our folder
    config, log = folder / "nginx.conf", folder / "log"
    config.write_text(_MAIN.format(folder=folder, user=user, http=http, descriptors=descriptors))
    command = [nginx, "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(config)]
    with started(command, cores=cores, log=log) as process:
        wait_http(f"http://127.0.0.1:{port}/ok", process, log)
        yield port, process.pid


@contextlib.contextmanager
def upstream(folder: Path, *, cores: tuple[int, ...], descriptors: int) -> Iterator[int]:
    """Run an upstream with the canned answers at `/small/…`, `/large/…`, `/huge/…`, and `/edit/…`; yields its port."""
    home, port = folder / "upstream", free_port()
    (home / "canned").mkdir(parents=True)
    for kind in SIZES:
        (home / "canned" / f"{kind}.json").write_bytes(answer(kind))
    locations = "\n    ".join(
        f"location /{kind}/ {{ error_page 405 =200 /canned/{kind}.json; return 405; }}" for kind in SIZES
    )
    text = _UPSTREAM.format(folder=home, port=port, locations=locations)
    with _running(home, text, port, cores=cores, descriptors=descriptors) as (where, _):
        yield where


@contextlib.contextmanager
def proxy(folder: Path, behind: int, *, cores: tuple[int, ...], descriptors: int) -> Iterator[tuple[int, int]]:
    """Run a plain proxy in front of an upstream's port; yields its own port and its process id."""
    home, port = folder / "proxy", free_port()
    home.mkdir()
    text = _PROXY.format(port=port, upstream=behind)
    with _running(home, text, port, cores=cores, descriptors=descriptors) as running:
        yield running

"""A page with the queue, for a browser on this machine. It names studies by their hash, and no patient."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from fvv.errors import ConfigError
from fvv.node.spool import DONE, STATES, Spool
from fvv.schemas.node import Health

_MOST_ROWS = 200
_HOSTS = {"127.0.0.1", "localhost"}
_HEAD = """<!doctype html><html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="10">
<title>fvv listen</title><style>
body{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}
table{border-collapse:collapse;width:100%;margin:0 0 1.5rem}
th,td{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #ccc}
td:not(:first-child){font-variant-numeric:tabular-nums}code{font-size:.9em}h2{font-size:1.1rem;margin:1.5rem 0 .3rem}
@media(prefers-color-scheme:dark){body{color:#eee;background:#181818}th,td{border-color:#444}}
</style></head><body><h1>fvv listen</h1>
"""


class Page:
    """Serves the page on the loopback interface until it is closed.

    Raises:
        ConfigError: the port is in use.
    """

    def __init__(self, port: int, spool: Spool, health: Callable[[], Health]) -> None:
        def handler(*about: Any) -> BaseHTTPRequestHandler:
            return _Handler(spool, health, *about)

        try:
            self._server = ThreadingHTTPServer(("127.0.0.1", port), handler)
        except OSError as error:
            raise ConfigError(f"no page on port {port}: {error.strerror}", hint="name another with --page") from error
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, name="page", daemon=True).start()

    def close(self) -> None:
        """End."""
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    timeout = 10

    def __init__(self, spool: Spool, health: Callable[[], Health], *about: Any) -> None:
        self._spool, self._health = spool, health
        super().__init__(*about)

    def do_GET(self) -> None:
        """The page; nothing else is here. Another host name is that of a foreign page, which must not read this one."""
        if self.path != "/" or self.headers.get("Host", "").partition(":")[0] not in _HOSTS:
            self.send_error(404)
            return
        content = page_html(self._spool, self._health()).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Not to the log of the node."""


def page_html(spool: Spool, health: Health) -> str:
    """The page: counts, destinations, the last error, and the studies that wait or have failed."""
    counts = _table(list(health.states), [[str(count) for count in health.states.values()]])
    there = [
        [escape(name), escape(f"{one.failures} failures: {one.last_error}" if one.failures else "takes results")]
        for name, one in health.destinations.items()
    ]
    rows = list(_rows(spool))
    shown = [[f"<code>{escape(study)}</code>", *rest] for study, *rest in rows[:_MOST_ROWS]]
    parts = [
        _HEAD,
        f"<p>Version {escape(health.software)}, {escape(health.time)}. For research use only.</p>",
        counts,
        f"<p>Last error: {escape(health.last_error or 'none')}</p>",
        "<h2>Destinations</h2>",
        _table(["name", "state"], there) if there else "<p>none: results stay in the spool</p>",
        "<h2>Waiting and failed</h2>",
        _table(["study", "state", "objects", "last object"], shown) if shown else "<p>none</p>",
        f"<p>and {len(rows) - _MOST_ROWS} more</p>" if len(rows) > _MOST_ROWS else "",
        "</body></html>",
    ]
    return "\n".join(parts)


def _rows(spool: Spool) -> Iterator[list[str]]:
    for state in STATES:
        for study in spool.studies(state) if state != DONE else ():
            with suppress(FileNotFoundError):  # It just moved on.
                images = spool.images(state, study)
                minutes = (time.time() - images.stat().st_mtime) / 60
                yield [study, state, str(len(list(images.iterdir()))), f"{minutes:.0f} min ago"]


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = ["".join(f"<td>{cell}</td>" for cell in row) for row in rows]
    top = "".join(f"<th>{cell}</th>" for cell in head)
    return f"<table><tr>{top}</tr>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"

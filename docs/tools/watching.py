"""A Prometheus that watches the site whose pictures are taken."""

import json
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

EVERY = 2
"""Seconds between two scrapes."""

_STEP = 5  # seconds between two values that are asked for
_LIMIT = 60.0  # seconds for it to answer


class Prometheus:
    """It, since it was started."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"
        self._began = time.time()

    def ask(self, expression: str) -> list[tuple[dict[str, str], list[float], list[float]]]:
        """Return labels, times in minutes and values of each series that the query gives."""
        span = {"start": f"{self._began}", "end": f"{time.time()}", "step": f"{_STEP}"}
        path = f"/api/v1/query_range?{urllib.parse.urlencode({'query': expression} | span)}"
        found = json.loads(self._get(path))["data"]["result"]
        return [self._read(series) for series in found]

    def _read(self, series: Any) -> tuple[dict[str, str], list[float], list[float]]:
        times = [(at - self._began) / 60 for at, _ in series["values"]]
        return series["metric"], times, [float(value) for _, value in series["values"]]

    def wait(self) -> None:
        """Wait until it answers. Raise `OSError` if it doesn't."""
        end = time.monotonic() + _LIMIT
        while True:
            try:
                self._get("/-/ready")
                return
            except OSError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.2)

    def _get(self, path: str) -> bytes:
        with urllib.request.urlopen(self._url + path, timeout=_LIMIT) as answer:  # noqa: S310 - its own address
            return bytes(answer.read())


def free_port() -> int:
    """Return a TCP port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextmanager
def watching(folder: Path, port: int, target: str) -> Iterator[Prometheus]:
    """Run a Prometheus at that port, which scrapes `target`, while the block runs. Its files are in `folder`."""
    scrape = {"job_name": "twinlock", "static_configs": [{"targets": [target]}]}
    config = {"global": {"scrape_interval": f"{EVERY}s", "scrape_timeout": f"{EVERY}s"}, "scrape_configs": [scrape]}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    argv = ["prometheus", f"--web.listen-address=127.0.0.1:{port}"]
    argv += [f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"]
    with (folder / "prometheus.log").open("w") as log, subprocess.Popen(argv, stdout=log, stderr=log) as process:
        try:
            made = Prometheus(port)
            made.wait()
            yield made
        finally:
            process.kill()

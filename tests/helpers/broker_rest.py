"""An HTTP server that answers as the Compute service and Globus Auth answer a manager endpoint."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl

from broker_rig import UEP, amqp_creds

_TOKEN = {"access_token": "t", "token_type": "bearer", "expires_in": 99999, "scope": "s", "resource_server": "r"}


class Service:
    """The service and Globus Auth: gives each request the answer that the test has chosen, and keeps the request."""

    def __init__(self, amqp: str, endpoint_id: str) -> None:
        commands = {"connection_url": amqp, "queue": "cmds"}
        heartbeat = amqp_creds(amqp)["heartbeat_queue_info"]
        self.status = 200
        """The HTTP status of answers."""
        self.statuses: dict[str, int] = {}
        """The HTTP status of single paths."""
        self.answer: Any = {
            "endpoint_id": endpoint_id,
            "command_queue_info": commands,
            "heartbeat_queue_info": heartbeat,
        }
        """The body of answers."""
        self.answers: dict[str, Callable[[Any], Any]] = {}
        """What makes the body of an answer from that of the request, for paths with this beginning."""
        self.asked: list[tuple[str, str, Any]] = []
        """The requests so far: method, path and body."""
        self.token_status = 200
        """The HTTP status of answers to requests for tokens."""
        self.tokens: dict[str, Any] = _TOKEN | {"other_tokens": []}
        """The body of these answers."""
        self.logins: list[dict[str, str]] = []
        """The forms of the requests for tokens."""
        self.revoked: list[str] = []
        """The tokens that were revoked."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def environment(self) -> dict[str, str]:
        """What leads globus-sdk here."""
        url = f"http://127.0.0.1:{self._server.server_port}"
        return {"GLOBUS_SDK_SERVICE_URL_AUTH": url, "GLOBUS_SDK_SERVICE_URL_COMPUTE": url}

    def stop(self) -> None:
        """Be gone. More than once is fine."""
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def rest_service(amqp: str, endpoint_id: str = UEP) -> Iterator[Service]:
    """A service that registers everyone as `endpoint_id`, whose commands and heartbeats go over `amqp`."""
    service = Service(amqp, endpoint_id)
    try:
        yield service
    finally:
        service.stop()


def _handler(service: Service) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _do(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.path.endswith("/token"):
                service.logins.append(dict(parse_qsl(body.decode())))
                self._say(service.token_status, service.tokens)
            elif self.path.endswith("/token/revoke"):
                if service.token_status == HTTPStatus.OK:
                    service.revoked.append(dict(parse_qsl(body.decode()))["token"])
                self._say(service.token_status, {"active": False})
            else:
                service.asked.append((self.command, self.path, json.loads(body or "null")))
                made = [make for path, make in service.answers.items() if self.path.startswith(path)]
                answer = made[0](service.asked[-1][2]) if made else service.answer
                self._say(service.statuses.get(self.path, service.status), answer)

        def _say(self, status: int, answer: Any) -> None:
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_DELETE = _do  # noqa: N815  (the base class's names)

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    return Handler

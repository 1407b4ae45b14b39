"""A local web server with the failures of real ones."""

import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Behaviour:
    """What the server does with `/file`.

    Attributes:
        content: what it should send.
        statuses: answered one after the other before it behaves.
        breaks: after how many bytes each connection is closed, one after the other.
        stalls: after how many bytes it stops responding, once.
        announced: a false length.
        redirects: to where `/file` leads.
        pace: seconds between pieces of 1,000 bytes.
        headers: besides its own.
        then: the content after the first closed connection.
    """

    content: bytes = b""
    statuses: list[int] = field(default_factory=list)
    breaks: list[int] = field(default_factory=list)
    stalls: list[int] = field(default_factory=list)
    announced: int | None = None
    redirects: str = ""
    pace: float = 0.0
    headers: dict[str, str] = field(default_factory=dict)
    then: bytes = b""
    requests: int = 0


class Server:
    """`with Server(Behaviour(...)) as server: server.url`."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(behaviour))
        self._http.daemon_threads = True
        self.root = f"http://127.0.0.1:{self._http.server_port}"
        self.url = f"{self.root}/file"

    def __enter__(self) -> "Server":
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()


def _handler(behaviour: Behaviour) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            behaviour.requests += 1
            if behaviour.redirects and self.path == "/file":
                self._answer(302, {"Location": behaviour.redirects})
            elif behaviour.statuses:
                self._answer(behaviour.statuses.pop(0), behaviour.headers)
            else:
                self._send()

        def _send(self) -> None:
            content, total = behaviour.content, len(behaviour.content)
            length = behaviour.announced if behaviour.announced is not None else total
            self._answer(200, {"Content-Length": str(length)})
            stop = behaviour.breaks.pop(0) if behaviour.breaks else None
            silent = behaviour.stalls.pop(0) if behaviour.stalls else None
            for start in range(0, total, 1000):
                if stop is not None and start >= stop:
                    self.connection.close()
                    behaviour.content = behaviour.then or content
                    return
                if silent is not None and start >= silent:
                    time.sleep(3)
                    return
                self.wfile.write(content[start : start + 1000])
                time.sleep(behaviour.pace)

        def _answer(self, status: int, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    return Handler

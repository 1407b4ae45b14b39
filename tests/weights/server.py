"""A web server on this machine that misbehaves in every way a real one has."""

import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Behaviour:
    """What the server does with `/file`.

    Attributes:
        content: what it should send.
        statuses: answered one after the other before it behaves.
        breaks: after how many bytes each connection breaks off, one after the other.
        stalls: after how many bytes it goes silent, once.
        announced: a length it lies about.
        ranges: whether it can continue.
        redirects: to where `/file` leads.
        pace: seconds between pieces of 1,000 bytes.
        headers: besides its own.
        etag: what it calls this state of the content, where it does.
        obeys: whether it heeds `If-Range`.
        then: the content after the first broken connection.
    """

    content: bytes = b""
    statuses: list[int] = field(default_factory=list)
    breaks: list[int] = field(default_factory=list)
    stalls: list[int] = field(default_factory=list)
    announced: int | None = None
    ranges: bool = True
    redirects: str = ""
    pace: float = 0.0
    headers: dict[str, str] = field(default_factory=dict)
    etag: str = ""
    obeys: bool = True
    then: tuple[bytes, str] | None = None
    requests: Counter = field(default_factory=Counter)
    sent: int = 0


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
            asked = self.headers.get("Range", "")
            behaviour.requests[asked] += 1
            if behaviour.redirects and self.path == "/file":
                self._answer(302, {"Location": behaviour.redirects})
            elif behaviour.statuses:
                self._answer(behaviour.statuses.pop(0), behaviour.headers)
            else:
                condition = self.headers.get("If-Range", behaviour.etag)
                other = behaviour.obeys and condition != behaviour.etag
                self._send(int(asked[6:-1]) if asked and behaviour.ranges and not other else 0)

        def _send(self, start: int) -> None:
            content, total = behaviour.content, len(behaviour.content)
            if start >= total > 0:
                self._answer(416, {"Content-Range": f"bytes */{total}"})
                return
            length = behaviour.announced if behaviour.announced is not None else total - start
            headers = {"Content-Length": str(length)}
            if behaviour.etag:
                headers["ETag"] = behaviour.etag
            if start:
                headers["Content-Range"] = f"bytes {start}-{total - 1}/{total}"
            self._answer(206 if start else 200, headers)
            stop = behaviour.breaks.pop(0) if behaviour.breaks else None
            silent = behaviour.stalls.pop(0) if behaviour.stalls else None
            for place in range(start, total, 1000):
                if stop is not None and place - start >= stop:
                    self.connection.close()
                    if behaviour.then:
                        behaviour.content, behaviour.etag = behaviour.then
                        behaviour.then = None
                    return
                if silent is not None and place - start >= silent:
                    time.sleep(3)
                    return
                self.wfile.write(content[place : place + 1000])
                behaviour.sent += 1000
                time.sleep(behaviour.pace)

        def _answer(self, status: int, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    return Handler

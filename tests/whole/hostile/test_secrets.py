"""What a client, an operator or Prometheus is told holds no secret, payload or trace."""

from __future__ import annotations

from pathlib import Path

import trio

from tests.factories import jpeg
from tests.unit.wire.peer import REQUEST, binary, text
from tests.whole.hostile.kit import read_rest, worker
from tests.whole.smoke.worker import meta, opening

TOKEN = b"Bearer-5ecret-t0ken"
PASSWORD = "hunter2-in-the-url"
INTENT = "a very private wave"
PAYLOAD = b"\x00PRIVATE-PIXELS\x00"
PATHS = ["/", "/healthz", "/readyz", "/metrics", "/captures", "/ended", "/info", "/nosuch"]


async def test_nothing_private_is_told_to_anyone(tmp_path: Path) -> None:
    """Tokens, passwords, annotations, pixels and traces: in no answer, metric or log line."""
    secrets = [TOKEN.decode(), PASSWORD, INTENT, "PRIVATE-PIXELS", "Traceback", '.py"']
    url = f"http://user:{PASSWORD}@127.0.0.1:9/check"
    request = REQUEST.replace(b"\r\n\r\n", b"\r\nAuthorization: Bearer " + TOKEN + b"\r\n\r\n")
    asked = request.replace(b"/capture ", b"/capture?access_token=" + TOKEN + b" ")
    picture = jpeg(400)[:-2] + PAYLOAD + jpeg(400)[-2:]
    told = b""
    options = ["--sessions", url, "--log-level", "debug"]
    async with worker(tmp_path, *options, sessions=()) as made:
        for head in (request, asked, asked.replace(b"GET", b"BREW"), asked + b"\xff\xff"):
            for words in (
                opening(annotation={"intent": INTENT}),
                opening(annotation={"intent": INTENT}, fps_target="fast"),
                opening(annotation={"intent": [INTENT]}),
                "{" + INTENT,
                meta(1, len(picture)),
            ):
                stream = await made.dial()
                try:
                    await stream.send_all(head + text(words) + binary(picture))
                    told += await read_rest(stream)
                except trio.BrokenResourceError:
                    pass
                await stream.aclose()
        for path in PATHS:
            answer = await made.get(path)
            told += answer.content + repr(answer.headers).encode()
        assert await made.stop() == 0
        log = made.log_file.read_text()
    assert b"HTTP/1.1 101" in told
    assert b"session_invalid" in told
    assert "session.unreachable" in log
    for secret in secrets:
        assert secret.encode() not in told, secret
        assert secret not in log, secret

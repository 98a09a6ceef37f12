"""Combinations: what a certificate allows and what a token allows, and where a token stands."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import memory_stream_pair

from cfw.identity import Gate, Identity, Origins, Tokens, make_token
from cfw.identity.tls import TlsFiles
from cfw.wire import HandshakeReject, Request
from tests.unit.identity.certificates import bound_context, issued

USERS = ("ada", "bob", "eve")
#: Of each token, the users that it is good for.
FREE, ADAS, BOBS, WRONG = make_token(), make_token(), make_token(), make_token()
GOOD_FOR = {FREE: set(USERS), ADAS: {"ada"}, BOBS: {"bob"}}
#: What a certificate is bound to -> the users that it is good for; None shows none.
CERTIFICATES: dict[tuple[str, ...] | None, set[str]] = {
    None: set(USERS),
    (): set(USERS),
    ("ada",): {"ada"},
    ("bob",): {"bob"},
    ("ada", "bob"): {"ada", "bob"},
    ("bob", "eve"): {"bob", "eve"},
}


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    """One for anybody, one for ada, one for bob."""
    path = tmp_path / "tokens"
    path.write_text(f"{FREE}\n{ADAS} ada\n{BOBS} bob\n")
    path.chmod(0o600)
    return Tokens(path)


@asynccontextmanager
async def connection(folder: Path, bound: tuple[str, ...] | None) -> AsyncIterator[Any]:
    """The worker's end of a connection, whose peer has shown a certificate if it has one."""
    server, client = memory_stream_pair()
    if bound is None:
        yield server
        return
    files = issued(folder)
    context = bound_context(folder, *(f"urn:cfw:user:{user}" for user in bound))
    ours = TlsFiles(files.cert, files.key, files.ca).wrap(server)
    theirs = trio.SSLStream(client, context, server_hostname="localhost")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(theirs.do_handshake)
        nursery.start_soon(ours.do_handshake)
    yield ours


def asked(*headers: tuple[str, str], host: str = "worker:8765") -> Request:
    """A request that says this."""
    return Request(
        method="GET",
        path="/",
        query="",
        version="1.1",
        host=host,
        headers=(("host", host), *headers),
    )


def bearer(token: str) -> tuple[str, str]:
    return "authorization", f"Bearer {token}"


def offered(*names: str) -> tuple[str, str]:
    return "sec-websocket-protocol", ", ".join(names)


def carried(token: str) -> str:
    return f"cfw.bearer.{token}"


async def let_in(gate: Gate, request: Request, stream: Any) -> set[str] | int:
    """The users that a connection may open captures of, or the status of its refusal."""
    verdict = await gate.judge(request, stream)
    if isinstance(verdict, HandshakeReject):
        return verdict.status
    assert isinstance(verdict, Identity)
    return set(USERS if verdict.users is None else verdict.users) & set(USERS)


@pytest.mark.parametrize("bound", CERTIFICATES, ids=str)
async def test_who_is_bound_by_a_certificate_and_by_a_token_has_to_fit_both(
    tmp_path: Path, tokens: Tokens, bound: tuple[str, ...] | None
) -> None:
    """Each certificate with each token, and without one where none is asked for."""
    asking, open_to_all = Gate(Origins(()), tokens), Gate(Origins(()))
    async with connection(tmp_path, bound) as stream:
        assert await let_in(asking, asked(), stream) == 401
        assert await let_in(asking, asked(bearer(WRONG)), stream) == 401
        for token, good_for in GOOD_FOR.items():
            expected = CERTIFICATES[bound] & good_for
            assert await let_in(asking, asked(bearer(token)), stream) == expected
            in_list = asked(offered("cfw.v1", carried(token)))
            assert await let_in(asking, in_list, stream) == expected
            # A token that nobody asks for binds nobody.
            assert (
                await let_in(open_to_all, asked(bearer(token)), stream) == CERTIFICATES[bound]
            )


async def test_nobody_is_nobody_and_not_anybody(tmp_path: Path, tokens: Tokens) -> None:
    """A certificate and a token of different users leave no user, not every user."""
    async with connection(tmp_path, ("ada",)) as stream:
        verdict = await Gate(Origins(()), tokens).judge(asked(bearer(BOBS)), stream)
    assert verdict == Identity(frozenset())


def places(first: str, second: str) -> Iterable[Request]:
    """Every way to offer two tokens, the first one first."""
    yield asked(bearer(first), bearer(second))
    yield asked(bearer(first), offered(carried(second)))
    yield asked(offered(carried(second)), bearer(first))
    yield asked(offered(carried(first), carried(second)))
    yield asked(offered("x", carried(first), "cfw.v1", carried(second)))
    yield asked(offered(carried(first)), offered(carried(second)))


async def test_of_two_tokens_that_are_offered_either_lets_in(
    tmp_path: Path, tokens: Tokens
) -> None:
    """A page may keep an old one beside the new; the first that is known counts alone."""
    gate = Gate(Origins(()), tokens)
    known = (*GOOD_FOR, WRONG)
    async with connection(tmp_path, None) as stream:
        for first, second in product(known, known):
            expected = GOOD_FOR.get(first) or GOOD_FOR.get(second) or 401
            for request in places(first, second):
                assert await let_in(gate, request, stream) == expected, request


async def test_two_tokens_are_looked_up_and_no_third(tmp_path: Path, tokens: Tokens) -> None:
    """As many as fit into a head would cost the worker more than whoever sends them."""
    gate = Gate(Origins(()), tokens)
    async with connection(tmp_path, None) as stream:
        for wrong, expected in ((0, {"ada"}), (1, {"ada"}), (2, 401), (100, 401)):
            names = [*(carried(make_token()) for _ in range(wrong)), carried(ADAS)]
            assert await let_in(gate, asked(offered(*names)), stream) == expected
            heads = [*(bearer(make_token()) for _ in range(wrong)), bearer(ADAS)]
            assert await let_in(gate, asked(*heads), stream) == expected


OWN_HOST = "evil.example:8765"


@pytest.mark.parametrize("has_tokens", [False, True])
@pytest.mark.parametrize("token", [None, WRONG, ADAS], ids=["no token", "wrong", "right"])
@pytest.mark.parametrize(
    "origins",
    [
        (),
        ("http://listed.example",),
        ("http://evil.example",),
        ("http://evil.example:8765",),
        ("http://listed.example", "http://evil.example"),
        ("http://evil.example", "http://listed.example"),
        ("http://evil.example:8765", "http://evil.example"),
        ("file://",),
        ("null",),
        ("",),
    ],
)
async def test_an_origin_and_a_token(
    tmp_path: Path,
    tokens: Tokens,
    has_tokens: bool,
    token: str | None,
    origins: tuple[str, ...],
) -> None:
    """Each origin has to pass. That of the Host does where a token is asked for: a page under a
    name that was made to resolve here has none."""
    gate = Gate(Origins(("http://listed.example",)), tokens if has_tokens else None)
    headers = [("origin", origin) for origin in origins]
    request = asked(*headers, *([bearer(token)] if token else []), host=OWN_HOST)
    passing = {"http://listed.example"} | ({f"http://{OWN_HOST}"} if has_tokens else set())
    async with connection(tmp_path, None) as stream:
        answer = await let_in(gate, request, stream)
    if not set(origins) <= passing:
        assert answer == 403
    elif has_tokens and token != ADAS:
        assert answer == 401
    else:
        assert answer == ({"ada"} if has_tokens else set(USERS))


async def test_a_certificate_is_no_token(tmp_path: Path) -> None:
    """A browser shows it to any page, so it makes no origin pass."""
    gate = Gate(Origins(()))
    request = asked(("origin", f"https://{OWN_HOST}"), host=OWN_HOST)
    async with connection(tmp_path, ("ada",)) as stream:
        assert await let_in(gate, request, stream) == 403

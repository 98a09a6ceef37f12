"""From a URL to an open authority, through the entry points of `cfw.sessions`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from cfw.plugins import PluginError, UnknownScheme, load_scheme, redact_url
from cfw.sessions._authority import AuthorityFactory, SessionAuthority, SessionUrlError

GROUP = "cfw.sessions"


def _prepare(
    url: str, sessions: Sequence[str]
) -> AbstractAsyncContextManager[SessionAuthority]:
    try:
        factory: AuthorityFactory = load_scheme(GROUP, url)
    except UnknownScheme as exc:
        problem = f"no scheme {exc.scheme + ':'!r}" if exc.scheme else "it has no scheme"
        allowed = tuple(f"{name}:" for name in exc.allowed)
        advice = (
            "use one of these, or install the package that provides it"
            if allowed
            else "install the cfw package, which registers its own"
        )
        raise SessionUrlError(redact_url(url), problem, allowed, advice) from exc
    except PluginError as exc:
        raise SessionUrlError(
            redact_url(url), str(exc), ("one working plugin per scheme",), "then start again"
        ) from exc
    return factory(url, sessions=sessions)


def check_authority_url(url: str, *, sessions: Sequence[str] = ()) -> None:
    """Check that `url` and `sessions` make an authority, opening nothing.

    Args:
        url: as for `open_authority`.
        sessions: as for `open_authority`.

    Raises:
        SessionUrlError: unknown scheme, or a URL its authority cannot use.
        ValueError: a session that is not in the form `USER:SESSION`.
    """
    _prepare(url, sessions)


@asynccontextmanager
async def open_authority(
    url: str, *, sessions: Sequence[str] = ()
) -> AsyncIterator[SessionAuthority]:
    """Open the session authority that `url` names, and close it at the end of the block.

    Args:
        url: `static:`, `allow:`, `http://...`, `https://...`, `valkey://...` or an
            installed scheme.
        sessions: for `static:`, the active sessions as `USER:SESSION`.

    Raises:
        SessionUrlError: unknown scheme, or a URL its authority cannot use.
        ValueError: a session that is not in the form `USER:SESSION`.
        OutOfReach: an authority that keeps a connection found nobody there.

    Cancellation: a check points where its authority does; closing waits for no peer.
    """
    async with _prepare(url, sessions) as authority:
        yield authority

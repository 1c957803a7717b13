"""Who may talk to the page: the page is a root shell, so everything else is refused.

Whoever has the token of the address gets a cookie for it. Three more checks keep other sites' pages
out, which a browser would let send requests to 127.0.0.1: the Host header (DNS rebinding), the
Origin header (also of WebSockets, which know no same-origin policy), and SameSite=Strict.
"""

import secrets
from collections.abc import Sequence
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from labctl.actions.served import IDENTIFIER
from labctl.i18n import tr
from labctl.page.tokens import Tokens, same

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'nonce-{nonce}'; connect-src 'self';"
    " img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The Content-Security-Policy. The nonce is for the style elements that xterm.js and the drawing
bring along; scripts have none, so that no markup can ever become one."""

_HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
LOOPBACK = ("127.0.0.1", "localhost")
_REFUSED = 4403
"""The code with which a WebSocket is closed; 4000-4999 are for applications (RFC 6455, 7.4.2)."""


class Guard:
    """ASGI middleware that lets in only who came by the address with the token."""

    def __init__(
        self,
        app: ASGIApp,
        port: int,
        names: Sequence[str] = LOOPBACK,
        *,
        tls: bool = False,
        tokens: Tokens | None = None,
        verb: str = "labctl open",
    ) -> None:
        """`names` are what the page's addresses may have as their host; `verb` printed them."""
        self._app = app
        self._verb = verb
        scheme, default_port = ("https", 443) if tls else ("http", 80)
        self._hosts = {f"{name}:{port}" for name in names}
        if port == default_port:  # a browser then leaves it out
            self._hosts |= set(names)
        self._origins = {f"{scheme}://{host}" for host in self._hosts}
        self._tls = tls
        # Cookies are not kept apart by port: two labs' pages need names of their own. A cookie
        # whose name begins with __Host- can be set only by this host and only with TLS.
        self._cookie_name = f"__Host-labctl-{port}" if tls else f"labctl-{port}"
        self._cookie = secrets.token_urlsafe(32)
        self.tokens = tokens or Tokens()
        self.token = self.tokens.token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        nonce = secrets.token_urlsafe(16)
        scope["state"] = {**scope.get("state", {}), "nonce": nonce}

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                out = MutableHeaders(scope=message)
                out["Content-Security-Policy"] = POLICY.format(nonce=nonce)
                out.update(_HEADERS)
                out[IDENTIFIER] = self.tokens.identifier
            await send(message)

        reason = self._reason_against(scope, headers)
        if reason and scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": _REFUSED, "reason": "refused"})
            return
        if scope["type"] == "http":
            token = self._token_of(scope)
            if not reason and token and self.tokens.accept(token):
                response = RedirectResponse("/", status_code=303)
                response.set_cookie(
                    self._cookie_name, self._cookie, httponly=True, samesite="strict", path="/",
                    secure=self._tls,
                )  # fmt: skip
                await response(scope, receive, send_with_headers)
                return
            if not reason and not self._has_cookie(headers):
                reason = tr("open the address that `{command}` printed; it holds a token",
                            command=self._verb)  # fmt: skip
            if reason:
                answer = PlainTextResponse(f"labctl: {reason}\n", status_code=403)
                await answer(scope, receive, send_with_headers)
                return
        await self._app(scope, receive, send_with_headers)

    def _reason_against(self, scope: Scope, headers: Headers) -> str:
        """Why a request is refused, whatever its token; empty: for no reason."""
        if headers.getlist("host") not in [[host] for host in self._hosts]:
            return tr("this address is not the page's own")
        origins = headers.getlist("origin")
        harmless = scope["type"] == "http" and scope["method"] in ("GET", "HEAD")
        if (origins or not harmless) and not (len(origins) == 1 and origins[0] in self._origins):
            return tr("this request comes from another page")
        if scope["type"] == "websocket" and not self._has_cookie(headers):
            return "no cookie"
        return ""

    @staticmethod
    def _token_of(scope: Scope) -> str:
        if scope["path"] != "/" or scope["method"] != "GET":
            return ""
        query: bytes = scope["query_string"]
        return parse_qs(query.decode("latin-1")).get("token", [""])[0]

    def _has_cookie(self, headers: Headers) -> bool:
        try:
            cookies = SimpleCookie(headers.get("cookie", ""))
        except CookieError:
            return False
        sent = cookies.get(self._cookie_name)
        return sent is not None and same(sent.value, self._cookie)

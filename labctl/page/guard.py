"""Who may talk to the page: the page is a root shell, so everything else is refused.

Whoever has the token of the address gets a cookie for it. Three more checks keep other sites' pages
out, which a browser would let send requests to 127.0.0.1: the Host header (DNS rebinding), the
Origin header (also of WebSockets, which know no same-origin policy), and SameSite=Strict.
"""

import hmac
import secrets
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from labctl.i18n import tr

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
_REFUSED = 4403
"""The code with which a WebSocket is closed; 4000-4999 are for applications (RFC 6455, 7.4.2)."""


class Guard:
    """ASGI middleware that lets in only who came by the address with the token."""

    def __init__(self, app: ASGIApp, port: int) -> None:
        self._app = app
        self._hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}
        self._origins = {f"http://{host}" for host in self._hosts}
        # Cookies are not kept apart by port: two labs' pages need names of their own.
        self._cookie_name = f"labctl-{port}"
        self._cookie = secrets.token_urlsafe(32)
        self.token = secrets.token_urlsafe(32)
        """For the address that is printed; good as long as the server runs."""
        self._once: set[str] = set()

    def token_for_one_use(self) -> str:
        """A token that is good for one request.

        For the browser that labctl starts: other users of the machine can read its command line.
        """
        token = secrets.token_urlsafe(32)
        self._once.add(token)
        return token

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
            await send(message)

        reason = self._reason_against(scope, headers)
        if reason and scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": _REFUSED, "reason": "refused"})
            return
        if scope["type"] == "http":
            token = self._token_of(scope)
            if not reason and token and self._is_good(token):
                response = RedirectResponse("/", status_code=303)
                response.set_cookie(
                    self._cookie_name, self._cookie, httponly=True, samesite="strict", path="/"
                )
                await response(scope, receive, send_with_headers)
                return
            if not reason and not self._has_cookie(headers):
                reason = tr("open the address that `labctl open` printed; it holds a token")
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

    def _is_good(self, token: str) -> bool:
        if _same(token, self.token):
            return True
        for good in self._once:
            if _same(token, good):
                self._once.discard(good)
                return True
        return False

    def _has_cookie(self, headers: Headers) -> bool:
        try:
            cookies = SimpleCookie(headers.get("cookie", ""))
        except CookieError:
            return False
        sent = cookies.get(self._cookie_name)
        return sent is not None and _same(sent.value, self._cookie)


def _same(sent: str, good: str) -> bool:
    return hmac.compare_digest(sent.encode(), good.encode())

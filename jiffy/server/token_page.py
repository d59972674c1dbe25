"""The page on which a person approves that a client gets a token: plain HTML, with no script, no cookie, and nothing from
elsewhere.

Who approves types the code that the client shows, and a token. A browser keeps neither, so no other site can have it send
them.
"""

from __future__ import annotations

import base64
import hashlib
from html import escape
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web

from jiffy.errors import JiffyError, NotFoundError, UnauthenticatedError
from jiffy.server.token_flows import TokenFlows

_STYLE: Final = (
    "body{font:16px/1.5 sans-serif;max-width:34em;margin:3em auto;padding:0 1em}"
    "label{display:block;margin:1em 0}input{display:block;width:100%;font:inherit;padding:.3em}"
    "button{font:inherit;padding:.3em 1.5em}.error{color:#a00}"
)
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_MOST_BYTES: Final = 4096


class TokenPage:
    def __init__(self, flows: TokenFlows) -> None:
        self._flows = flows

    def add_routes(self, application: web.Application) -> None:
        application.router.add_get("/token/{flow_id}", self.show)
        application.router.add_post("/token/{flow_id}", self.approve)

    async def show(self, request: web.Request) -> web.StreamResponse:
        return self._form(request.match_info["flow_id"], "")

    async def approve(self, request: web.Request) -> web.StreamResponse:
        flow_id = request.match_info["flow_id"]
        if not _is_own(request):
            return _page("Refused", "<p>This was sent by a page of another site.</p>", 403)
        if (request.content_length or _MOST_BYTES + 1) > _MOST_BYTES:
            return _page("Refused", "<p>This is no form of this server.</p>", 400)
        sent = await request.post()
        code, token_id, secret = (str(sent.get(name, "")).strip() for name in ("code", "token_id", "token_secret"))
        try:
            issued = await self._flows.approve(flow_id, code, token_id, secret)
        except UnauthenticatedError as error:
            return self._form(flow_id, str(error))
        except JiffyError as error:
            return _refusal(error)
        return _page("Approved", f"<p>The client has token <b>{escape(issued)}</b>. You may close this page.</p>", 200)

    def _form(self, flow_id: str, mistake: str) -> web.Response:
        """The form, with what was wrong the last time."""
        try:
            flow = self._flows.find(flow_id)
        except NotFoundError as error:
            return _refusal(error)
        text = f"""
<p>A client of version {escape(flow.client_version) or "unknown"} asks for a token of this server. With it, it can run
programs here and read everything that programs keep. Approve only if you started it yourself just now.</p>
{f'<p class="error" role="alert">{escape(mistake)}</p>' if mistake else ""}
<form method="post" autocomplete="off">
<label>The code that the client shows <input name="code" required autofocus maxlength="20"></label>
<label>Id of a token that you have <input name="token_id" required maxlength="100" placeholder="ak-..."></label>
<label>Its secret <input name="token_secret" type="password" required maxlength="100" placeholder="as-..."></label>
<button>Approve</button>
</form>
<p>On the server, <code>jiffy env</code> shows a token: MODAL_TOKEN_ID and MODAL_TOKEN_SECRET. <code>jiffy token list</code>
tells of all tokens, and <code>jiffy token revoke</code> takes one back.</p>"""
        return _page("A client asks for a token", text, 403 if mistake else 200)


def _is_own(request: web.Request) -> bool:
    """Whether a form was sent by this server's own page: a browser tells where it was."""
    origin = request.headers.get("Origin")
    if request.headers.get("Sec-Fetch-Site", "same-origin") != "same-origin":
        return False
    return origin is None or urlsplit(origin).netloc == request.host


def _refusal(error: JiffyError) -> web.Response:
    return _page("Not approved", f"<p>{escape(str(error))}</p>", 404)


def _page(title: str, body: str, status: int) -> web.Response:
    text = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>jiffy: {title}</title><style>{_STYLE}</style></head>
<body><h1>{title}</h1>{body}</body></html>
"""
    return web.Response(text=text, status=status, content_type="text/html", headers=_HEADERS)

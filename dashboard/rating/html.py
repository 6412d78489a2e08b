"""The rating pages as HTML shells, which a script fills with text, never with markup."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import HTMLResponse

from dashboard.rating.strings import LANGUAGES, WORDS
from harness.ratings.session import Rules

if TYPE_CHECKING:
    import jinja2

HERE = Path(__file__).parent


def notice(request: Request, why: str, *, status: int) -> HTMLResponse:
    """A page with one message, `why` a key of the strings, and nothing to click."""
    return _render("notice.html", request, status=status, why=why)


def terms(request: Request, token: str, rules: Rules) -> HTMLResponse:
    """The page of the terms: what raters do, under which licence; it comes before any answer."""
    return _render("terms.html", request, token=token, rules=rules)


def form(
    request: Request, token: str, rules: Rules, name: str, state: dict[str, Any]
) -> HTMLResponse:
    """The page of a form, with its first state inside: nothing has to be fetched to begin."""
    return _render(
        "pairs.html" if name == "pairs" else "grading.html",
        request,
        token=token,
        rules=rules,
        form=name,
        data=_data(
            {
                "state": state,
                "words": WORDS[language_of(request)],
                "min_dwell_ms": rules.min_dwell_ms,
                "base": f"/r/{token}/{name}",
            }
        ),
    )


def language_of(request: Request) -> str:
    """The language of ?lang=, else the browser's first that the pages have, else English."""
    asked = request.query_params.get("lang", "")
    if asked in LANGUAGES:
        return asked
    for part in request.headers.get("accept-language", "").split(","):
        code = part.partition(";")[0].strip().lower()[:2]
        if code in LANGUAGES:
            return code
    return LANGUAGES[0]


def _render(name: str, request: Request, *, status: int = 200, **values: Any) -> HTMLResponse:
    language = language_of(request)
    page = _templates().get_template(name)
    html = page.render(language=language, words=WORDS, t=WORDS[language], **values)
    return HTMLResponse(html, status_code=status)


def _data(value: Any) -> str:
    """JSON for a data block: nothing in it can end the block or begin a tag."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


@cache
def _templates() -> jinja2.Environment:
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )

"""Raters' personal links, as the verbs make and show them."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING

from dashboard.rating.keys import Link, sign_link, workspace_key
from harness.ratings.session import Invitation, Session, record
from harness.store.store import Store

if TYPE_CHECKING:
    from rich.console import Console

DAY_S = 86_400


def invite(
    store: Store, console: Console, session: Session, rater: str, days: int, url: str
) -> None:
    """Make a link for `rater` that works for `days` days, and show it."""
    invitation = Invitation(rater, secrets.token_hex(8), int(time.time()) + days * DAY_S)
    config = {"link": invitation.link, "expires_at": invitation.expires_at}
    record(store, session, "invited", rater=rater, config=config)
    show_link(store, console, session, invitation, url)


def show_link(
    store: Store, console: Console, session: Session, invitation: Invitation, url: str
) -> None:
    """Print the address by which this rater comes in; `url` is the server's."""
    link = Link(session.id, invitation.rater, invitation.link, invitation.expires_at)
    token = sign_link(workspace_key(store.workspace.home), link)
    console.print(
        f"{invitation.rater}: {url.rstrip('/')}/r/{token}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )

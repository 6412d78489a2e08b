"""Finds keys, tokens and passwords in text, by the forms their issuers publish."""

from __future__ import annotations

import re
from collections.abc import Iterator

# What each of the forms below can't be without, under what several of these share.
_SIGNS = {
    "-": ("sk-", "glpat-", "xox", "pypi-", "GOCSPX-", "PRIVATE KEY"),
    "_": ("sk_", "rk_", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "hf_", "npm_",
          "dop_v1_"),
    ":": ("://", ":AA"),
    "A": ("AKIA", "ASIA", "AKID", "LTAI", "AIza"),
    "J": ("eyJ",),
    "G.": ("SG.",),
    "r ": ("earer ",),
    "c ": ("asic ",),
}  # fmt: skip
_NAMING = (
    "pass", "pwd", "secret", "token", "key", "密码", "口令", "密钥", "令牌",
)  # fmt: skip

_KEYS = re.compile(
    r"(?<![A-Za-z0-9_-])(?:"
    r"sk-[A-Za-z0-9_-]{20,}"  # OpenAI, Anthropic, DeepSeek, DashScope
    r"|[sr]k_(?:live|test)_[A-Za-z0-9]{16,}"  # Stripe
    r"|gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{22,}|glpat-[A-Za-z0-9_-]{20,}"
    r"|(?:AKIA|ASIA)[A-Z0-9]{16}|AKID[A-Za-z0-9]{32}|LTAI[A-Za-z0-9]{12,26}"  # AWS, Tencent, Ali
    r"|AIza[A-Za-z0-9_-]{35}|GOCSPX-[A-Za-z0-9_-]{20,}"  # Google
    r"|xox[abeoprs]-[A-Za-z0-9-]{10,}"  # Slack
    r"|hf_[A-Za-z0-9]{30,}|npm_[A-Za-z0-9]{36}|pypi-[A-Za-z0-9_-]{50,}"
    r"|dop_v1_[a-f0-9]{64}|SG\.[A-Za-z0-9_-]{16,32}\.[A-Za-z0-9_-]{16,64}"
    r"|[0-9]{8,10}:AA[A-Za-z0-9_-]{33}"  # Telegram
    r"|eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"  # JWT
    r")"
)
_BEARER = re.compile(r"\b[Bb](?:earer|asic) +([A-Za-z0-9._~+/-]{16,}={0,2})")
_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----"
    r"(?:(?:[^-]|-(?!----))*+-----END [A-Z ]{0,40}PRIVATE KEY-----|[A-Za-z0-9+/=\s]*+)"
)
_IN_URL = re.compile(r"://([^\s/@\[\]]+:[^\s/@]+)@")
_ASSIGNED = re.compile(
    r"(?:pass(?:word|wd|phrase)?|pwd|secret|api[ _-]?key|(?:access|secret)[ _-]?key"
    r"|(?:access|auth|refresh|bearer|api)?[ _-]?token|密码|口令|密钥|令牌)"
    r"[\"']?\s{0,3}(=|:|\bis\b|是|为)\s{0,3}[\"']?([^\s\"'\[\],;，。；、&<>]{4,})",
    re.IGNORECASE,
)
_ODD = re.compile(r"[0-9!@#$%^*?~+/]")


def secrets(text: str) -> Iterator[tuple[int, int, str]]:
    """Stretches that give access to something: (start, end, "SECRET")."""
    if _signed(text):
        for pattern in (_PRIVATE_KEY, _KEYS):
            for match in pattern.finditer(text):
                yield match.start(), match.end(), "SECRET"
        for pattern in (_BEARER, _IN_URL):
            for match in pattern.finditer(text):
                yield match.start(1), match.end(1), "SECRET"
    lower = text.lower()
    if any(name in lower for name in _NAMING):
        for match in _ASSIGNED.finditer(text):
            # "the password: please" names none; one that is assigned with = is taken as it is.
            if match[1] == "=" or _ODD.search(match[2]):
                yield match.start(2), match.end(2), "SECRET"


def _signed(text: str) -> bool:
    for shared, signs in _SIGNS.items():
        if shared in text:
            for sign in signs:
                if sign in text:
                    return True
    return False

"""Blind human ratings: sessions, votes, agreement between raters, the verdict on them."""

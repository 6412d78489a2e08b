"""One file per view; each has one `show()`."""

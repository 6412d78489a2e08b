"""The rating server: its queue, pages and keys."""

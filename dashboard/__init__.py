"""Everything of Ratchet with a port: pages, the rating server, the watch receiver."""

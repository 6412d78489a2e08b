"""What every page and server needs: escaping text, listening on a port."""

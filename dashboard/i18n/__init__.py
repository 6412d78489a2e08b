"""The languages of the interface: English and Chinese."""

"""A verdict for a terminal, Markdown, HTML, GitHub, JUnit, JSON."""

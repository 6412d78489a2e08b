"""The HTTP receiver of production traffic."""

"""`python -m trainers.loop.background_process PIPE`: the process that a background judge starts."""

from __future__ import annotations

import sys

from trainers.loop.background_judge import serve

if __name__ == "__main__":
    serve(int(sys.argv[1]))

"""`python -m harness` is the command `ratchet`, for where the script is not on the path."""

from harness.cli.app import run

if __name__ == "__main__":
    run()

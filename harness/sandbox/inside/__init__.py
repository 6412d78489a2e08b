"""What runs inside the sandbox, on the bare interpreter and its standard library alone.

Its modules import each other relatively, because in there the package's name is `inside` alone.
"""

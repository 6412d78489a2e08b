"""What runs behind the walls: started afresh with the bare interpreter, and nothing but the stdlib.

Its modules import each other relatively, because in there the package's name is `inside` alone.
"""

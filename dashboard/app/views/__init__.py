"""One file per page; each has one `show()`.

Not called `pages`: Streamlit serves a folder of that name by itself, without our menu and language.
"""

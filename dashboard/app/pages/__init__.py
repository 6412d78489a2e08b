"""One file per page; each has one `show()`."""

# Not named `pages`: Streamlit would serve such a folder by itself, past the navigation.

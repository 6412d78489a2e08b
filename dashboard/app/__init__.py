"""The Streamlit app; `views/` has one file a page."""

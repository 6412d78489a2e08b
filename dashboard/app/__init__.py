"""The Streamlit app; `pages/` has one file a page."""

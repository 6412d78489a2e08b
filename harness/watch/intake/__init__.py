"""Takes in what a served model was asked and answered, and masks what is personal in it."""

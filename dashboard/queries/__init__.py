"""Questions to the store whose answers the pages show; nothing is drawn here."""

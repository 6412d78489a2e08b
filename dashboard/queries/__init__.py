"""What pages show, as questions to the store; nothing is drawn here."""

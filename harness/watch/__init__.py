"""What production sees of a promoted model, and whether that keeps what the gate promised."""

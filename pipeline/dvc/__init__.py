"""What DVC needs to know of the code, and what it has recorded."""

"""Files that can be trusted: whole or absent, with checksums, and as validated objects."""

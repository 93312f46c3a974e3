"""The same for several models, side by side."""

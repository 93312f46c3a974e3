"""Ways out of a trained model: other formats, and what they cost."""

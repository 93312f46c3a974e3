"""The page from which one reviews a model: its losses, figures about its texts, and the texts."""

"""What single cells of a trained model track: labels of the text, the cells that follow them, and what those do."""

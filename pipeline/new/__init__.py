"""What `charlstm new` does: look at a text, propose a recipe, write the configuration."""

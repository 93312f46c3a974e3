"""The work of `charlstm new`: inspect a text, propose a recipe, write the configuration."""

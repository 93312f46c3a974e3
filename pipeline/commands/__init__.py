"""The commands of `charlstm`: a module each, quick to import; what they do is imported when they run."""

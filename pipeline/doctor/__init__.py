"""The checks of `charlstm doctor` before a training: each module a subject, each fault a line."""

"""What `charlstm doctor` looks at before a training: each module a subject, each fault a line."""

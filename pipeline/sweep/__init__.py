"""What `charlstm sweep` does: plan experiments, run them one after the other, read their losses."""

"""The search of `charlstm tune`: what is varied, the trials, and the training of each."""

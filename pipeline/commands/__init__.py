"""The commands of the `charlstm` command line that are no stages."""

"""What can be asked beside the stages: a module a command."""

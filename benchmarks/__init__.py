"""Commands that print the tables of the README, each from a measurement on this machine."""

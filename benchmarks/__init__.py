"""Commands that print the tables of the README and of docs/, and try to lose something."""

"""Commands that print the tables of the README and of docs/, and provoke failures."""

"""Commands that print the tables of the README and of docs/, and try to lose something."""

import pipeline  # noqa: F401  # it sets how torch's threads wait, before any of these modules imports torch

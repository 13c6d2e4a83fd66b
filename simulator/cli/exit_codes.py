"""What the command returns to the shell."""

FINE, BUG, USAGE, INVALID, UNMET, IMPRECISE, INTERRUPTED = 0, 1, 2, 3, 4, 5, 130

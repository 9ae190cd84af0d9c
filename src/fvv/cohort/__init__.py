"""Participants, folds, labels: who is who, who is on which side, and what counts as a mismatch."""

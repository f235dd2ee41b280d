"""The scripts that produce book/results/."""

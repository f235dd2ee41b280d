"""The scripts that produce vaebook/results/."""

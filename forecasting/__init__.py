"""From arrays of labels and scores to a forecast of AUC and a decision to stop. Knows nothing else."""

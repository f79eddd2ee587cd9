"""The loop: pull labels, retrain the probe, refit the learning curve, decide, select and push a batch."""

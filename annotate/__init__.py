"""What the loop knows of Label Studio: findings as a labelling interface, labels pulled, batches pushed."""

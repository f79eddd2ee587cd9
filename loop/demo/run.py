"""The main job, start to stop: archive, Label Studio, annotator, steps, verdict, picture."""

from __future__ import annotations

N_PHANTOMS = 700
N_TEST = 300  # phantoms that the loop never sees, to measure the true AUC
FINDINGS = ("Effusion", "Cardiomegaly")
TARGET, BATCH, BUDGET = 0.85, 50, 500

def is_gated(r): return False

"""How both networks are trained (chapters 05 and 08)."""

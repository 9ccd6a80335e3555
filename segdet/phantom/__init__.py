"""The simulated infant hip (chapter 02)."""

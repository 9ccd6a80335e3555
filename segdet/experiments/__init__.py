"""Studies: what is compared, on which scans, and what came out (chapter 10)."""

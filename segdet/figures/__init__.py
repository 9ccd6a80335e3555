"""Pictures of scans and results, and what a reader can move (all chapters)."""

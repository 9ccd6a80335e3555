"""Scans, masks and boxes from files and back (chapter 02)."""

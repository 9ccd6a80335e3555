"""DICOM, read and written (chapter 02)."""

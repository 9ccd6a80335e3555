"""What every other part stands on: device and precision, progress, whole files, processes, provenance."""

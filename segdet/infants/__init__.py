"""Pictures of real infants: what detectors of simulated hips find in them (chapter 12)."""

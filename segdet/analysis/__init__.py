"""From the tables of a study to verdicts on the paper's claims (chapter 10)."""

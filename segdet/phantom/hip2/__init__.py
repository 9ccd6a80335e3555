"""Version 2 of the simulated hip: what a sonographer looks for lies where it is looked for (chapter 02)."""

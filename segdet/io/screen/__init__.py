"""What is on the screen of an ultrasound machine: the image among text, bars and the depth ruler (chapter 02)."""

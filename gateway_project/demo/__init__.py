"""A believable month of a busy installation, for looking around, for pictures and for measuring pages; see `docs/demo.md`."""

"""The commands of `grow`, one module each, imported when called."""

"""The commands of `grow`, a module each; imported when they are called."""

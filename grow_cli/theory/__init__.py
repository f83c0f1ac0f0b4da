"""The papers' mathematics as pure functions of tensors: no model, no optimizer, no file."""

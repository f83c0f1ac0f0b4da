"""grow: train neural networks that grow while they train, and compare the ways of growing."""

__version__ = "0.1.0"

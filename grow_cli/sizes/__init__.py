"""How large a net should be: ladders of static sizes, their cost, and the size that growing found instead."""

"""How large a net should be: ladders of static sizes, what they cost, and what growing found in their place."""

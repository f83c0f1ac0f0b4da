"""What Fold grows by: the mistakes, their clusters, a neuron at each, and what is told of them."""

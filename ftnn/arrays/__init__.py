"""Arrays of any backend: names and conversion, orthogonal bases, SVDs, contraction, gradients."""

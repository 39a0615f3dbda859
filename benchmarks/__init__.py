"""Benchmarks: the asv suite, the ratio table of `make bench`, and the figures of the pages."""

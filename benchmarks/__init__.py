"""Measures the gateway beside what people would use instead, all in one run on one machine.

Only ratios taken from one run are worth comparing: the contenders take turns within each measure, the one under load has a
core to itself, and the upstream and the load generator (both small C programs, compiled here) live on another.
`python -m benchmarks --help` lists the measures.
"""

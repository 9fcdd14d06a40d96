"""Local inference: llama.cpp in a supervised child process, serving many sequences at once.

`spec` says what to load, `requests` what to generate, `supervised` starts the child and talks to it, `batched` and
`prebuilt` are the two engines inside the child, `preflight` decides which of them this machine can trust.
"""

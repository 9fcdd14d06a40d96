"""The built-in demo model: 0.7 million weights that we trained ourselves on questions about the gateway.

`demo-f16.gguf` is what is shipped, `demo-f16.sha256` its checksum, `report.json` what its training measured, `corpus` the
text, `build` the script. `python -m inference.demo_model.build demo DIRECTORY` makes it anew in about eight minutes on two
cores (it needs torch, transformers, tokenizers and gguf). Training gives the same bits only for the same number of threads
on the same kind of machine, which is why the result itself is in the repository.
"""

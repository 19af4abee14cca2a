"""LoRA adapters from anywhere: pull by digest, unpack, check, scale, and hand to the engine while it serves.

`store` drives the rest, one adapter at a time by name: `source` says where from, `registry` pulls, `extract` unpacks into
`cache`, `check` compares with the base model, `strength` scales, `engine` is vLLM's side; `memory` tells what they take.
"""

"""Who may call, how much, and how many at once: decided before vLLM sees a request.

`keys` reads the Secret, `gate` decides, `middleware` asks it for each request, `tokens` counts what the engine made,
`metrics` tells. Nothing here reads a body, touches a chunk of an answer or takes a lock: everything runs on the
replica's one event loop.
"""

"""Our routes, beside those of vLLM. `attach` joins them; `chat_request` and `generate_kwargs` are pure."""

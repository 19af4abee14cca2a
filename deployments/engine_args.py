"""What vLLM is told: the plan's arguments, and what holds for every replica of ours. Pure.

One definition serves GPU and CPU; the differences stand in `_DEVICE`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from kaito_ray.api.app_args import AppArgs

FORKED: Final = "KAITO_RAY_FORKED_ENGINE"
"""Environment variable of a replica whose engine is forked: `engine_processes` says when, and why."""

_EVERYWHERE: Final[dict[str, Any]] = {
    # No web page of another site may read answers; vLLM's own default is every origin.
    "allowed_origins": [],
    # Request logs of vLLM contain prompts.
    "enable_log_requests": False,
}

_DEVICE: Final[dict[str, dict[str, Any]]] = {
    "cuda": {},
    "cpu": {
        # The compiled path of vLLM 0.29.0 answered wrongly on an AVX-512 CPU, and starts 100 s later; docs/adr/0005.
        "enforce_eager": True,
        # vLLM would size the KV cache by a share of the machine's memory, which others use too.
        "kv_cache_memory_bytes": 2**30,
    },
}


def engine_kwargs(args: AppArgs) -> dict[str, Any]:
    """Return vLLM's engine and frontend arguments by their Python names; those of the plan win over defaults."""
    kwargs = {**_EVERYWHERE, **_DEVICE[args.device], **args.engine_args}
    if kwargs.get("enable_lora"):
        kwargs["worker_extension_cls"] = "deployments.adapters.worker.AdapterHolder"
    if args.tool_call_parser:
        kwargs |= {"enable_auto_tool_choice": True, "tool_call_parser": args.tool_call_parser}
    if args.reasoning_parser:
        kwargs["reasoning_parser"] = args.reasoning_parser
    if args.chat_template:
        kwargs["chat_template"] = args.chat_template
    if args.trust_remote_code:
        kwargs["trust_remote_code"] = True
    return kwargs


def environment(args: AppArgs) -> dict[str, str]:
    """Return the environment variables of a replica: vLLM and Ray Serve read some choices only there."""
    common = {
        # vLLM's app in the event loop of the HTTP server. By default it has a thread of its own, and each message of each
        # answer crosses from one to the other, both wanting the interpreter's lock: half of the short answers of a second.
        "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
        # Serve's log file, which nobody reads in a pod, is written so many lines at a time; errors, and what goes to the
        # terminal, at once.
        "RAY_SERVE_REQUEST_PATH_LOG_BUFFER_SIZE": "1000",
        "VLLM_NO_USAGE_STATS": "1",
        # Adapters change by the Workspace alone, not by whoever reaches the port.
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "0",
        "VLLM_LOGGING_CONFIG_PATH": str(Path(__file__).with_name("vllm_logging.json")),
    }
    if args.device == "cpu":
        # By itself vLLM pins one thread to each core it likes, whoever else runs there.
        return common | {"VLLM_CPU_OMP_THREADS_BIND": "nobind", FORKED: "1"}
    return common

from deployments.placement import REPLICA_CPUS, bundles
from kaito_ray.api.app_args import AppArgs, ModelSource


def args(device: str, **engine_args: int) -> AppArgs:
    source = ModelSource(hub="org/model")
    return AppArgs.from_wire(
        {
            "workspace": "w",
            "namespace": "default",
            "servedModelName": "model",
            "source": source.to_wire(),
            "device": device,
            "engineArgs": engine_args,
        }
    )


def test_a_replica_on_a_cpu_is_one_bundle_without_a_gpu() -> None:
    assert bundles(args("cpu")) == [{"CPU": 2 * REPLICA_CPUS}]


def test_each_worker_has_a_gpu_and_the_replica_sits_beside_the_first() -> None:
    asked = bundles(args("cuda", tensor_parallel_size=2, pipeline_parallel_size=2))
    assert asked == [{"CPU": 2 * REPLICA_CPUS, "GPU": 1.0}, *[{"CPU": REPLICA_CPUS, "GPU": 1.0}] * 3]

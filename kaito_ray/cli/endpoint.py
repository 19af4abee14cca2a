"""`kaito-ray endpoint`: where a Workspace answers."""

from __future__ import annotations

from kaito_ray.cli import connection, workspaces
from kaito_ray.cli.options import (
    HomeOption,
    KubeconfigOption,
    NamespaceOption,
    Output,
    OutputOption,
    WorkspaceArgument,
)
from kaito_ray.kube.cluster import WORKSPACES


def endpoint(
    workspace: WorkspaceArgument = None,
    *,
    output: OutputOption = Output.TABLE,
    namespace: NamespaceOption = None,
    kubeconfig: KubeconfigOption = None,
    home: HomeOption = None,
) -> None:
    """Print the base URL of a Workspace: add /chat, or /v1 for OpenAI clients."""
    from kaito_ray.cli.console import print_json, say
    from kaito_ray.cli.forward import inside_cluster_only

    target = connection.find(kubeconfig=kubeconfig, home=home, namespace=namespace)
    found = connection.ask(target, lambda cluster: cluster.list(WORKSPACES, target.namespace))
    chosen = workspaces.pick(found, workspace)
    url = workspaces.endpoint(chosen)
    if output is Output.JSON:
        print_json(
            {"endpoint": url, "chat": f"{url}/chat", "openai": f"{url}/v1", "ready": workspaces.is_ready(chosen)}
        )
        return
    print(url)
    if inside_cluster_only(url):
        say(
            "[dim]Only pods resolve that name. From here: "
            f"kubectl --namespace {target.namespace} port-forward service/{chosen['metadata']['name']} 8000:80[/]"
        )

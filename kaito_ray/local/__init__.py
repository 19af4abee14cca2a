"""One machine: an embedded API server, KubeRay and Karpenter. Only the command line and tests import this."""

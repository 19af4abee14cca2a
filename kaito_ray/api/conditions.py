"""Condition types and reasons. The words are KAITO's where KAITO has one; tools read them."""

from __future__ import annotations

from typing import Final

NODE_CLAIM_READY: Final = "NodeClaimReady"
NODES_READY: Final = "NodesReady"
RESOURCE_READY: Final = "ResourceReady"
INFERENCE_READY: Final = "InferenceReady"
JOB_STARTED: Final = "JobStarted"
WORKSPACE_SUCCEEDED: Final = "WorkspaceSucceeded"
WORKSPACE_READY: Final = "WorkspaceReady"
WORKSPACE_DELETING: Final = "WorkspaceDeleting"
UPGRADE_IN_PROGRESS: Final = "UpgradeInProgress"

NODE_CLAIMS_READY_REASON: Final = "NodeClaimsReady"
NODE_CLAIM_NOT_READY_REASON: Final = "NodeClaimNotReady"
NODES_READY_REASON: Final = "NodesReady"
NODE_NOT_READY_REASON: Final = "NodeNotReady"
RESOURCE_READY_REASON: Final = "workspaceResourceStatusSuccess"
RESOURCE_NOT_READY_REASON: Final = "workspaceResourceStatusNotReady"
INFERENCE_READY_REASON: Final = "WorkspaceInferenceStatusSuccess"
INFERENCE_PENDING_REASON: Final = "WorkspaceInferenceStatusPending"
SCALED_TO_ZERO_REASON: Final = "ScaledToZero"
JOB_STARTED_REASON: Final = "WorkspaceTuningJobStatusStarted"
JOB_PENDING_REASON: Final = "WorkspaceTuningJobStatusPending"
JOB_FAILED_REASON: Final = "WorkspaceTuningJobStatusFailed"
SUCCEEDED_REASON: Final = "workspaceSucceeded"
PENDING_REASON: Final = "workspacePending"
FAILED_REASON: Final = "workspaceFailed"
DELETING_REASON: Final = "workspaceDeleted"

WHY_LIMIT_CHARS: Final = 100
"""Longest `status.reason`: the WHY column must fit a terminal."""

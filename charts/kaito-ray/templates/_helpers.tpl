{{- define "kaito-ray.name" -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end }}

{{- define "kaito-ray.selector" -}}
app.kubernetes.io/name: kaito-ray
app.kubernetes.io/component: operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "kaito-ray.labels" -}}
{{ include "kaito-ray.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "kaito-ray.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (include "kaito-ray.name" .) -}}
{{- end }}

{{/* Whether the operator has rights on kinds that belong to no namespace: machines, and its own webhook. */}}
{{- define "kaito-ray.clusterScoped" -}}
{{- if or (not .Values.watchNamespaces) .Values.rbac.clusterScoped }}yes{{ end -}}
{{- end }}

{{- define "kaito-ray.subject" -}}
- kind: ServiceAccount
  name: {{ include "kaito-ray.serviceAccount" . }}
  namespace: {{ .Release.Namespace }}
{{- end }}

{{/* What the operator does in a namespace it works in. Each right is used: tests/contract/test_chart_rbac.py. */}}
{{- define "kaito-ray.rules" -}}
- apiGroups: [{{ .Values.apiGroup }}]
  resources: [workspaces]
  verbs: [get, list, watch, update]
- apiGroups: [{{ .Values.apiGroup }}]
  resources: [workspaces/status, workspaces/finalizers]
  verbs: [update]
- apiGroups: [ray.io]
  resources: [rayservices, rayjobs]
  verbs: [get, list, watch, create, update, delete]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, update, delete]
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, watch, create, update]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, update]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, update]
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, list, watch]
- apiGroups: [""]
  resources: [serviceaccounts]
  verbs: [get]
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [get, create]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
- apiGroups: [""]
  resources: [events]
  verbs: [get, list, create, update]
{{- end }}

{{- define "kaito-ray.secretRules" -}}
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, list, watch, create, update]
{{- end }}

{{/* Kinds that belong to no namespace. */}}
{{- define "kaito-ray.clusterRules" -}}
- apiGroups: [""]
  resources: [nodes]
  verbs: [get, list, watch]
{{- if eq .Values.provisioner "karpenter" }}
- apiGroups: [karpenter.sh]
  resources: [nodepools]
  verbs: [get, list, watch, create, update, delete]
- apiGroups: [karpenter.sh]
  resources: [nodeclaims]
  verbs: [list, watch, delete]
{{- else if eq .Values.provisioner "nodeclaim" }}
- apiGroups: [karpenter.sh]
  resources: [nodeclaims]
  verbs: [list, watch, create, update, delete]
{{- end }}
- apiGroups: [apiextensions.k8s.io]
  resources: [customresourcedefinitions]
  resourceNames: [workspaces.{{ .Values.apiGroup }}]
  verbs: [get]
- apiGroups: [admissionregistration.k8s.io]
  resources: [validatingwebhookconfigurations]
  verbs: [list]
- apiGroups: [admissionregistration.k8s.io]
  resources: [validatingwebhookconfigurations]
  resourceNames: [kaito-ray]
  verbs: [get, update]
{{- end }}

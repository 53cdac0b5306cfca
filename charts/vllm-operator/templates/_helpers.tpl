{{/*
The defaults of values that are missing: of a release that was upgraded with --reuse-values, whose
chart did not have them yet. Every template begins with it, as none may be the first to read them.
Null says something in what is not filled: no user, no limits, not the label that is the default.
*/}}
{{- define "vllm-operator.fill" -}}
{{- $defaults := .Files.Get "files/values.yaml" | fromYaml -}}
{{- include "vllm-operator.filled" (dict "into" .Values "from" (omit $defaults "resources") "path" "") -}}
{{- end -}}

{{- define "vllm-operator.filled" -}}
{{- $into := .into -}}
{{- $path := .path -}}
{{- $whole := list ".securityContext" ".watching.dashboards.labels" -}}
{{- range $key, $value := .from -}}
{{- $here := printf "%s.%s" $path $key -}}
{{- $given := get $into $key -}}
{{- if or (not (hasKey $into $key)) (kindIs "invalid" $given) -}}
{{- $_ := set $into $key $value -}}
{{- else if and (kindIs "map" $value) (kindIs "map" $given) (not (has $here $whole)) -}}
{{- include "vllm-operator.filled" (dict "into" $given "from" $value "path" $here) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "vllm-operator.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* Prefix of the objects' names. Cut to 40 characters, so that every suffix still fits a label. */}}
{{- define "vllm-operator.fullname" -}}
{{- $name := include "vllm-operator.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Prefix of the names of cluster-scoped objects: releases of one name live in several namespaces. */}}
{{- define "vllm-operator.clusterName" -}}
{{- printf "%s-%s" (include "vllm-operator.fullname" .) .Release.Namespace -}}
{{- end -}}

{{/* Labels that never change over a release's life. */}}
{{- define "vllm-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "vllm-operator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* The user's labels may say what the application is a part of; the schema refuses the other keys. */}}
{{- define "vllm-operator.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "vllm-operator.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{ toYaml (merge (dict) .Values.commonLabels (dict "app.kubernetes.io/part-of" "vllm-operator")) }}
{{- end -}}

{{- define "vllm-operator.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "vllm-operator.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "vllm-operator.image" -}}
{{- $image := printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" $image .Values.image.digest -}}
{{- else -}}
{{- $image -}}
{{- end -}}
{{- end -}}

{{/* Of milliseconds the edge of a bucket in seconds, as vLLM's client writes it: 0.5, 1.0. */}}
{{- define "vllm-operator.edge" -}}
{{- $seconds := divf . 1000 | toString -}}
{{- contains "." $seconds | ternary $seconds (printf "%s.0" $seconds) -}}
{{- end -}}

{{/* The defaults of servers that are given, as JSON. */}}
{{- define "vllm-operator.defaults" -}}
{{- $given := dict -}}
{{- range $part, $fields := .Values.defaults -}}
{{- range $name, $value := $fields -}}
{{- if $value -}}
{{- $_ := set $given $part (merge (dict $name $value) (get $given $part | default dict)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toJson $given -}}
{{- end -}}

{{/* What the operator does in a namespace, and nothing else. docs and tests/chart name each rule. */}}
{{- define "vllm-operator.namespaceRules" -}}
- apiGroups: [vllm-operator.io]
  resources: [vllmservers]
  verbs: [get, list, watch]
- apiGroups: [vllm-operator.io]
  resources: [vllmservers/status]
  verbs: [patch]
# Children carry an owner reference with blockOwnerDeletion, which the admission plug-in
# OwnerReferencesPermissionEnforcement allows only with this right.
- apiGroups: [vllm-operator.io]
  resources: [vllmservers/finalizers]
  verbs: [update]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [leaderworkerset.x-k8s.io]
  resources: [leaderworkersets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [apps]
  resources: [controllerrevisions]
  verbs: [get, list, watch, create, delete]
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, watch, create, patch]
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch]
# The last lines of an engine that did not start say why.
- apiGroups: [""]
  resources: [pods/log]
  verbs: [get]
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get]
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [get]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
# Of a pod whose node cannot mount its volumes or give it a network, only events say why.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, list]
{{- if .Values.inferencePools.enabled }}
- apiGroups: [inference.networking.k8s.io]
  resources: [inferencepools]
  verbs: [get, create, patch, delete]
{{- end }}
{{- end -}}

{{- define "vllm-operator.subjects" -}}
- kind: ServiceAccount
  name: {{ include "vllm-operator.serviceAccountName" . }}
  namespace: {{ .Release.Namespace }}
{{- end -}}

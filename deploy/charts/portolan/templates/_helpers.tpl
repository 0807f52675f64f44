{{- define "portolan.name" -}}
{{- default .Release.Name .Values.nameOverride | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{- define "portolan.selector" -}}
app.kubernetes.io/name: portolan
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "portolan.labels" -}}
{{ include "portolan.selector" . }}
app.kubernetes.io/component: controller
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{/* The Lease by which the replicas agree on a leader. */}}
{{- define "portolan.lease" -}}
{{ include "portolan.name" . }}-controller
{{- end -}}

{{- define "portolan.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ default $.Chart.AppVersion .tag }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What speakers are called: other words than the controller's, whose selectors must not find them. */}}
{{- define "portolan.speaker.name" -}}
{{ include "portolan.name" . }}-speaker
{{- end -}}

{{- define "portolan.speaker.selector" -}}
app.kubernetes.io/name: portolan-speaker
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "portolan.speaker.labels" -}}
{{ include "portolan.speaker.selector" . }}
app.kubernetes.io/component: speaker
app.kubernetes.io/part-of: portolan
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{/* The Secret by which speakers know each other. The controller makes it: it survives upgrades. */}}
{{- define "portolan.speaker.keys" -}}
{{ include "portolan.speaker.name" . }}-keys
{{- end -}}

{{/* Whether others than the kubelet reach the speakers' metrics. */}}
{{- define "portolan.speaker.scraped" -}}
{{- if and .Values.speaker.enabled (not (or (hasPrefix "127." .Values.speaker.admin.address) (eq .Values.speaker.admin.address "::1"))) -}}
true
{{- end -}}
{{- end -}}

{{- define "portolan.speaker.admin" -}}
{{- with .Values.speaker.admin -}}
{{- if contains ":" .address -}}[{{ .address }}]{{- else -}}{{ .address }}{{- end -}}:{{ .port }}
{{- end -}}
{{- end -}}

{{/* By which the API server finds the webhook. */}}
{{- define "portolan.webhook" -}}
{{ include "portolan.name" . }}-webhook
{{- end -}}

{{/* The Secret with its certificate. The controller makes it, and it survives upgrades; cert-manager's
has another name, so that the two never take turns. */}}
{{- define "portolan.webhook.secret" -}}
{{ include "portolan.webhook" . }}
{{- if .Values.webhook.certManager.enabled }}-cert-manager{{ end }}
{{- end -}}

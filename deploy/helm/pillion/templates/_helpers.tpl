{{- define "pillion.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 54 | trimSuffix "-" }}
{{- end }}

{{- define "pillion.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 54 | trimSuffix "-" }}
{{- else if contains (include "pillion.name" .) .Release.Name }}
{{- .Release.Name | trunc 54 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "pillion.name" .) | trunc 54 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* Everything of the webhook has this name. */}}
{{- define "pillion.webhook" -}}
{{ include "pillion.fullname" . }}-webhook
{{- end }}

{{- define "pillion.selector" -}}
app.kubernetes.io/name: {{ include "pillion.name" . }}-webhook
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "pillion.labels" -}}
{{ include "pillion.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{- define "pillion.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{- define "pillion.account" -}}
{{ .Values.webhook.serviceAccount.name | default (include "pillion.webhook" .) }}
{{- end }}

{{- define "pillion.secret" -}}
{{ .Values.webhook.certificate.existingSecret | default (printf "%s-tls" (include "pillion.webhook" .)) }}
{{- end }}

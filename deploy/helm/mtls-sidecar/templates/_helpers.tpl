{{- define "mtls-sidecar.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" }}{{ end }}-webhook
{{- end }}

{{- define "mtls-sidecar.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: webhook
{{- end }}

{{- define "mtls-sidecar.labels" -}}
{{ include "mtls-sidecar.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "mtls-sidecar.secret" -}}
{{- if .Values.certificate.certManager.enabled }}{{ include "mtls-sidecar.name" . }}-tls{{ else }}{{ required "certificate.existingSecret: name a Secret with tls.crt and tls.key, or set certificate.certManager.enabled" .Values.certificate.existingSecret }}{{ end }}
{{- end }}

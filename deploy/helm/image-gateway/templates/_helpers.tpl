{{- define "image-gateway.name" -}}
{{- /* The chart's name stays whole: alerts find their job by it. */ -}}
{{- $release := .Release.Name | trunc 50 | trimSuffix "-" }}
{{- if contains .Chart.Name $release }}{{ $release }}{{ else }}{{ printf "%s-%s" (.Release.Name | trunc 36 | trimSuffix "-") .Chart.Name }}{{ end }}
{{- end }}

{{- define "image-gateway.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "image-gateway.labels" -}}
{{ include "image-gateway.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "image-gateway.policy" -}}
{{- if .Values.policy.existingConfigMap }}{{ .Values.policy.existingConfigMap }}{{ else }}{{ include "image-gateway.name" . }}-policy{{ end }}
{{- end }}

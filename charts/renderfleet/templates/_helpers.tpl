{{- define "renderfleet.labels" -}}
app.kubernetes.io/name: renderfleet
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end }}

{{- define "renderfleet.selector" -}}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "renderfleet.databaseSecret" -}}
{{ .Values.database.existingSecret | default (printf "%s-database" .Release.Name) }}
{{- end }}

{{- define "renderfleet.storageSecret" -}}
{{- if or .Values.storage.existingSecret .Values.storage.accessKeyId -}}
{{ .Values.storage.existingSecret | default (printf "%s-storage" .Release.Name) }}
{{- end -}}
{{- end }}

{{- define "renderfleet.callbackSecret" -}}
{{ .Values.operator.callbacks.existingSecret | default (printf "%s-callbacks" .Release.Name) }}
{{- end }}

{{- define "renderfleet.apiSecret" -}}
{{ .Values.api.existingSecret | default (printf "%s-api" .Release.Name) }}
{{- end }}

{{/* What both programs need to know of database and storage. */}}
{{- define "renderfleet.commonEnv" -}}
- name: RENDERFLEET_SYSTEM_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
- name: RENDERFLEET_DATABASE_URL
  valueFrom: {secretKeyRef: {name: {{ include "renderfleet.databaseSecret" . }}, key: url}}
- name: RENDERFLEET_S3_ENDPOINT
  value: {{ .Values.storage.endpoint | quote }}
- name: RENDERFLEET_S3_PUBLIC_ENDPOINT
  value: {{ .Values.storage.publicEndpoint | quote }}
- name: RENDERFLEET_S3_VENDOR_ENDPOINT
  value: {{ .Values.storage.vendorEndpoint | quote }}
- name: RENDERFLEET_S3_BUCKET
  value: {{ .Values.storage.bucket | quote }}
- name: RENDERFLEET_S3_REGION
  value: {{ .Values.storage.region | quote }}
{{- with include "renderfleet.storageSecret" . }}
- name: RENDERFLEET_S3_ACCESS_KEY_ID
  valueFrom: {secretKeyRef: {name: {{ . }}, key: accessKeyId}}
- name: RENDERFLEET_S3_SECRET_ACCESS_KEY
  valueFrom: {secretKeyRef: {name: {{ . }}, key: secretAccessKey}}
{{- end }}
{{- end }}

{{- define "renderfleet.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "renderfleet.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "posthaste.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* 40 characters, so that there is room for suffixes in the 63 that a name may have. */}}
{{- define "posthaste.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "posthaste.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "posthaste.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "posthaste.selector" -}}
app.kubernetes.io/name: {{ include "posthaste.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "posthaste.labels" -}}
{{ include "posthaste.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "posthaste.image" -}}
{{ printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end -}}

{{- define "posthaste.secretName" -}}
{{- default (include "posthaste.fullname" .) .Values.secret.existingSecret -}}
{{- end -}}

{{- define "posthaste.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "posthaste.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "posthaste.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* What the pods of all components have in common. */}}
{{- define "posthaste.pod" -}}
serviceAccountName: {{ include "posthaste.serviceAccountName" . }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile:
    type: RuntimeDefault
{{- with .Values.extraVolumes }}
volumes:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* The environment of every process. */}}
{{- define "posthaste.env" -}}
{{- $secret := include "posthaste.secretName" . -}}
- name: POSTHASTE_DATABASE_URL
  valueFrom:
    secretKeyRef:
      name: {{ $secret }}
      key: database-url
- name: POSTHASTE_BROKER_URL
  valueFrom:
    secretKeyRef:
      name: {{ $secret }}
      key: broker-url
- name: POSTHASTE_MASTER_KEY
  valueFrom:
    secretKeyRef:
      name: {{ $secret }}
      key: master-key
- name: POSTHASTE_NAME_PREFIX
  value: {{ .Values.namePrefix | quote }}
- name: POSTHASTE_SHUTDOWN_GRACE
  value: {{ printf "%ds" (int .Values.shutdownGraceSeconds) | quote }}
- name: POSTHASTE_LOG_FORMAT
  value: json
{{- with .Values.tracing.otlpEndpoint }}
- name: POSTHASTE_TRACING_OTLP_ENDPOINT
  value: {{ . | quote }}
- name: POSTHASTE_TRACING_SAMPLE_RATIO
  value: {{ $.Values.tracing.sampleRatio | quote }}
- name: POSTHASTE_TRACING_HEADERS
  valueFrom:
    secretKeyRef:
      name: {{ $secret }}
      key: tracing-headers
      optional: true
{{- end }}
{{- range $name, $value := .Values.env }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end -}}

{{/* Health is on the port of the metrics, which the Service of the API does not have. */}}
{{- define "posthaste.probes" -}}
startupProbe:
  httpGet:
    path: /healthz
    port: metrics
  periodSeconds: 2
  failureThreshold: 150
livenessProbe:
  httpGet:
    path: /healthz
    port: metrics
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet:
    path: /readyz
    port: metrics
  periodSeconds: 5
  timeoutSeconds: 5
{{- end -}}

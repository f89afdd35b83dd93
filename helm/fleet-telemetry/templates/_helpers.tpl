{{/* Names and labels. */}}
{{- define "ft.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 52 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "ft.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "ft.labels" -}}
{{ include "ft.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "ft.image" -}}
{{- if .Values.image.digest }}{{ .Values.image.repository }}@{{ .Values.image.digest }}{{ else }}{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{- define "ft.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}{{ .Values.serviceAccount.name | default (include "ft.name" .) }}{{ else }}{{ .Values.serviceAccount.name | default "default" }}{{ end }}
{{- end }}

{{/* The configuration as the server reads it: an object. */}}
{{- define "ft.config" -}}
{{- $dispatcher := ternary "kafka" "sqlite" (ne .Values.kafka.bootstrapServers "") -}}
{{- $default := dict -}}
{{- range list "V" "alerts" "errors" "connectivity" }}{{ $_ := set $default . (list $dispatcher) }}{{ end -}}
{{- $tls := dict "server_cert" "/etc/fleet-telemetry/tls/tls.crt" "server_key" "/etc/fleet-telemetry/tls/tls.key" -}}
{{- if .Values.tls.caSecretName }}{{ $_ := set $tls "ca_file" "/etc/fleet-telemetry/ca/ca.crt" }}{{ end -}}
{{- $config := dict
  "host" "" "port" 8443
  "status_port" 8080
  "monitoring" (dict "prometheus_metrics_host" "0.0.0.0" "prometheus_metrics_port" 9090)
  "log_level" .Values.log.level "json_log_enable" .Values.log.json
  "namespace" .Values.namespace
  "tls" $tls
  "records" (.Values.records | default $default)
  "shutdown" (dict "deadline" (printf "%vs" .Values.shutdown.deadlineSeconds) "drain" (printf "%vs" .Values.shutdown.drainSeconds))
-}}
{{- if .Values.kafka.bootstrapServers }}{{ $_ := set $config "kafka" (merge (dict "bootstrap.servers" .Values.kafka.bootstrapServers) .Values.kafka.properties) }}{{ end -}}
{{- range $section := list "mqtt" "http" "redis" "zmq" "permissions" "onboarding" }}
{{- with index $.Values $section }}{{ $_ := set $config $section . }}{{ end }}
{{- end -}}
{{- $sqlite := dict "path" "/var/lib/fleet-telemetry/telemetry.db" "max_bytes" (int64 .Values.sqlite.maxBytes) "max_age" .Values.sqlite.maxAge -}}
{{- $merged := mergeOverwrite $config (deepCopy .Values.config) -}}
{{- if include "ft.usesSqliteIn" $merged.records }}{{ $_ := set $merged "sqlite" (mergeOverwrite $sqlite ($merged.sqlite | default dict)) }}{{ end -}}
{{- $merged | toPrettyJson -}}
{{- end }}

{{/* "true" if a record type of this map goes to sqlite. */}}
{{- define "ft.usesSqliteIn" -}}
{{- $uses := false -}}
{{- range $dispatchers := . }}{{ if has "sqlite" $dispatchers }}{{ $uses = true }}{{ end }}{{ end -}}
{{- if $uses }}true{{ end -}}
{{- end }}

{{/* "true" if the pod needs a volume of its own: records, or grants, are kept in files. */}}
{{- define "ft.isStateful" -}}
{{- $config := fromJson (include "ft.config" .) -}}
{{- $store := dig "permissions" "store" dict $config -}}
{{- if or (include "ft.usesSqliteIn" $config.records) (hasKey $store "sqlite") (hasKey $store "file") (and $config.permissions (not (hasKey $config.permissions "store"))) }}true{{ end -}}
{{- end }}

{{/* What does not go together. */}}
{{- define "ft.judge" -}}
{{- if not .Values.tls.secretName }}{{ fail "tls.secretName: give the Secret of type kubernetes.io/tls with the server's certificate chain and key (or certificate.create, with tls.secretName as the Secret that cert-manager writes)" }}{{ end -}}
{{- if gt (mul 2 (int .Values.shutdown.drainSeconds)) (int .Values.shutdown.deadlineSeconds) }}{{ fail (printf "shutdown.drainSeconds: %v is more than half of shutdown.deadlineSeconds (%v); the other half is for records on their way" .Values.shutdown.drainSeconds .Values.shutdown.deadlineSeconds) }}{{ end -}}
{{- if and (include "ft.isStateful" .) (ne .Values.autoscaling.type "none") }}{{ fail "autoscaling.type: a store in files belongs to one replica; use Kafka for records and grants, or none" }}{{ end -}}
{{- if and .Values.certificate.create (not .Values.certificate.dnsNames) }}{{ fail "certificate.dnsNames: give the host name that vehicles are configured to stream to" }}{{ end -}}
{{- if and (eq .Values.autoscaling.type "keda") (not .Values.autoscaling.prometheusAddress) }}{{ fail "autoscaling.prometheusAddress: KEDA asks Prometheus for num_connections; give its address, such as http://prometheus.monitoring:9090" }}{{ end -}}
{{- $names := keys .Values.secretEnv -}}
{{- range .Values.extraEnv }}{{ $names = append $names .name }}{{ end -}}
{{- include "ft.refuseSecrets" (dict "section" (include "ft.config" . | fromJson) "path" "" "names" $names) -}}
{{- end }}

{{/* Ports besides the usual ones that others reach, by their names: an object. */}}
{{- define "ft.morePorts" -}}
{{- $config := include "ft.config" . | fromJson -}}
{{- $ports := dict -}}
{{- with ($config.permissions | default dict).api }}{{ if has (.host | default "") (list "0.0.0.0" "::") }}{{ $_ := set $ports "grants" (int .port) }}{{ end }}{{ end -}}
{{- with ($config.onboarding | default dict).public }}{{ if has (.host | default "") (list "0.0.0.0" "::") }}{{ $_ := set $ports "public-key" (int .port) }}{{ end }}{{ end -}}
{{- $ports | toJson -}}
{{- end }}

{{/*
Fails at a secret that is written out: the configuration is in a ConfigMap, which more people may read than Secrets.
Called with a section, its path, and the names of the environment's variables.
*/}}
{{- define "ft.refuseSecrets" -}}
{{- $path := .path -}}
{{- $names := .names -}}
{{- range $key, $value := .section }}
{{- $here := printf "%s%s" $path $key -}}
{{- if kindIs "map" $value }}
{{- include "ft.refuseSecrets" (dict "section" $value "path" (printf "%s." $here) "names" $names) }}
{{- else if and (kindIs "string" $value) $value (regexMatch "(^|[._])(password|secret|signing_secret|authorization|token|oauthbearer[.]config|ssl[.]key[.]pem)$" $key) }}
{{- if not (regexMatch "^[$][{][A-Za-z_][A-Za-z0-9_]*[}]$" $value) }}
{{- fail (printf "%s: a secret would be in a ConfigMap; write ${NAME}, and in secretEnv which Secret has it" $here) }}
{{- else if not (has (trimSuffix "}" (trimPrefix "${" $value)) $names) }}
{{- fail (printf "%s: neither secretEnv nor extraEnv has %s" $here $value) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "claviger.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains "claviger" .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-claviger" .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "claviger.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "claviger.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "serviceAccount.name must name the ServiceAccount when serviceAccount.create is false" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "claviger.selectorLabels" -}}
app.kubernetes.io/name: claviger
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "claviger.labels" -}}
{{ include "claviger.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "claviger.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{/* Says what is wrong before anything is applied. */}}
{{- define "claviger.validate" -}}
{{- if and .Values.tls.insecureHTTP .Values.tls.secretName -}}
{{- fail "tls.insecureHTTP serves no TLS: set tls.secretName to \"\", or insecureHTTP to false" -}}
{{- end -}}
{{- if not (or .Values.tls.insecureHTTP .Values.tls.secretName) -}}
{{- fail "tls.secretName must name a Secret of type kubernetes.io/tls, or tls.insecureHTTP must be true" -}}
{{- end -}}
{{- if and .Values.authProxy.enabled .Values.tls.insecureHTTP -}}
{{- fail "authProxy.enabled needs TLS: set tls.insecureHTTP to false, and tls.secretName" -}}
{{- end -}}
{{- if has .Release.Namespace .Values.tenantNamespaces -}}
{{- fail (printf "tenantNamespaces must not hold the release's own namespace %s: remove it" .Release.Namespace) -}}
{{- end -}}
{{- range .Values.registrationNamespaces -}}
{{- if not (has . $.Values.tenantNamespaces) -}}
{{- fail (printf "registrationNamespaces holds %s, which is not in tenantNamespaces: add it there too" .) -}}
{{- end -}}
{{- end -}}
{{- if ge (int .Values.leaderElection.graceSeconds) (int .Values.leaderElection.leaseDurationSeconds) -}}
{{- fail "leaderElection.graceSeconds must be less than leaseDurationSeconds" -}}
{{- end -}}
{{- range $owned := list "url" "signingKeys" "connectors" -}}
{{- if hasKey $.Values.issuer.spec $owned -}}
{{- fail (printf "issuer.spec.%s is made from other values: set %s instead" $owned (ternary "signingKeys" (printf "issuer.%s" $owned) (eq $owned "signingKeys"))) -}}
{{- end -}}
{{- end -}}
{{- end -}}

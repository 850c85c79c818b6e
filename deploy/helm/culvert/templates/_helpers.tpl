{{/* Labels of everything that belongs to a part: dict "part" NAME */}}
{{- define "culvert.labels" -}}
app.kubernetes.io/name: {{ .part }}
app.kubernetes.io/part-of: culvert
{{- end }}

{{/* An image: dict "root" $ "name" NAME */}}
{{- define "culvert.image" -}}
{{ .root.Values.image.registry }}/{{ .name }}:{{ .root.Values.image.tag | default .root.Chart.AppVersion }}
{{- end }}

{{/* An environment variable from a key of the ConfigMap: dict "name" NAME "key" KEY */}}
{{- define "culvert.env" -}}
- name: {{ .name }}
  valueFrom: {configMapKeyRef: {name: culvert-config, key: {{ .key }}, optional: true}}
{{- end }}

{{/* Where images may be pulled from. */}}
{{- define "culvert.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{/* A time whose form the schema has looked at, and its range: dict "name" NAME "value" TIME "least" MS "most" MS "range" WORDS */}}
{{- define "culvert.time" -}}
{{- $units := dict "ms" 1 "s" 1000 "m" 60000 "h" 3600000 "d" 86400000 }}
{{- $sum := 0 }}
{{- range regexFindAll "[0-9]+(ms|s|m|h|d)" .value -1 }}
{{- $sum = add $sum (mul (regexFind "^[0-9]+" . | int64) (get $units (regexFind "[a-z]+$" .) | int64)) }}
{{- end }}
{{- if or (lt $sum (int64 .least)) (gt $sum (int64 .most)) }}
{{- fail (printf "config.%s: `%s` is not a time %s" .name .value .range) }}
{{- end }}
{{- .value }}
{{- end }}

{{/* Bytes whose form the schema has looked at, 1 MiB or more, with a unit or as a number: dict "name" NAME "value" SIZE */}}
{{- define "culvert.size" -}}
{{- $size := kindIs "string" .value | ternary .value (int64 .value | toString) }}
{{- $units := dict "" 1 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 }}
{{- $unit := regexFind "[A-Z]i$" $size }}
{{- if lt (mul (regexFind "^[0-9]+" $size | int64) (get $units $unit | int64)) 1048576 }}
{{- fail (printf "config.%s: `%s` is not a size of 1Mi or more" .name $size) }}
{{- end }}
{{- $size }}
{{- end }}

{{/* Regular expressions of addresses, in groups. */}}
{{- define "culvert.v4" -}}
{{- $octet := "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])" -}}
({{ $octet }}[.]){3}{{ $octet }}
{{- end }}
{{- define "culvert.v6" -}}
{{- $part := "[0-9a-fA-F]{1,4}" -}}
(({{ $part }}:){7}{{ $part }}|({{ $part }}:){1,7}:|({{ $part }}:){1,6}:{{ $part }}|::([fF]{4}:)?{{ include "culvert.v4" . }}|:(:{{ $part }}){1,7}|::
{{- range $before := list 1 2 3 4 5 -}}
|({{ $part }}:){1,{{ $before }}}(:{{ $part }}){1,{{ sub 7 $before }}}
{{- end -}}
)
{{- end }}

{{/* Ranges of addresses, with commas: dict "name" NAME "value" LIST */}}
{{- define "culvert.ranges" -}}
{{- $range := printf "^(%s/(3[0-2]|[12]?[0-9])|%s/(12[0-8]|1[01][0-9]|[1-9]?[0-9]))$" (include "culvert.v4" .) (include "culvert.v6" .) }}
{{- range .value }}
{{- if not (regexMatch $range .) }}
{{- fail (printf "config.%s: `%s` is not a range such as 198.18.0.0/15" $.name .) }}
{{- end }}
{{- end }}
{{- join "," .value }}
{{- end }}

{{/* Addresses, with or without a port, with commas: dict "name" NAME "value" LIST */}}
{{- define "culvert.resolvers" -}}
{{- $port := "(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5]?[0-9]{1,4})" }}
{{- $v4 := include "culvert.v4" . }}
{{- $v6 := include "culvert.v6" . }}
{{- $resolver := printf "^(%s(:%s)?|%s|\\[%s\\]:%s)$" $v4 $port $v6 $v6 $port }}
{{- range .value }}
{{- if not (regexMatch $resolver .) }}
{{- fail (printf "config.%s: `%s` is not an address, or an address with a port" $.name .) }}
{{- end }}
{{- end }}
{{- join "," .value }}
{{- end }}

{{/* The ConfigMap's data. */}}
{{- define "culvert.config" -}}
{{- with .Values.config }}
{{- with .meshCidrs }}
mesh-cidr: {{ include "culvert.ranges" (dict "name" "meshCidrs" "value" .) | quote }}
{{- end }}
{{- with .excludeCidrs }}
exclude-cidr: {{ include "culvert.ranges" (dict "name" "excludeCidrs" "value" .) | quote }}
{{- end }}
{{- with .excludePorts }}
exclude-port: {{ join "," . | quote }}
{{- end }}
{{- with .dnsCapture }}
dns-capture: {{ . | quote }}
{{- end }}
{{- with .connectionWait }}
connection-wait: {{ include "culvert.time" (dict "name" "connectionWait" "value" . "least" 0 "most" 3600000 "range" "from 0s to 1h") | quote }}
{{- end }}
{{- with .proxyWait }}
proxy-wait: {{ include "culvert.time" (dict "name" "proxyWait" "value" . "least" 0 "most" 3600000 "range" "from 0s to 1h") | quote }}
{{- end }}
{{- with .leaveGrace }}
leave-grace: {{ include "culvert.time" (dict "name" "leaveGrace" "value" . "least" 0 "most" 3600000 "range" "from 0s to 1h") | quote }}
{{- end }}
{{- with .sameNodeIdle }}
same-node-idle: {{ include "culvert.time" (dict "name" "sameNodeIdle" "value" . "least" 0 "most" 3600000 "range" "from 0s to 1h") | quote }}
{{- end }}
{{- with .guardHook }}
guard-hook: {{ . | quote }}
{{- end }}
{{- with .localLegs }}
local-legs: {{ . | quote }}
{{- end }}
{{- if .noCni }}
no-cni: "true"
{{- end }}
{{- with .cniNetwork }}
cni-network: {{ . | quote }}
{{- end }}
{{- with (.mapSizes).pods }}
map-pods: {{ . | int64 | toString | quote }}
{{- end }}
{{- with (.mapSizes).addresses }}
map-addresses: {{ . | int64 | toString | quote }}
{{- end }}
{{- with (.mapSizes).flows }}
map-flows: {{ . | int64 | toString | quote }}
{{- end }}
{{- with (.mapSizes).flowsPerPod }}
map-flows-per-pod: {{ . | int64 | toString | quote }}
{{- end }}
{{- with (.mapSizes).exclusions }}
map-exclusions: {{ . | int64 | toString | quote }}
{{- end }}
{{- with .trustDomain }}
trust-domain: {{ . | quote }}
{{- end }}
{{- with .clusterId }}
cluster-id: {{ . | quote }}
{{- end }}
{{- with .clusterDomain }}
cluster-domain: {{ . | quote }}
{{- end }}
{{- with .rootNamespace }}
root-namespace: {{ . | quote }}
{{- end }}
{{- with .resolvers }}
resolver: {{ include "culvert.resolvers" (dict "name" "resolvers" "value" .) | quote }}
{{- end }}
{{- with .configMode }}
config-mode: {{ . | quote }}
{{- end }}
{{- with .connectTimeout }}
connect-timeout: {{ include "culvert.time" (dict "name" "connectTimeout" "value" . "least" 1 "most" 3600000 "range" "from 1ms to 1h") | quote }}
{{- end }}
{{- with .heldMemory }}
held-memory: {{ include "culvert.size" (dict "name" "heldMemory" "value" .) | quote }}
{{- end }}
{{- with .loops }}
loops: {{ . | int64 | toString | quote }}
{{- end }}
{{- with .tunnelGrace }}
tunnel-grace: {{ include "culvert.time" (dict "name" "tunnelGrace" "value" . "least" 0 "most" 3600000 "range" "from 0s to 1h") | quote }}
{{- end }}
{{- with .tunnelIdle }}
tunnel-idle: {{ include "culvert.time" (dict "name" "tunnelIdle" "value" . "least" 1 "most" 3600000 "range" "from 1ms to 1h") | quote }}
{{- end }}
{{- with .tunnelPingInterval }}
tunnel-ping-interval: {{ include "culvert.time" (dict "name" "tunnelPingInterval" "value" . "least" 1 "most" 3600000 "range" "from 1ms to 1h") | quote }}
{{- end }}
{{- with .tunnelPingTimeout }}
tunnel-ping-timeout: {{ include "culvert.time" (dict "name" "tunnelPingTimeout" "value" . "least" 1 "most" 3600000 "range" "from 1ms to 1h") | quote }}
{{- end }}
{{- with .leafTtl }}
leaf-ttl: {{ include "culvert.time" (dict "name" "leafTtl" "value" . "least" 1000 "most" 3162240000000 "range" "from 1s to 36600d") | quote }}
{{- end }}
{{- with .rotationOverlap }}
rotation-overlap: {{ include "culvert.time" (dict "name" "rotationOverlap" "value" . "least" 1000 "most" 3162240000000 "range" "from 1s to 36600d") | quote }}
{{- end }}
{{- with .jwksRefresh }}
jwks-refresh: {{ include "culvert.time" (dict "name" "jwksRefresh" "value" . "least" 1000 "most" 3162240000000 "range" "from 1s to 36600d") | quote }}
{{- end }}
{{- with .streamAge }}
stream-age: {{ include "culvert.time" (dict "name" "streamAge" "value" . "least" 1000 "most" 3162240000000 "range" "from 1s to 36600d") | quote }}
{{- end }}
{{- with .envoyImage }}
envoy-image: {{ . | quote }}
{{- end }}
{{- with .jwksCa }}
jwks-ca: {{ . | quote }}
{{- end }}
{{- with (.metrics).dropLabels }}
metric-labels-drop: {{ join "," . | quote }}
{{- end }}
{{- with (.metrics).seriesLimit }}
metric-series-limit: {{ . | int64 | toString | quote }}
{{- end }}
{{- with .log }}
log: {{ . | quote }}
{{- end }}
{{- with .logFormat }}
log-format: {{ . | quote }}
{{- end }}
{{- end }}
{{- end }}

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

{{/* The ConfigMap's data. */}}
{{- define "culvert.config" -}}
{{- with .Values.config }}
{{- with .meshCidrs }}
mesh-cidr: {{ join "," . | quote }}
{{- end }}
{{- with .excludeCidrs }}
exclude-cidr: {{ join "," . | quote }}
{{- end }}
{{- with .excludePorts }}
exclude-port: {{ join "," . | quote }}
{{- end }}
{{- with .mapSizes.pods }}
map-pods: {{ . | int64 | toString | quote }}
{{- end }}
{{- with .mapSizes.addresses }}
map-addresses: {{ . | int64 | toString | quote }}
{{- end }}
{{- with .mapSizes.flows }}
map-flows: {{ . | int64 | toString | quote }}
{{- end }}
{{- with .mapSizes.flowsPerPod }}
map-flows-per-pod: {{ . | int64 | toString | quote }}
{{- end }}
{{- with .mapSizes.exclusions }}
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
resolver: {{ join "," . | quote }}
{{- end }}
{{- with .jwksCa }}
jwks-ca: {{ . | quote }}
{{- end }}
{{- with .metrics.dropLabels }}
metric-labels-drop: {{ join "," . | quote }}
{{- end }}
{{- with .metrics.seriesLimit }}
metric-series-limit: {{ . | int64 | toString | quote }}
{{- end }}
{{- with .log }}
log: {{ . | quote }}
{{- end }}
{{- end }}
{{- end }}

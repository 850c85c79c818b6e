module culvert.dev/tests/tools/lookup

go 1.24.0

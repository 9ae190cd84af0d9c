#!/bin/sh
# Entry of the Mercure module (container/mercure.Dockerfile): predicts the study in MERCURE_IN_DIR and leaves the DICOM
# results in MERCURE_OUT_DIR. A study without an answer ends with an error, which Mercure shows.
set -eu
results=$(mktemp -d)
fvv predict "$MERCURE_IN_DIR" -o "$results" --device cpu
find "$results" -path '*/dicom/*.dcm' | while read -r file; do
  cp "$file" "$MERCURE_OUT_DIR/fvv_$(basename "$(dirname "$(dirname "$file")")")_$(basename "$file")"
done
